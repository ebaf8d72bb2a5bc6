"""The networks that forensics/voice can serve: how each is fed and read.

A network gets windows of ``SAMPLES`` samples at ``RATE`` hertz; a shorter sound is repeated until it is so long.
"""

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vision.engines import BuildEngine, Engine
from vision.errors import ModelNotLoaded
from vision.forensics.calibration import AASIST, Calibration
from vision.forensics.classifiers import fake_log_odds, fake_outputs
from vision.weights import Weights
from vision.weights.checkpoint import load_checkpoint, output_module, read_json

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float32]

RATE: Final = 16_000
SAMPLES: Final = 64_600
"""Of one window, 4.04 seconds, as AASIST was trained."""
EXTRACTOR: Final = "Wav2Vec2FeatureExtractor"
EPSILON: Final = 1e-7
"""What transformers adds to the variance of a sound before it divides by its root."""


class VoiceNetwork(Protocol):
    """A loaded network; ``engine.streams`` threads may call it at the same time."""

    engine: Engine
    method: str
    calibration: Calibration | None
    """None where the network's own probability is used."""
    worth: str
    """How far it can be believed."""

    def prepare(self, window: Array) -> Array:
        """A whole window, -1 to 1, as the network takes it: float32[SAMPLES]."""
        ...

    def __call__(self, inputs: Array) -> Array:
        """float32[n, SAMPLES] → float32[n]: ``score`` of Voice, higher is more likely recorded."""
        ...


class Aasist:
    """AASIST: its score is its second output, as its authors publish it."""

    method = "AASIST on windows of 4.04 s"
    calibration: Calibration | None = AASIST
    worth = (
        "EER 0.83 % on ASVspoof 2019 LA by its paper; AUC 0.95 on 20 clips like those; of LJSpeech it "
        "takes all 4 recordings for made ones, and of 15 commercial synthetic voices of 2023 it misses up to 6"
    )

    def __init__(self, weights: Weights, build: BuildEngine) -> None:
        """Raises ModelNotLoaded when the engine's numbers differ from those of torch."""
        from vision.networks.aasist import WEIGHT_FILE, load

        path = weights.files[WEIGHT_FILE]
        self.engine: Engine = build(lambda: load(path), version=weights.version, input_size=(SAMPLES,))

    def prepare(self, window: Array) -> Array:
        return window

    def __call__(self, inputs: Array) -> Array:
        scores: Array = self.engine(inputs)[:, 1]
        return scores


class TransformersVoice:
    """An audio classifier of transformers on the wave itself (wav2vec 2.0, HuBERT, WavLM …), real from fake.

    Its score is the log-odds of a recording, by its own softmax. It gets no attention mask: a window is whole, and with
    a mask of ones these networks give the same.
    """

    method = "an audio classifier of transformers on windows of 4.04 s"
    calibration: Calibration | None = None
    worth = "as its model card says; its own probability is used, which nothing here was fitted to"

    def __init__(self, weights: Weights, build: BuildEngine) -> None:
        """Raises ModelNotLoaded when the labels do not tell real from fake, when it takes anything but sound at
        ``RATE``, or when the engine's numbers differ."""
        self._fake = fake_outputs(weights)
        self._normalize = _normalized(weights.name, read_json(weights, "preprocessor_config.json"))
        self.engine: Engine = build(lambda: _logits(weights), version=weights.version, input_size=(SAMPLES,))

    def prepare(self, window: Array) -> Array:
        if not self._normalize:
            return window
        scaled: Array = (window - window.mean()) / np.sqrt(window.var() + EPSILON)
        return scaled

    def __call__(self, inputs: Array) -> Array:
        return -fake_log_odds(self.engine(inputs), self._fake)


def load_network(weights: Weights, build: BuildEngine) -> VoiceNetwork:
    """The network for a model of models.yaml."""
    if weights.name == "aasist":
        return Aasist(weights, build)
    return TransformersVoice(weights, build)


def _normalized(name: str, config: dict[str, Any]) -> bool:
    """Whether a sound is brought to a mean of 0 and a variance of 1; what a config leaves out is transformers' default.

    Raises ModelNotLoaded for another kind of input, or another rate.
    """
    kind = config.get("feature_extractor_type")
    if kind != EXTRACTOR:
        raise ModelNotLoaded(f"{name} takes what {kind} makes of a sound; forensics/voice has {EXTRACTOR} only.")
    rate, channels = config.get("sampling_rate", RATE), config.get("feature_size", 1)
    if rate != RATE:
        raise ModelNotLoaded(f"{name} takes sound at {rate} Hz; forensics/voice gives {RATE} Hz.")
    if channels != 1:
        raise ModelNotLoaded(f"{name} takes {channels} values a sample; forensics/voice gives one, mono.")
    return bool(config.get("do_normalize", True))


def _logits(weights: Weights) -> "torch.nn.Module":
    """Return a new torch module, float32[n, SAMPLES] → logits in the order of the checkpoint."""
    from transformers import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING

    # Old checkpoints lack what training puts in the place of masked sound; nothing else uses it.
    model = load_checkpoint(MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING, weights, optional=("masked_spec_embed",))
    return output_module(model, lambda output: output.logits)
