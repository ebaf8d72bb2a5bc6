"""forensics/voice: whether a voice was recorded or synthesised, four seconds at a time.

The first available model of the chain serves: an audio classifier of transformers that separates real from fake, else
AASIST (Jung et al. 2022, https://arxiv.org/abs/2110.01200); both on 16 kHz sound. AASIST was trained on ASVspoof 2019
LA: clean English studio sentences and the speech synthesis of that time, of which it misses 0.83 % at equal error
rates (its paper). Elsewhere it is much worse, and not only with newer synthesis: it takes all four recordings of
LJSpeech that we have for synthetic ones. So its result for a recording unlike its training set is no more than a hint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.engine_stage import EngineConfig, EngineStage, model_chain
from deployments.serving.stage import HubModels, StageRef
from vision.engines import Engine, EngineName
from vision.errors import InvalidInput, StageError
from vision.forensics.calibration import sigmoid
from vision.forensics.voices import SAMPLES, VoiceNetwork, load_network
from vision.weights import Weights, resolve_first

Array = NDArray[np.float32]

CHAIN: Final = ["aasist"]


@dataclass(frozen=True, slots=True)
class Voice:
    """``probability``: 0-1, higher is more likely synthetic; ``score``: higher is more likely recorded: AASIST's logit
    of a recording, as it is published, or a classifier's log-odds of a recording."""

    probability: float
    score: float


class Config(EngineConfig):
    """``user_config`` of forensics/voice; all but batching is read at load."""

    max_batch_size: int = Field(
        default=1,
        ge=1,
        description="windows in one predict_batch call; each takes AASIST 0.3 GB, and on a CPU more are slower",
    )
    models: list[str] = model_chain(CHAIN)
    engine: EngineName = Field(
        default="auto", description="auto is fp32, as in bf16 the scores of AASIST move by a few tenths"
    )


VOICE: Final = StageRef[Array, Voice]("forensics/voice")


class VoiceDetector(EngineStage[Config, Array, Array, Voice]):
    """Sound, float32[up to 64,600] at 16 kHz, -1 to 1 → Voice."""

    key = VOICE.key
    config_class = Config
    prepare_threads = 1
    exact = True

    hub = HubModels(
        task="voice-forgery",
        kind="an audio classifier on 16 kHz sound whose labels mean real and fake",
        architecture="MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING",
        files=("config.json", "preprocessor_config.json"),
        samples=lambda: [np.random.default_rng(0).uniform(-0.5, 0.5, SAMPLES).astype(np.float32)],
    )

    _weights: Weights
    _network: VoiceNetwork

    def load_engine(self) -> Engine:
        self._weights = resolve_first(self.config.models)
        self._network = load_network(self._weights, self.build_engine)
        return self._network.engine

    def prepare(self, item: Array) -> Array:
        """Return the sound, repeated to a whole window, as the network takes it.

        Raises InvalidInput for an empty sound or a longer one.
        """
        if not 0 < len(item) <= SAMPLES:
            raise InvalidInput(f"A window has 1 to {SAMPLES} samples, not {len(item)}.")
        whole: Array = np.resize(item, SAMPLES).astype(np.float32, copy=False)
        return self._network.prepare(whole)

    def predict_batch(self, items: list[Array]) -> Sequence[Voice | StageError]:
        calibration = self._network.calibration
        probability = sigmoid if calibration is None else calibration.probability
        return [Voice(probability(-score), score) for score in self._network(np.stack(items)).tolist()]

    def info(self) -> dict[str, Any]:
        calibration = self._network.calibration
        return {
            "method": self._network.method,
            **self._weights.info(),
            "architecture": self._weights.architecture,
            "worth": self._network.worth,
            **super().info(),
            "score": "probability of having been made, 0 to 1, higher is more likely made",
            "calibration": None if calibration is None else calibration.info(),
        }
