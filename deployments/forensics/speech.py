"""forensics/speech: where in a sound somebody speaks, by Silero VAD (https://github.com/snakers4/silero-vad, MIT).

It was trained to separate speech from silence, noise and music, in over six thousand languages according to its
authors. Singing may count as speech.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deployments.serving.engine_stage import TorchConfig
from deployments.serving.stage import Stage, StageRef
from vision.engines import has_cuda, limit_cuda_memory
from vision.errors import InvalidInput
from vision.weights import Weights, resolve

Array = NDArray[np.float32]

MODEL: Final = "silero-vad"
RATE: Final = 16_000
STEP_S: Final = 0.032
LONGEST_S: Final = 60.0


class Config(TorchConfig):
    """``user_config`` of forensics/speech; all of it is read at load."""


SPEECH: Final = StageRef[Array, Array]("forensics/speech")


class SpeechDetector(Stage[Config, Array, Array, Array]):
    """Sound, float32[n] at 16 kHz, -1 to 1, up to a minute → float32[ceil(n / 512)]: probabilities of speech, 0-1.

    The sound is taken to follow silence; its first probabilities are as good as the others from 0.1 s on.
    """

    key = SPEECH.key
    config_class = Config
    fixed_models = (MODEL,)

    _weights: Weights
    _device: str

    @classmethod
    def model_chains(cls, config: Config) -> list[list[str]]:
        return [[MODEL]]

    def load(self) -> None:
        """Raises ModelNotLoaded with the reason of every source when the weights are not available."""
        import torch

        from vision.networks.silero import WEIGHT_FILE, load

        torch.set_num_threads(self.config.torch_threads)
        self._weights = resolve(MODEL)
        self._torch = torch
        self._device = "cuda" if has_cuda() else "cpu"
        if self._device == "cuda":
            limit_cuda_memory(self.config.cuda_memory_fraction)
        self._network = load(self._weights.files[WEIGHT_FILE]).to(self._device)

    def warm_up(self) -> None:
        self.predict(np.zeros(RATE, np.float32))

    def predict(self, item: Array) -> Array:
        if not 0 < len(item) <= LONGEST_S * RATE:
            raise InvalidInput(f"A sound has up to {LONGEST_S:g} s, not {len(item) / RATE:g} s.")
        torch = self._torch
        with torch.inference_mode():
            # A copy: what came from another process is read-only.
            sound = torch.from_numpy(np.array(item, np.float32)).to(self._device)
            probabilities: Array = self._network(sound).cpu().numpy()
        return probabilities

    def info(self) -> dict[str, Any]:
        return {
            "method": "Silero VAD",
            **self._weights.info(),
            "engine": "torch-fp32",
            "device": self._device,
            "score": "chance of speech every 32 ms, 0 to 1; its authors count 0.5 and above as speech",
        }
