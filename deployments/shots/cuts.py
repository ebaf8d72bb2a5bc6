"""shots/cuts: how likely each frame of a window of a video is to be a transition between shots.

TransNetV2 (Souček and Lokoč 2020, https://arxiv.org/abs/2008.04838), as it was trained: on every frame, shrunk to 48x27
pixels. The first of a frame's two probabilities is high in the middle of a transition, at a cut on the last frame of
the old shot; the second is high on every frame of a transition, and so gives the extent of a dissolve. Frames in the
middle of a window get the best results: ``vision.shots.transitions`` makes windows of which the middle half counts.

The filter that shrinks the frames moves the probabilities a little: the network was trained on FFmpeg's bicubic one.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.engine_stage import EngineConfig, EngineStage, model_chain
from deployments.serving.stage import SharedImage, StageRef
from vision.engines import Engine
from vision.errors import InvalidInput, ModelNotLoaded, StageError
from vision.images import Pixels
from vision.shots.transitions import THUMBNAIL, WINDOW, Probabilities
from vision.weights import Weights, registry, resolve_first

WIDTH, HEIGHT = THUMBNAIL

Window = tuple[int, NDArray[np.float32]]
"""Its number of frames, and float32[3, 100 · 27, 48] in 0..1, its frames below each other."""


class Config(EngineConfig):
    """``user_config`` of shots/cuts; models and engine are read at load, the rest changes in place."""

    max_batch_size: int = Field(default=4, ge=1)
    models: list[str] = model_chain(["transnetv2"])
    engine: Literal["auto", "torch-fp32", "openvino-fp32", "openvino-bf16"] = Field(
        default="auto", description="bf16 moves a probability by up to 0.03; auto is fp32, by OpenVINO on a CPU"
    )


CUTS: Final = StageRef[SharedImage, Probabilities]("shots/cuts")


class CutDetector(EngineStage[Config, Pixels, Window, Probabilities]):
    """Window, uint8 (n, 27, 48, 3) RGB of n ≤ 100 consecutive frames → float32[n, 2], probabilities from 0 to 1.

    A shorter window is filled up with its last frame. In fp32 no probability depends by more than 1e-5 on the batch it
    was in.
    """

    key = CUTS.key
    config_class = Config
    prepare_threads = 2
    exact = True

    _weights: Weights

    def load_engine(self) -> Engine:
        self._weights = resolve_first(self.config.models)
        return self.build_engine(self._make_module, version=self._weights.version, input_size=(WINDOW * HEIGHT, WIDTH))

    def prepare(self, item: Pixels) -> Window:
        """Return the window as the network takes it. Raises InvalidInput for any other array."""
        if item.dtype != np.uint8 or item.ndim != 4 or item.shape[1:] != (HEIGHT, WIDTH, 3):
            raise InvalidInput(f"A window is uint8 (n, {HEIGHT}, {WIDTH}, 3), not {item.dtype} {item.shape}.")
        if not 1 <= len(item) <= WINDOW:
            raise InvalidInput(f"A window has 1 to {WINDOW} frames, not {len(item)}.")
        frames = np.concatenate([item, item[-1:].repeat(WINDOW - len(item), 0)])
        tall = frames.transpose(3, 0, 1, 2).reshape(3, WINDOW * HEIGHT, WIDTH)
        return len(item), tall.astype(np.float32) / np.float32(255)

    def predict_batch(self, items: list[Window]) -> Sequence[Probabilities | StageError]:
        logits = self._engine(np.stack([window for _, window in items])).reshape(len(items), WINDOW, 2)
        # By tanh, since the exponential of a large logit overflows.
        probabilities = 0.5 + 0.5 * np.tanh(0.5 * logits)
        return [rows[:frames] for (frames, _), rows in zip(items, probabilities, strict=True)]

    def info(self) -> dict[str, Any]:
        return {
            "method": "TransNetV2 (Souček and Lokoč 2020) on windows of 100 frames, of which the middle 50 count",
            **self._weights.info(),
            "architecture": self._weights.architecture,
            "input_size": [HEIGHT, WIDTH],
            "range": "0 to 1, higher is surer; first that the frame is the middle of a transition, then that it is "
            "any frame of one",
            **super().info(),
        }

    def _make_module(self) -> Any:
        from vision.networks.transnetv2 import load

        path = self._weights.files[registry().root[self._weights.name].main]
        try:
            return load(path)
        except (KeyError, RuntimeError) as error:
            raise ModelNotLoaded(f"{path.name} has no weights of TransNetV2: {error}") from error
