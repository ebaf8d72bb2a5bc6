"""shots/cuts: how likely each frame of a window of a video is to be a transition between shots.

TransNetV2 (Souček and Lokoč 2020, https://arxiv.org/abs/2008.04838), as it was trained: on every frame, shrunk to 48x27
pixels. The first of a frame's two probabilities is high in the middle of a transition, at a cut on the last frame of
the old shot; the second is high on every frame of a transition, and so gives the extent of a dissolve. Frames in the
middle of a window get the best results: ``vision.shots.transitions`` makes windows of which the middle half counts.

The filter that shrinks the frames moves the probabilities a little: the network was trained on FFmpeg's bicubic one.

In most windows of a film nothing is near a decision. Where only decisions count, a processor with VNNI first glances at
a window in int8, in a third of the time, and computes it in fp32 where that could decide otherwise: an error of
``GLANCE_ERROR`` in the logits, twice the largest one measured, must not change any transition.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.engine_stage import EngineConfig, EngineStage, model_chain
from deployments.serving.stage import SharedImage, StageRef
from vision.engines import Engine, has_bf16, has_int8, item_shape
from vision.errors import InvalidInput, ModelNotLoaded, StageError
from vision.images import Pixels
from vision.shots.transitions import MARGIN, STRIDE, THUMBNAIL, WINDOW, Probabilities, is_decided
from vision.weights import Weights, registry, resolve_first

logger = logging.getLogger("ray.serve")

WIDTH, HEIGHT = THUMBNAIL
GLANCE_ERROR: Final = 1.2
"""By how much a logit in int8 may be off. Measured on 280 windows of real, composed and made-up films: 0.6 at most, of
logits above -5; ops/bench/reports/cuts.md."""
Decisions: TypeAlias = Literal["decisions"]
"""Beside a window: its probabilities only have to decide as exact ones do at the threshold of one half, and no other
measure sees the start of a shot in the middle of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A window as the network takes it: ``pixels`` float32[3, 100 · 27, 48] in 0..1, its frames below each other, of
    which the first ``frames`` count; ``exact``: whether more than decisions are wanted."""

    frames: int
    pixels: NDArray[np.float32]
    exact: bool


class Config(EngineConfig):
    """``user_config`` of shots/cuts; models and engine are read at load, the rest changes in place."""

    max_batch_size: int = Field(default=4, ge=1)
    models: list[str] = model_chain(["transnetv2"])
    engine: Literal["auto", "torch-fp32", "openvino-fp32", "openvino-bf16"] = Field(
        default="auto", description="bf16 moves a probability by up to 0.03; auto is fp32, by OpenVINO on a CPU"
    )


CUTS: Final = StageRef[SharedImage, Probabilities]("shots/cuts")
CUT_DECISIONS: Final = StageRef[tuple[SharedImage, Decisions], Probabilities](CUTS.key)
"""The same stage, where its ``info`` has ``decisions``; that of an older version has not."""


class CutDetector(EngineStage[Config, Pixels | tuple[Pixels, Decisions], Window, Probabilities]):
    """Window, uint8 (n, 27, 48, 3) RGB of n ≤ 100 consecutive frames → float32[n, 2], probabilities from 0 to 1.

    For (window, "decisions") they may be off where that decides nothing. A shorter window is filled up with its last
    frame. In fp32 no probability depends by more than 1e-5 on the batch it was in.
    """

    key = CUTS.key
    config_class = Config
    prepare_threads = 2
    exact = True

    _weights: Weights
    _glance: Engine | None = None

    def load_engine(self) -> Engine:
        self._weights = resolve_first(self.config.models)
        version, size = self._weights.version, (WINDOW * HEIGHT, WIDTH)
        engine = self.build_engine(self._make_module, version=version, input_size=size)
        if engine.name == "openvino-fp32" and has_int8():
            # What is not in int8 may as well be in bf16.
            name: Literal["openvino-bf16", "openvino-fp32"] = "openvino-bf16" if has_bf16() else "openvino-fp32"
            try:
                self._glance = self.build_engine(
                    lambda: self._make_module(in_int8=True), version=f"{version}-int8", input_size=size, engine=name
                )
            except ModelNotLoaded as error:
                logger.warning("every window of %s is computed in fp32: %s", self.key, error.message)
        return engine

    def warm_up(self) -> None:
        super().warm_up()
        if self._glance is not None:
            self._glance(np.zeros((1, *item_shape(self._input_size)), np.float32))

    def prepare(self, item: Pixels | tuple[Pixels, Decisions]) -> Window:
        """Return the window as the network takes it. Raises InvalidInput for any other array."""
        item, exact = (item[0], False) if isinstance(item, tuple) else (item, True)
        if item.dtype != np.uint8 or item.ndim != 4 or item.shape[1:] != (HEIGHT, WIDTH, 3):
            raise InvalidInput(f"A window is uint8 (n, {HEIGHT}, {WIDTH}, 3), not {item.dtype} {item.shape}.")
        if not 1 <= len(item) <= WINDOW:
            raise InvalidInput(f"A window has 1 to {WINDOW} frames, not {len(item)}.")
        frames = np.concatenate([item, item[-1:].repeat(WINDOW - len(item), 0)])
        tall = frames.transpose(3, 0, 1, 2).reshape(3, WINDOW * HEIGHT, WIDTH)
        return Window(len(item), tall.astype(np.float32) / np.float32(255), exact)

    def predict_batch(self, items: list[Window]) -> Sequence[Probabilities | StageError]:
        answers = [self._at_a_glance(item) for item in items]
        left = [place for place, answer in enumerate(answers) if answer is None]
        if left:
            exact = _probabilities(self._engine(np.stack([items[place].pixels for place in left])))
            for place, rows in zip(left, exact, strict=True):
                answers[place] = rows[: items[place].frames]
        return [answer for answer in answers if answer is not None]

    def _at_a_glance(self, item: Window) -> Probabilities | None:
        """Return what int8 says of a window; None where fp32 is asked for, or could decide otherwise."""
        if self._glance is None or item.exact:
            return None
        # Alone, since rounding would make more of what batch mates change.
        (rows,) = _probabilities(self._glance(item.pixels[None]))
        return rows[: item.frames] if is_decided(rows[MARGIN : MARGIN + STRIDE], GLANCE_ERROR) else None

    def info(self) -> dict[str, Any]:
        return {
            "method": "TransNetV2 (Souček and Lokoč 2020) on windows of 100 frames, of which the middle 50 count",
            **self._weights.info(),
            "architecture": self._weights.architecture,
            "input_size": [HEIGHT, WIDTH],
            "range": "0 to 1, higher is surer; first that the frame is the middle of a transition, then that it is "
            "any frame of one",
            **super().info(),
            "decisions": "int8" if self._glance is not None else self._engine.name,
        }

    def _make_module(self, *, in_int8: bool = False) -> Any:
        from vision.networks.transnetv2 import load

        path = self._weights.files[registry().root[self._weights.name].main]
        try:
            return load(path, in_int8=in_int8)
        except (KeyError, RuntimeError) as error:
            raise ModelNotLoaded(f"{path.name} has no weights of TransNetV2: {error}") from error


def _probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32[n, 100, 2] from the logits of n windows."""
    # By tanh, since the exponential of a large logit overflows.
    probabilities: NDArray[np.float32] = 0.5 + 0.5 * np.tanh(0.5 * logits.reshape(-1, WINDOW, 2))
    return probabilities
