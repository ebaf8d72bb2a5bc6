"""The audio classifiers of forensics/voice: what each takes and what its outputs mean.

A classifier gets windows of ``SAMPLES`` samples at ``RATE`` hertz; a shorter sound is repeated to that length.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vision.engines import BuildEngine, Engine
from vision.errors import ModelNotLoaded
from vision.forensics.calibration import AASIST, Calibration
from vision.forensics.classifiers import fake_log_odds, fake_outputs
from vision.forensics.voice_domain import distances
from vision.weights import Weights
from vision.weights.checkpoint import load_checkpoint, output_module, read_json

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float32]

RATE: Final = 16_000
SAMPLES: Final = 64_600
"""Samples of a window, 4.04 seconds, as in the training of AASIST."""
EXTRACTOR: Final = "Wav2Vec2FeatureExtractor"
EPSILON: Final = 1e-7
"""What transformers adds to the variance of a sound when it normalises it."""


class VoiceNetwork(Protocol):
    """A loaded network; ``engine.streams`` threads may call it at the same time."""

    engine: Engine
    method: str
    calibration: Calibration | None
    """None when the network's own probability is used."""
    worth: str
    """How reliable it is, for model-info."""

    def prepare(self, window: Array) -> Array:
        """Return the input float32[SAMPLES] for a whole window, -1 to 1."""
        ...

    def __call__(self, inputs: Array) -> Array:
        """Return scores float32[n] for inputs float32[n, SAMPLES]; higher is more likely recorded."""
        ...

    def examine(self, inputs: Array) -> tuple[Array, Array | None]:
        """Return the scores, and how far each sound is from what the network knows, float32[n] from 0 to 2; None where
        that cannot be told."""
        ...


class Aasist:
    """AASIST; its score is its second output, as in the published scores."""

    method = "AASIST on windows of 4.04 s"
    calibration: Calibration | None = AASIST
    worth = (
        "EER 0.83 % on ASVspoof 2019 LA by its paper; AUC 0.95 on 20 clips like those; it takes all 4 "
        "recordings of LJSpeech for synthetic, and misses up to 6 of 15 commercial synthetic voices of 2023"
    )

    def __init__(self, weights: Weights, build: BuildEngine) -> None:
        """Raises ModelNotLoaded when the engine's outputs differ from torch."""
        from vision.networks.aasist import WEIGHT_FILE, load_with_embedding

        path = weights.files[WEIGHT_FILE]
        # Not the version alone: an engine of an earlier release, without the embedding, may be in the cache.
        version = f"{weights.version}-embedding"
        self.engine: Engine = build(partial(load_with_embedding, path), version=version, input_size=(SAMPLES,))

    def prepare(self, window: Array) -> Array:
        return window

    def __call__(self, inputs: Array) -> Array:
        return self.examine(inputs)[0]

    def examine(self, inputs: Array) -> tuple[Array, Array | None]:
        outputs = self.engine(inputs)
        return outputs[:, 1], distances(outputs[:, 2:])


class TransformersVoice:
    """An audio classifier of transformers on the waveform (wav2vec 2.0, HuBERT, WavLM …) whose labels mean real and
    fake.

    Its score is the log-odds of a recording, by its own softmax. It gets no attention mask: windows are whole, and a
    mask of ones would not change its outputs.
    """

    method = "an audio classifier of transformers on windows of 4.04 s"
    calibration: Calibration | None = None
    worth = "as its model card says; its own probability is used, without calibration"

    def __init__(self, weights: Weights, build: BuildEngine) -> None:
        """Raises ModelNotLoaded when the labels are not real and fake, when its input is not sound at ``RATE``, or when
        the engine's outputs differ from torch."""
        self._fake = fake_outputs(weights)
        self._normalize = _normalized(weights.name, read_json(weights, "preprocessor_config.json"))
        self.engine: Engine = build(partial(_logits, weights), version=weights.version, input_size=(SAMPLES,))

    def prepare(self, window: Array) -> Array:
        if not self._normalize:
            return window
        scaled: Array = (window - window.mean()) / np.sqrt(window.var() + EPSILON)
        return scaled

    def __call__(self, inputs: Array) -> Array:
        return -fake_log_odds(self.engine(inputs), self._fake)

    def examine(self, inputs: Array) -> tuple[Array, Array | None]:
        return self(inputs), None


def load_network(weights: Weights, build: BuildEngine) -> VoiceNetwork:
    """Return the network for a model of models.yaml."""
    if weights.name == "aasist":
        return Aasist(weights, build)
    return TransformersVoice(weights, build)


def _normalized(name: str, config: dict[str, Any]) -> bool:
    """Return whether a sound is normalised to mean 0 and variance 1; missing settings have transformers' defaults.

    Raises ModelNotLoaded for another feature extractor or sampling rate, or for more than one channel.
    """
    kind = config.get("feature_extractor_type")
    if kind != EXTRACTOR:
        raise ModelNotLoaded(f"{name} needs the feature extractor {kind}; forensics/voice has {EXTRACTOR} only.")
    rate, channels = config.get("sampling_rate", RATE), config.get("feature_size", 1)
    if rate != RATE:
        raise ModelNotLoaded(f"{name} takes sound at {rate} Hz; forensics/voice gives {RATE} Hz.")
    if channels != 1:
        raise ModelNotLoaded(f"{name} takes {channels} values per sample; forensics/voice gives one, mono.")
    return bool(config.get("do_normalize", True))


def _logits(weights: Weights) -> "torch.nn.Module":
    """Return a new torch module, float32[n, SAMPLES] → logits in the order of the checkpoint."""
    from transformers import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING

    # Old checkpoints lack the embedding of masked sound, which only training uses.
    model = load_checkpoint(MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING, weights, optional=("masked_spec_embed",))
    return output_module(model, lambda output: output.logits)
