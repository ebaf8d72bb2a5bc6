"""forensics/voice: whether a voice was recorded or synthesised, four seconds at a time.

The first available model of the chain serves: an audio classifier of transformers that separates real from fake, else
AASIST (Jung et al. 2022, https://arxiv.org/abs/2110.01200); both on 16 kHz sound. ``second`` names a chain whose first
available model judges as well: the higher of both counts, and only the second where the sound is outside of what AASIST
was made for. AASIST was trained on ASVspoof 2019
LA: clean English studio sentences and the speech synthesis of that time, of which it misses 0.83 % at equal error
rates (its paper). Elsewhere it is much worse, and not only with newer synthesis: it takes all four recordings of
LJSpeech that we have for synthetic ones. So its result for a recording unlike its training set is no more than a hint.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.engine_stage import EngineConfig, EngineStage, model_chain
from deployments.serving.stage import HubModels, StageRef
from vision.engines import Engine, EngineName
from vision.errors import InvalidInput, ModelNotLoaded, StageError
from vision.forensics.calibration import sigmoid
from vision.forensics.voice_domain import Domain, measure
from vision.forensics.voices import SAMPLES, VoiceNetwork, load_network
from vision.weights import Weights, resolve_first

Array = NDArray[np.float32]

CHAIN: Final = ["aasist"]


@dataclass(frozen=True, slots=True)
class Voice:
    """``probability``: 0-1, higher is more likely synthetic; ``score``: higher is more likely recorded: AASIST's logit
    of a recording, as it is published, or a classifier's log-odds of a recording. ``opinions``: the probability of each
    model that judged, by its name and version. ``domain``: how far the sound is from what AASIST was made for; None for
    other models."""

    probability: float
    score: float
    opinions: dict[str, float] = field(default_factory=dict)
    domain: Domain | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What the networks take for one window, and its bandwidth in Hz and margin in dB."""

    inputs: tuple[Array, ...]
    bandwidth_hz: float
    margin_db: float


class Config(EngineConfig):
    """``user_config`` of forensics/voice; all but batching is read at load."""

    max_batch_size: int = Field(
        default=1,
        ge=1,
        description="windows in one predict_batch call; each takes AASIST 0.3 GB, and on a CPU more are slower",
    )
    models: list[str] = model_chain(CHAIN)
    second: list[str] = Field(
        default=[], description="names of models.yaml; the first available one judges as well; none by default"
    )
    engine: EngineName = Field(
        default="auto", description="auto is fp32, as in bf16 the scores of AASIST move by a few tenths"
    )


VOICE: Final = StageRef[Array, Voice]("forensics/voice")


class VoiceDetector(EngineStage[Config, Array, Window, Voice]):
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
    _second: tuple[str, VoiceNetwork] | None
    _without_second: str | None

    @classmethod
    def model_chains(cls, config: Config) -> list[list[str]]:
        return [config.models, config.second] if config.second else [config.models]

    def load_engine(self) -> Engine:
        self._weights = resolve_first(self.config.models)
        self._network = load_network(self._weights, self.build_engine)
        self._second = self._without_second = None
        if self.config.second:
            try:
                weights = resolve_first(self.config.second)
                self._second = weights.version, load_network(weights, self.build_engine)
            except ModelNotLoaded as error:  # the first one judges alone
                self._without_second = error.reason
        return self._network.engine

    def warm_up(self) -> None:
        super().warm_up()
        if self._second is not None:
            self._second[1](np.zeros((1, SAMPLES), np.float32))

    def prepare(self, item: Array) -> Window:
        """Return the sound, repeated to a whole window, as the networks take it.

        Raises InvalidInput for an empty sound or a longer one.
        """
        if not 0 < len(item) <= SAMPLES:
            raise InvalidInput(f"A window has 1 to {SAMPLES} samples, not {len(item)}.")
        whole: Array = np.resize(item, SAMPLES).astype(np.float32, copy=False)
        networks = [self._network, *([] if self._second is None else [self._second[1]])]
        return Window(tuple(network.prepare(whole) for network in networks), *measure(item))

    def predict_batch(self, items: list[Window]) -> Sequence[Voice | StageError]:
        scores, far = self._network.examine(np.stack([item.inputs[0] for item in items]))
        first = [_probability(self._network, score) for score in scores.tolist()]
        domains = [
            None if far is None else Domain(float(far[place]), item.bandwidth_hz, item.margin_db)
            for place, item in enumerate(items)
        ]
        opinions = [{self._weights.version: probability} for probability in first]
        if self._second is None:
            return [Voice(*each) for each in zip(first, scores.tolist(), opinions, domains, strict=True)]
        version, network = self._second
        voices = []
        heard = network(np.stack([item.inputs[1] for item in items])).tolist()
        for one, score, each, domain, other in zip(first, scores.tolist(), opinions, domains, heard, strict=True):
            second = _probability(network, other)
            known = domain is None or not domain.outside
            voices.append(Voice(max(one, second) if known else second, score, {**each, version: second}, domain))
        return voices

    def info(self) -> dict[str, Any]:
        calibration = self._network.calibration
        return {
            "method": self._network.method,
            **self._weights.info(),
            "architecture": self._weights.architecture,
            "worth": self._network.worth,
            **self._second_info(),
            **super().info(),
            "score": "probability of having been made, 0 to 1, higher is more likely made",
            "calibration": None if calibration is None else calibration.info(),
        }

    def _second_info(self) -> dict[str, str]:
        if not self.config.second:
            return {}
        missing = f"not available: {self._without_second}"
        return {"second_opinion": missing if self._second is None else self._second[0]}


def _probability(network: VoiceNetwork, score: float) -> float:
    """Return the probability of a synthetic voice for a score of a network."""
    return sigmoid(-score) if network.calibration is None else network.calibration.probability(-score)
