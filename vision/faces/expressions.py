"""The networks that people/emotion can serve: how each is built, fed and read.

All were trained on FER2013, 48 x 48 grey faces with a little around them, so a network gets a square 1.3 times as long
as the longer side of the face's box, black where it leaves the picture.
"""

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vision.engines import BuildEngine, Engine, TorchEngine
from vision.errors import ModelNotLoaded
from vision.faces.face import Face, Pixels, Square
from vision.preprocess import Preprocess
from vision.weights import Weights
from vision.weights.checkpoint import classifier_module, read_json

Array = NDArray[np.float32]

EXPRESSIONS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
MARGIN: Final = 1.3


class Classifier(Protocol):
    """A loaded network of expressions; ``engine.streams`` threads may call it at the same time."""

    engine: Engine
    accuracy: str

    def prepare(self, image: Pixels, face: Face) -> Array:
        """float32[C, h, w]: a face as the network takes it."""
        ...

    def __call__(self, faces: Array) -> Array:
        """float32[n, C, h, w] → logits float32[n, 7] in the order of ``EXPRESSIONS``."""
        ...


class MiniXceptionClassifier:
    """mini-XCEPTION, by torch in fp32 on the CPU: it is too small for another engine to pay.

    A face goes by way of 48 pixels, to be as blurred as those it was trained on, and is read five times, in the middle
    and moved by two pixels to each side: one reading changes its mind for 12 % of the faces when a box is off by 3 %,
    the mean of five for 6 %.
    """

    trained_side: Final = 48
    shift: Final = 2
    accuracy = (
        "66 % of FER2013's test set; 68.5 % of 927 images of CK+ (happy 100, surprise 95, angry 49, disgust 38 %). "
        "A faint smile counts as happy: of 14 calm faces it calls half neutral"
    )

    def __init__(self, weights: Weights) -> None:
        from vision.networks.mini_xception import LABELS, SIDE, WEIGHT_FILE, load

        self._side = SIDE
        self._order = [LABELS.index(name) for name in EXPRESSIONS]
        self.engine: Engine = TorchEngine(load(weights.files[WEIGHT_FILE]), "torch-fp32", "cpu", None)

    def prepare(self, image: Pixels, face: Face) -> Array:
        """float32[5, 64, 64]: the readings of a face, grey, -1 to 1."""
        import cv2

        side, shift = self.trained_side, self.shift
        wide = side + 2 * shift
        cut = cv2.cvtColor(_square(face, MARGIN * wide / side).cut(image, wide), cv2.COLOR_RGB2GRAY)
        corners = ((shift, shift), (0, shift), (2 * shift, shift), (shift, 0), (shift, 2 * shift))
        readings = np.stack(
            [
                cv2.resize(cut[y : y + side, x : x + side], (self._side, self._side), interpolation=cv2.INTER_LINEAR)
                for y, x in corners
            ]
        )
        scaled: Array = ((readings / 255 - 0.5) * 2).astype(np.float32)
        return scaled

    def __call__(self, faces: Array) -> Array:
        count, readings = faces.shape[:2]
        logits = self.engine(faces.reshape(count * readings, 1, *faces.shape[2:]))[:, self._order]
        chances = np.exp(logits - logits.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
        mean: Array = np.log(chances.reshape(count, readings, -1).mean(1))
        return mean


class TransformersClassifier:
    """An image classifier of transformers whose labels are the seven expressions, in any order."""

    accuracy = "71.2 % of FER2013's test set (its model card)"

    def __init__(self, weights: Weights, build: BuildEngine) -> None:
        """Raises ModelNotLoaded when the labels are others, or the engine's numbers differ from torch fp32."""
        self._order = _order(weights)
        self._preprocess = Preprocess.from_config(read_json(weights, "preprocessor_config.json"))
        self.engine: Engine = build(
            lambda: classifier_module(weights), version=weights.version, input_size=self._preprocess.size
        )

    def prepare(self, image: Pixels, face: Face) -> Array:
        return self._preprocess(_square(face, MARGIN).cut(image, max(self._preprocess.size)))

    def __call__(self, faces: Array) -> Array:
        return self.engine(faces)[:, self._order]


def load_classifier(weights: Weights, build: BuildEngine) -> Classifier:
    """The classifier for a model of models.yaml."""
    if weights.name == "mini-xception-fer2013":
        return MiniXceptionClassifier(weights)
    return TransformersClassifier(weights, build)


def _square(face: Face, scale: float) -> Square:
    return Square.around(face.x, face.y, face.width, face.height, scale)


def _order(weights: Weights) -> list[int]:
    """Where each expression is among the outputs, by the labels in ``config.json``."""
    labels = read_json(weights, "config.json").get("id2label", {})
    places = {str(label).lower(): int(index) for index, label in labels.items()}
    if set(places) != set(EXPRESSIONS):
        raise ModelNotLoaded(f"{weights.name} tells {', '.join(places)} apart, not {', '.join(EXPRESSIONS)}.")
    return [places[name] for name in EXPRESSIONS]
