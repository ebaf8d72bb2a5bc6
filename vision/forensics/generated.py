"""The image classifiers of forensics/generated: whether a whole picture came out of a generator."""

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.engines import BuildEngine, Engine
from vision.errors import InvalidInput, ModelNotLoaded
from vision.forensics.classifiers import REAL, fake_log_odds, fake_outputs
from vision.images import Pixels
from vision.preprocess import Preprocess
from vision.weights import Weights
from vision.weights.checkpoint import classifier_module, read_json

Array = NDArray[np.float32]

COMMUNITY_FORENSICS: Final = "community-forensics-384"
SHORTER_SIDE: Final = 440
CROP: Final = 384
SMALLEST_SIDE: Final = 64
CLIP_MEAN: Final = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD: Final = [0.26862954, 0.26130258, 0.27577711]
SURE: Final = 13.8
"""Log-odds are clipped to so far from 0, as those of a softmax are."""
WORTH: Final = {
    COMMUNITY_FORENSICS: "Trained on 2.7 million pictures of 4,803 generators (CVPR 2025). Published elsewhere: few "
    "false alarms; how many generated pictures it finds depends on the generator, and recompression hides them. It was "
    "not measured here, it does not notice swapped or retouched faces, and a low probability means little."
}
OTHER_WORTH: Final = "as its model card says; its own probability is used, without calibration"


class GeneratedClassifier:
    """An image classifier of transformers that tells generated pictures from others.

    With one output, that is the log-odds of a generated picture; with several, their labels mean real and fake.
    """

    def __init__(self, weights: Weights, build: BuildEngine) -> None:
        """Raises ModelNotLoaded when the labels are not real and fake, when the preprocessing is not supported, or when
        the engine's outputs differ from torch."""
        self.version = weights.version
        self.worth = WORTH.get(weights.name, OTHER_WORTH)
        self._fake = _fake_outputs(weights)
        self._preprocess = _preprocess(weights)
        self.engine: Engine = build(
            partial(classifier_module, weights), version=weights.version, input_size=self._preprocess.size
        )

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width) of an input in pixels."""
        return self._preprocess.size

    def prepare(self, image: Pixels) -> Array:
        """Return the input float32 (3, h, w) for a picture, uint8 (H, W, 3) RGB.

        Raises InvalidInput for a picture that is too small, and for a strip.
        """
        if min(image.shape[:2]) < SMALLEST_SIDE:
            raise InvalidInput(f"A picture of less than {SMALLEST_SIDE} pixels a side is too small to be judged.")
        return self._preprocess(image)

    def __call__(self, inputs: Array) -> Array:
        """Return the log-odds float32[n] of being generated for inputs float32[n, 3, h, w]."""
        outputs = self.engine(inputs)
        if self._fake is None:
            return np.clip(outputs[:, 0], -SURE, SURE)
        return fake_log_odds(outputs, self._fake)


def _fake_outputs(weights: Weights) -> list[int] | None:
    """Return the outputs that mean fake, or None where there is one output, for generated pictures."""
    config = read_json(weights, "config.json")
    labels = list(config.get("id2label", {}).values())
    if config.get("num_labels", len(labels)) != 1:
        return fake_outputs(weights)
    if labels and str(labels[0]).lower() in REAL:
        raise ModelNotLoaded(
            f"The only output of {weights.name} means {labels[0]}; it has to mean a generated picture."
        )
    return None


def _preprocess(weights: Weights) -> Preprocess:
    """Return the preprocessing of a checkpoint; that of Community Forensics is fixed, but for its resize filter."""
    config = read_json(weights, "preprocessor_config.json")
    if weights.name == COMMUNITY_FORENSICS:
        config = {"image_processor_type": "ViTImageProcessor", "resample": config.get("resample")} | {
            "size": {"shortest_edge": SHORTER_SIDE},
            "do_center_crop": True,
            "crop_size": {"height": CROP, "width": CROP},
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
        }
    try:
        preprocess = Preprocess.from_config(config)
        preprocess.size  # noqa: B018 - raises where the inputs would have no fixed size
    except (KeyError, TypeError, ValueError) as error:
        raise ModelNotLoaded(f"The preprocessing of {weights.name} cannot be used here: {error}.") from error
    return preprocess
