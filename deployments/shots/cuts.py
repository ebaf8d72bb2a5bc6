"""shots/cuts: how likely each frame of a window of a video is to be a transition between shots.

TransNetV2 (Souček and Lokoč 2020, https://arxiv.org/abs/2008.04838), as it was trained: on every frame, shrunk to 48x27
pixels. The first of a frame's two probabilities is high in the middle of a transition, at a cut on the last frame of
the old shot; the second is high on every frame of one, and so gives a dissolve its extent. A frame in the middle of
its window is seen best: ``vision.shots.transitions`` makes windows of which the middle half counts.

The filter that frames are shrunk by moves the probabilities a little: the network was trained on FFmpeg's bicubic one.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs.settings import settings
from deployments.serving.stage import SharedImage, Stage, StageConfig, StageRef
from vision.engines import Engine, EngineName, build_engine
from vision.errors import InvalidInput, ModelNotLoaded, StageError
from vision.images import Pixels
from vision.shots.transitions import THUMBNAIL, WINDOW, Probabilities
from vision.weights import Weights, registry, resolve_first

WIDTH, HEIGHT = THUMBNAIL

Window = tuple[int, NDArray[np.float32]]
"""Its number of frames, and float32[3, 100 · 27, 48] in 0..1 of its frames under one another."""


class Config(StageConfig):
    """``user_config`` of shots/cuts; models and engine are read at load, the rest changes in place."""

    max_batch_size: int = Field(default=4, ge=1)
    models: list[str] = Field(
        min_length=1, default_factory=lambda: ["transnetv2"], description="names of models.yaml, first that can be had"
    )
    engine: Literal["auto", "torch-fp32", "openvino-fp32", "openvino-bf16"] = Field(
        default="auto", description="bf16 moves a probability by up to 0.03; auto is fp32, by OpenVINO on a CPU"
    )
    torch_threads: int = Field(default=1, ge=1, description="threads of torch on the CPU; raise for a torch engine")
    cuda_memory_fraction: float | None = Field(
        default=None, gt=0, le=1, description="share of a GPU this process may take"
    )


CUTS: Final = StageRef[SharedImage, Probabilities]("shots/cuts")


class CutDetector(Stage[Config, Pixels, Window, Probabilities]):
    """Window, uint8 (n, 27, 48, 3) RGB of n ≤ 100 frames in a row → float32[n, 2], probabilities from 0 to 1.

    Behind the end of a shorter window all is taken to be as in its last frame. In fp32 no probability depends by more
    than 1e-5 on the batch it was in.
    """

    key = CUTS.key
    config_class = Config
    prepare_threads = 2

    _weights: Weights
    _engine: Engine

    def load(self) -> None:
        """Raises ModelNotLoaded with the reason of every model when none can be had."""
        import torch

        torch.set_num_threads(self.config.torch_threads)
        # TF32 has 10 bits of mantissa, too few for a probability close to a threshold.
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        self._weights = resolve_first(self.config.models)
        engine: EngineName = self.config.engine
        if engine == "auto":
            engine = "torch-fp32" if torch.cuda.is_available() else "openvino-fp32"
        self._engine = build_engine(
            engine,
            self._make_module,
            version=self._weights.version,
            input_size=(WINDOW * HEIGHT, WIDTH),
            cache=settings().models_cache.expanduser(),
            cuda_memory_fraction=self.config.cuda_memory_fraction,
        )

    def warm_up(self) -> None:
        # Every size once: an engine compiles its kernels anew for a batch size that it has not met.
        for size in range(1, self.config.max_batch_size + 1):
            self._engine(np.zeros((size, 3, WINDOW * HEIGHT, WIDTH), np.float32))

    def batches_at_once(self) -> int:
        return self._engine.streams

    def prepare(self, item: Pixels) -> Window:
        """Raises InvalidInput for what is no window."""
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
        return [found[:frames] for (frames, _), found in zip(items, probabilities, strict=True)]

    def info(self) -> dict[str, Any]:
        return {
            "method": "TransNetV2 (Souček and Lokoč 2020) on windows of 100 frames, of which the middle 50 count",
            "model": self._weights.name,
            "model_version": self._weights.version,
            "architecture": self._weights.architecture,
            "weights": self._weights.source,
            "licence": self._weights.licence,
            "input_size": [HEIGHT, WIDTH],
            "range": "0 to 1, higher is surer; first that the frame is the middle of a transition, then that it is "
            "any frame of one",
            "engine": self._engine.name,
            "device": self._engine.device,
            "max_batch_size": self.config.max_batch_size,
        }

    def _make_module(self) -> Any:
        from vision.networks.transnetv2 import load

        path = self._weights.files[registry().root[self._weights.name].main]
        try:
            return load(path)
        except (KeyError, RuntimeError) as error:
            raise ModelNotLoaded(f"{path.name} has no weights of TransNetV2: {error}") from error
