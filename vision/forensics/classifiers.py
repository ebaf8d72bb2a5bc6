"""The image classifiers of forensics/visual, and the labels real and fake that they share with those of voices.

A classifier gets a face turned upright by its landmarks, ``MARGIN`` times as wide as the crop of recognition: from
above the brows to below the chin, with the ears and the blending border.
"""

from functools import partial
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vision.engines import BuildEngine, Engine
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
REAL: Final = ("real", "realism", "authentic", "human", "hum", "natural", "genuine", "bonafide", "bona")
SURE: Final = 1e-6
"""Probabilities are clipped to so far from 0 and 1."""


class Classifier(Protocol):
    """A loaded network; ``engine.streams`` threads may call it at the same time."""

    engine: Engine
    whole_pictures: bool
    """Whether it can judge an image without a face."""
    calibration: Calibration | None
    """None when the network's own probability is used."""
    worth: str
    """How reliable it is, for model-info."""
    size: int

    def can_judge(self, face: Face, crop: Pixels) -> bool:
        """Return whether it can judge a face, by its landmarks in the image and its upright crop."""
        ...

    def prepare(self, image: Pixels) -> Array:
        """Return the input float32[C, h, w] for a crop uint8 (size, size, 3) or a whole image."""
        ...

    def __call__(self, inputs: Array) -> Array:
        """Return the log-odds float32[n] of being fake for inputs float32[n, C, h, w]."""
        ...


class MesoNet:
    """MesoInception-4 trained on Deepfakes, in torch fp32 on GPU or CPU: it is too small for another engine to pay off.

    It mistakes blur for a swap: a genuine face goes from -12 to +8 in log-odds as it is blurred more and more, and of
    25 small, blurred faces of genuine footage 24 count as swapped. So it judges no face with less than 30 pixels
    between the eyes, or with a variance of the Laplacian below 35 in the middle of its crop; the swaps of its own set
    have 44 and 48, sharp photographs 80 and more.
    """

    whole_pictures = False
    calibration: Calibration | None = MESONET
    worth = (
        "Detects the face swaps of 2018 that it was trained on (its paper: 0.917 of the images of its own set). Of our "
        "samples it detects both swaps of that set and is unsure of one of FaceForensics++; it detects none of 9 faces "
        "retouched by hand nor a NeuralTextures one, and it was not trained on generated faces. A low probability "
        "means little, and a high one may be due to blur."
    )

    least_eyes: Final = 30.0
    least_detail: Final = 35.0

    def __init__(self, weights: Weights, build: BuildEngine) -> None:
        """Raises ModelNotLoaded when the engine's outputs differ from torch on the CPU."""
        from vision.networks.mesonet import SIDE, WEIGHT_FILE, load

        self.size = SIDE
        self.engine: Engine = build(
            partial(load, weights.files[WEIGHT_FILE]),
            version=weights.version,
            input_size=(SIDE, SIDE),
            engine="torch-fp32",
        )

    def can_judge(self, face: Face, crop: Pixels) -> bool:
        right, left = np.asarray(face.landmarks[:2])
        if np.hypot(*(right - left)) < self.least_eyes:
            return False
        # Without the background, and without the black outside the image.
        quarter = self.size // 4
        middle = np.ascontiguousarray(crop[quarter:-quarter, quarter:-quarter])
        return laplacian_variance(middle) >= self.least_detail

    def prepare(self, image: Pixels) -> Array:
        scaled: Array = (image.transpose(2, 0, 1) / 255).astype(np.float32)
        return scaled

    def __call__(self, inputs: Array) -> Array:
        return -self.engine(inputs)


class TransformersClassifier:
    """An image classifier of transformers whose labels mean real and fake."""

    whole_pictures = True
    calibration: Calibration | None = None
    worth = "as its model card says; its own probability is used, without calibration"

    def __init__(self, weights: Weights, build: BuildEngine) -> None:
        """Raises ModelNotLoaded when the labels are not real and fake, or the engine's outputs differ from torch."""
        self._fake = fake_outputs(weights)
        self._preprocess = Preprocess.from_config(read_json(weights, "preprocessor_config.json"))
        self.size = max(self._preprocess.size)
        self.engine: Engine = build(
            partial(classifier_module, weights), version=weights.version, input_size=self._preprocess.size
        )

    def can_judge(self, face: Face, crop: Pixels) -> bool:
        return True

    def prepare(self, image: Pixels) -> Array:
        return self._preprocess(image)

    def __call__(self, inputs: Array) -> Array:
        return fake_log_odds(self.engine(inputs), self._fake)


def load_classifier(weights: Weights, build: BuildEngine) -> Classifier:
    """Return the classifier for a model of models.yaml."""
    if weights.name == "mesonet-deepfakes":
        return MesoNet(weights, build)
    return TransformersClassifier(weights, build)


def upright(image: Pixels, face: Face, size: int) -> Pixels:
    """Return a face turned upright, uint8 (size, size, 3); black outside the image.

    Raises InvalidInput when the landmarks lie on one point.
    """
    import cv2

    transform = similarity_transform(face.landmarks)
    centre, zoom = np.mean(TEMPLATE, axis=0), size / SIZE / MARGIN
    linear = zoom * transform[:, :2]
    shift = zoom * (transform[:, 2] - centre) + size / 2
    whole = np.column_stack([linear, shift])
    per_pixel = 1 / scale_of(whole)
    if per_pixel > SAMPLES:
        # Shrink to twice the resolution of the crop: sampling the full image would alias.
        factor = SAMPLES / per_pixel
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        whole[:, :2] /= factor
    cut: Pixels = cv2.warpAffine(image, whole, (size, size), flags=cv2.INTER_LINEAR)
    return cut


def fake_outputs(weights: Weights) -> list[int]:
    """Return the indices of the outputs that mean fake, by the labels in ``config.json``.

    Raises ModelNotLoaded when a label means neither real nor fake, or when one of the two is missing.
    """
    config = read_json(weights, "config.json")
    labels = {int(index): str(label).lower() for index, label in config.get("id2label", {}).items()}
    words = {index: label.replace("-", " ").replace("_", " ").split() for index, label in labels.items()}
    fake = [index for index, parts in words.items() if any(part in FAKE for part in parts)]
    real = [index for index, parts in words.items() if any(part in REAL for part in parts) and index not in fake]
    if not fake or not real or len(fake) + len(real) != len(labels):
        names = ", ".join(labels.values()) or "no names"
        raise ModelNotLoaded(f"The labels of {weights.name} are {names}; they have to mean real and fake.")
    return fake


def fake_log_odds(outputs: Array, fake: list[int]) -> Array:
    """Return the log-odds float32[n] of any of the fake labels for logits float32[n, labels]."""
    logits = outputs.astype(np.float64)
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    total = np.clip(probabilities[:, fake].sum(1), SURE, 1 - SURE)
    odds: Array = np.log(total / (1 - total)).astype(np.float32)
    return odds
