"""The expression classifiers of people/emotion: how each is built, what it takes and what its outputs mean.

All were trained on FER2013, grey faces of 48 x 48 pixels with a small margin, so a network gets a square whose side is
1.3 times the longer side of the face's box, black outside the image.
"""

from functools import partial
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vision.engines import BuildEngine, Engine, exact_engine
from vision.errors import ModelNotLoaded
from vision.faces.face import Face, Square
from vision.images import Pixels
from vision.preprocess import Preprocess
from vision.weights import Weights
from vision.weights.checkpoint import classifier_module, read_json

Array = NDArray[np.float32]

EXPRESSIONS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
MARGIN: Final = 1.3
ACCURACY: Final = {"vit-face-expression": "71.2 % of FER2013's test set (its model card)"}


class Classifier(Protocol):
    """A loaded expression classifier; ``engine.streams`` threads may call it at the same time."""

    engine: Engine
    accuracy: str

    def prepare(self, image: Pixels, face: Face) -> Array:
        """Return float32[C, h, w], the input of the network for a face."""
        ...

    def __call__(self, faces: Array) -> Array:
        """Return logits float32[n, 7] in the order of ``EXPRESSIONS`` for inputs float32[n, C, h, w]."""
        ...


class MiniXceptionClassifier:
    """mini-XCEPTION, in fp32: by OpenVINO on the CPU, in a third of the time that torch takes for so small a network.

    A face is resized to 48 pixels first, to be as blurred as those of training, and classified five times, centred and
    shifted by two pixels to each side: when a box is off by 3 %, the label of a single view changes for 12 % of the
    faces, that of the mean of five for 6 %.
    """

    trained_side: Final = 48
    shift: Final = 2
    accuracy = (
        "66 % of FER2013's test set; 68.5 % of 927 images of CK+ (happy 100, surprise 95, angry 49, disgust 38 %). "
        "A faint smile counts as happy: of 14 calm faces it calls half neutral"
    )

    def __init__(self, weights: Weights, build: BuildEngine) -> None:
        """Raises ModelNotLoaded when the engine's outputs differ from torch on the CPU."""
        from vision.networks.mini_xception import LABELS, SIDE, WEIGHT_FILE, load

        self._side = SIDE
        self._order = [LABELS.index(name) for name in EXPRESSIONS]
        self.engine: Engine = build(
            partial(load, weights.files[WEIGHT_FILE]),
            version=weights.version,
            input_size=(1, SIDE, SIDE),
            engine=exact_engine(),
        )

    def prepare(self, image: Pixels, face: Face) -> Array:
        """Return float32[5, 64, 64], the views of a face, grey, -1 to 1."""
        import cv2

        side, shift = self.trained_side, self.shift
        wide = side + 2 * shift
        cut = cv2.cvtColor(_square(face, MARGIN * wide / side).cut(image, wide), cv2.COLOR_RGB2GRAY)
        corners = ((shift, shift), (0, shift), (2 * shift, shift), (shift, 0), (shift, 2 * shift))
        views = np.stack(
            [
                cv2.resize(cut[y : y + side, x : x + side], (self._side, self._side), interpolation=cv2.INTER_LINEAR)
                for y, x in corners
            ]
        )
        scaled: Array = ((views / 255 - 0.5) * 2).astype(np.float32)
        return scaled

    def __call__(self, faces: Array) -> Array:
        count, views = faces.shape[:2]
        logits = self.engine(faces.reshape(count * views, 1, *faces.shape[2:]))[:, self._order]
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        mean: Array = np.log(probabilities.reshape(count, views, -1).mean(1))
        return mean


class TransformersClassifier:
    """An image classifier of transformers whose labels are the seven expressions, in any order."""

    def __init__(self, weights: Weights, build: BuildEngine) -> None:
        """Raises ModelNotLoaded when the labels differ, or when the engine's outputs differ from torch fp32."""
        self.accuracy = ACCURACY.get(weights.name, "as its model card says")
        self._order = _order(weights)
        self._preprocess = Preprocess.from_config(read_json(weights, "preprocessor_config.json"))
        self.engine: Engine = build(
            partial(classifier_module, weights), version=weights.version, input_size=self._preprocess.size
        )

    def prepare(self, image: Pixels, face: Face) -> Array:
        return self._preprocess(_square(face, MARGIN).cut(image, max(self._preprocess.size)))

    def __call__(self, faces: Array) -> Array:
        return self.engine(faces)[:, self._order]


def load_classifier(weights: Weights, build: BuildEngine) -> Classifier:
    """Return the classifier for a model of models.yaml."""
    if weights.name == "mini-xception-fer2013":
        return MiniXceptionClassifier(weights, build)
    return TransformersClassifier(weights, build)


def _square(face: Face, scale: float) -> Square:
    return Square.around(face.x, face.y, face.width, face.height, scale)


def _order(weights: Weights) -> list[int]:
    """Return the index of each expression among the outputs, by the labels in ``config.json``."""
    labels = read_json(weights, "config.json").get("id2label", {})
    places = {str(label).lower(): int(index) for index, label in labels.items()}
    if set(places) != set(EXPRESSIONS):
        raise ModelNotLoaded(f"{weights.name} has the labels {', '.join(places)} instead of {', '.join(EXPRESSIONS)}.")
    return [places[name] for name in EXPRESSIONS]
