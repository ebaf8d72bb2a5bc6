"""people/identity: one 128-d unit vector per face, similar for the same person.

SFace 2021dec, a MobileFaceNet trained with the sigmoid-constrained hypersphere loss (Zhong et al. 2021,
https://doi.org/10.1109/TIP.2020.3048632), on crops aligned by five landmarks. Vectors are float32[128] of length 1 and
are compared by their cosine, -1 to 1, higher is more alike; ``vision.faces.calibration`` turns it into the percentage
that clients read. The vector of a blurred face is shorter, down to 0.75: blurred faces look alike, so their products
count for less. The mirror image of a face has a different vector (a cosine of about 0.96 to the face's own), and so
have a child and the adult it became.

``quality``, 0 to 1, higher is better, says how suitable the picture is for recognition. It is the geometric mean of
three parts, each 0 to 1:

- size: pixels of the picture for one of the crop, 1 where the crop need not be enlarged,
- sharpness: v / (v + 150), v the variance of the crop's Laplacian (Pech-Pacheco et al. 2000); 0.5 at 150,
- frontalness: 1 / (1 + (d / 6)²), d the distance of the aligned landmarks from the template, root mean square, in
  pixels of the crop: 2 to 4 for faces seen from the front, 0.5 at 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.engine_stage import TorchConfig, model_chain
from deployments.serving.stage import SharedImage, Stage, StageRef
from vision.errors import ModelNotLoaded, StageError
from vision.faces.calibration import trust
from vision.faces.face import SIZE, Face, align, misfit, scale_of, sharpness, similarity_transform
from vision.faces.sface import EngineName, SFace
from vision.images import Pixels
from vision.quality.blur import laplacian_variance
from vision.weights import Weights, resolve_first

CHAIN: Final = ("sface-2021dec-int8bq", "sface-2021dec")
HALF_SHARP: Final = 150.0
HALF_FRONTAL: Final = 6.0


@dataclass(frozen=True, slots=True, eq=False)
class FaceVector:
    """``vector``: float32[128] of length 1, or less for a blurred face; ``quality``: 0 to 1, how suitable the picture
    is for recognition; ``strength``: of the response of the network, about 13 for a clear photograph of a face."""

    vector: NDArray[np.float32]
    quality: float
    strength: float = 13.0

    def towards(self, other: "FaceVector", share: float) -> "FaceVector":
        """Return that of the same face a share of the way, 0 to 1, from this picture of it to another."""
        mixed = (1 - share) * self.vector + share * other.vector
        length = (1 - share) * np.linalg.norm(self.vector) + share * np.linalg.norm(other.vector)
        quality = (1 - share) * self.quality + share * other.quality
        strength = (1 - share) * self.strength + share * other.strength
        return FaceVector((length * mixed / np.linalg.norm(mixed)).astype(np.float32), float(quality), float(strength))


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """The aligned faces of one picture: uint8 (n, 112, 112, 3), their qualities, and the lengths of their vectors."""

    pixels: Pixels
    qualities: tuple[float, ...]
    lengths: tuple[float, ...]


class Config(TorchConfig):
    """``user_config`` of people/identity; all but batching is read at load."""

    max_batch_size: int = Field(default=8, ge=1, description="pictures in one predict_batch call")
    models: list[str] = model_chain(CHAIN)
    engine: EngineName = Field(
        default="auto", description="auto is torch-fp32 on a GPU, else OpenVINO, in bf16 where the processor has it"
    )


IDENTITY: Final = StageRef[tuple[SharedImage, tuple[Face, ...]], tuple[FaceVector, ...]]("people/identity")


class FaceRecognizer(Stage[Config, tuple[Pixels, tuple[Face, ...]], Crops, tuple[FaceVector, ...]]):
    """(Image, its faces) → one FaceVector for each face, in order; none for a picture without faces."""

    key = IDENTITY.key
    config_class = Config
    libraries = ("cv2",)
    prepare_threads = 2

    _weights: Weights
    _network: SFace

    def load(self) -> None:
        """Raises ModelNotLoaded with the reason of every model of the chain when none is available."""
        super().load()
        self._weights = resolve_first(self.config.models)
        (path,) = self._weights.files.values()
        try:
            self._network = SFace(path, self.config.engine, self.config.cuda_memory_fraction)
        except ValueError as error:
            raise ModelNotLoaded(f"{self._weights.name}: {error}") from error
        if self._network.engine.startswith("torch"):
            import torch

            torch.set_num_threads(self.config.torch_threads)

    def warm_up(self) -> None:
        self._network(np.zeros((1, SIZE, SIZE, 3), np.uint8))

    def batches_at_once(self) -> int:
        return self._network.streams

    def prepare(self, item: tuple[Pixels, tuple[Face, ...]]) -> Crops:
        """Return the crops of a picture's faces. Raises InvalidInput when the landmarks of one coincide."""
        image, faces = item
        pixels = np.empty((len(faces), SIZE, SIZE, 3), np.uint8)
        qualities, lengths = [], []
        for crop, face in zip(pixels, faces, strict=True):
            transform = similarity_transform(face.landmarks)
            crop[:] = align(image, transform)
            qualities.append(_quality(scale_of(transform), laplacian_variance(crop), misfit(face.landmarks, transform)))
            lengths.append(trust(sharpness(crop)))
        return Crops(pixels, tuple(qualities), tuple(lengths))

    def predict_batch(self, items: list[Crops]) -> Sequence[tuple[FaceVector, ...] | StageError]:
        vectors, strengths = map(iter, self._network.with_strengths(np.concatenate([item.pixels for item in items])))
        return [
            tuple(
                FaceVector(next(vectors) * np.float32(length), quality, float(next(strengths)))
                for quality, length in zip(item.qualities, item.lengths, strict=True)
            )
            for item in items
        ]

    def info(self) -> dict[str, Any]:
        return {
            "method": "SFace on crops aligned by five landmarks",
            **self._weights.info(),
            "engine": self._network.engine,
            "device": self._network.device,
            "dimensions": 128,
            "score": "cosine of the vectors, -1 to 1, higher is more alike; OpenCV publishes 0.363 as the threshold",
            "length": "of a vector 1, down to 0.75 for blurred faces, whose products with others count for less",
            "quality": "0 to 1, higher is better: geometric mean of size, sharpness and frontalness",
            "accuracy": "LFW accuracy by OpenCV: 0.9942, in fp32 0.9940",
            "max_batch_size": self.config.max_batch_size,
        }


def _quality(scale: float, laplacian: float, distance: float) -> float:
    size = min(1.0, 1 / scale)
    sharpness = laplacian / (laplacian + HALF_SHARP)
    frontalness = 1 / (1 + (distance / HALF_FRONTAL) ** 2)
    return float((size * sharpness * frontalness) ** (1 / 3))
