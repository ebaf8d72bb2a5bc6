"""The networks that forensics/visual serves, and the reading of labels that they share with those of forensics/voice.

A network gets a face turned upright by its landmarks, with ``MARGIN`` times the surroundings of the crop that
recognition uses: from above the brows to below the chin, with the ears and the blending border.
"""

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vision.engines import BuildEngine, Engine, TorchEngine
from vision.errors import ModelNotLoaded
from vision.faces.face import SAMPLES, SIZE, TEMPLATE, Face, scale_of, similarity_transform
from vision.forensics.calibration import MESONET, Calibration
from vision.images import Pixels
from vision.preprocess import Preprocess
from vision.quality.blur import laplacian_variance
from vision.weights import Weights
from vision.weights.checkpoint import classifier_module, read_json

Array = NDArray[np.float32]

MARGIN: Final = 1.5
FAKE: Final = ("fake", "deepfake", "ai", "artificial", "synthetic", "manipulated", "spoof", "spoofed", "generated")
REAL: Final = ("real", "realism", "authentic", "human", "natural", "genuine", "bonafide", "bona")
SURE: Final = 1e-6
"""A probability of a classifier is kept so far from 0 and 1."""


class Classifier(Protocol):
    """A loaded network; ``engine.streams`` threads may call it at the same time."""

    engine: Engine
    whole_pictures: bool
    """Whether it says anything of a picture without a face."""
    calibration: Calibration | None
    """None where the network's own probability is used."""
    worth: str
    """How far it can be believed."""
    size: int

    def sees(self, face: Face, cut: Pixels) -> bool:
        """Whether it can judge this face, by its landmarks in the picture and its upright crop."""
        ...

    def prepare(self, image: Pixels) -> Array:
        """A square uint8 (size, size, 3), or a whole picture, as the network takes it: float32[C, h, w]."""
        ...

    def __call__(self, inputs: Array) -> Array:
        """float32[n, C, h, w] → float32[n]: log-odds of being fake."""
        ...


class MesoNet:
    """MesoInception-4 trained on Deepfakes, by torch in fp32 on the CPU: it is too small for another engine to pay.

    It takes blur for a swap: a genuine face that is blurred more and more goes from -12 to +8 in log-odds, and of 25
    small and blurred faces of genuine footage it takes 24 for swapped. So it judges none with less than 30 pixels
    between the eyes, or with a Laplacian of the middle of its crop that varies by less than 35; the swaps of its own
    set have 44 and 48, sharp photographs 80 and more.
    """

    whole_pictures = False
    calibration: Calibration | None = MESONET
    worth = (
        "Finds the face swaps of 2018 that it was trained on (its paper: 0.917 of the pictures of its own set). Of our "
        "samples it finds both swaps of that set and is unsure of one of FaceForensics++; it sees none of 9 faces "
        "retouched by hand nor a NeuralTextures one, and of faces made whole it was never taught. A low probability "
        "says little, and a high one may be blur."
    )

    least_eyes: Final = 30.0
    least_detail: Final = 35.0

    def __init__(self, weights: Weights) -> None:
        from vision.networks.mesonet import SIDE, WEIGHT_FILE, load

        self.size = SIDE
        self.engine: Engine = TorchEngine(load(weights.files[WEIGHT_FILE]), "torch-fp32", "cpu", None)

    def sees(self, face: Face, cut: Pixels) -> bool:
        right, left = np.asarray(face.landmarks[:2])
        if np.hypot(*(right - left)) < self.least_eyes:
            return False
        # Without the background, and without the black outside of the picture.
        quarter = self.size // 4
        middle = np.ascontiguousarray(cut[quarter:-quarter, quarter:-quarter])
        return laplacian_variance(middle) >= self.least_detail

    def prepare(self, image: Pixels) -> Array:
        scaled: Array = (image.transpose(2, 0, 1) / 255).astype(np.float32)
        return scaled

    def __call__(self, inputs: Array) -> Array:
        return -self.engine(inputs)


class TransformersClassifier:
    """An image classifier of transformers that tells real from fake, under whatever labels."""

    whole_pictures = True
    calibration: Calibration | None = None
    worth = "as its model card says; its own probability is used, which nothing here was fitted to"

    def __init__(self, weights: Weights, build: BuildEngine) -> None:
        """Raises ModelNotLoaded when the labels do not tell real from fake, or the engine's numbers differ."""
        self._fake = fake_outputs(weights)
        self._preprocess = Preprocess.from_config(read_json(weights, "preprocessor_config.json"))
        self.size = max(self._preprocess.size)
        self.engine: Engine = build(
            lambda: classifier_module(weights), version=weights.version, input_size=self._preprocess.size
        )

    def sees(self, face: Face, cut: Pixels) -> bool:
        return True

    def prepare(self, image: Pixels) -> Array:
        return self._preprocess(image)

    def __call__(self, inputs: Array) -> Array:
        return fake_log_odds(self.engine(inputs), self._fake)


def load_classifier(weights: Weights, build: BuildEngine) -> Classifier:
    """The classifier for a model of models.yaml."""
    if weights.name == "mesonet-deepfakes":
        return MesoNet(weights)
    return TransformersClassifier(weights, build)


def upright(image: Pixels, face: Face, size: int) -> Pixels:
    """A face turned upright, uint8 (size, size, 3); black outside the picture. Raises InvalidInput as ``alignment``."""
    import cv2

    transform = similarity_transform(face.landmarks)
    centre, zoom = np.mean(TEMPLATE, axis=0), size / SIZE / MARGIN
    linear = zoom * transform[:, :2]
    shift = zoom * (transform[:, 2] - centre) + size / 2
    whole = np.column_stack([linear, shift])
    per_pixel = 1 / scale_of(whole)
    if per_pixel > SAMPLES:
        # As many pixels as the crop needs twice over; fewer would be sampled from far apart, and alias.
        factor = SAMPLES / per_pixel
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        whole[:, :2] /= factor
    cut: Pixels = cv2.warpAffine(image, whole, (size, size), flags=cv2.INTER_LINEAR)
    return cut


def fake_outputs(weights: Weights) -> list[int]:
    """Which outputs mean fake, by the labels in ``config.json``.

    Raises ModelNotLoaded where there is a label that means neither, or none of one kind.
    """
    config = read_json(weights, "config.json")
    labels = {int(index): str(label).lower() for index, label in config.get("id2label", {}).items()}
    words = {index: label.replace("-", " ").replace("_", " ").split() for index, label in labels.items()}
    fake = [index for index, parts in words.items() if any(part in FAKE for part in parts)]
    real = [index for index, parts in words.items() if any(part in REAL for part in parts) and index not in fake]
    if not fake or not real or len(fake) + len(real) != len(labels):
        told = ", ".join(labels.values()) or "nothing by name"
        raise ModelNotLoaded(f"{weights.name} tells {told} apart, not real from fake.")
    return fake


def fake_log_odds(outputs: Array, fake: list[int]) -> Array:
    """Logits, float32[n, labels] → log-odds of any of the fake ones, float32[n]."""
    logits = outputs.astype(np.float64)
    chances = np.exp(logits - logits.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    together = np.clip(chances[:, fake].sum(1), SURE, 1 - SURE)
    odds: Array = np.log(together / (1 - together)).astype(np.float32)
    return odds
