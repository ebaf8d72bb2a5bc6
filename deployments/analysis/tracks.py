"""analysis/tracks: face detections of a video, linked over time into traces of one person each.

Association in two rounds as in ByteTrack (Zhang et al. 2022, https://arxiv.org/abs/2110.06864): confident detections
first, the others with what is left; the assignment is solved exactly (Hungarian method, SciPy). Its Kalman filter is
replaced by what faces offer instead: a constant-velocity prediction over a few looks and the cosine of face vectors,
which keeps two people apart who cross. No kept library had both without a second build of OpenCV.
A trace ends at a cut. Pieces of one shot that do not overlap in time are joined again when their vectors agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.errors import InvalidInput, StageError
from vision.faces.linking import Link, Linker, Track


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Faces of a whole video, ordered by frame: ``frames`` int64[n], ``boxes`` float32[n, 4] as x, y, width, height in
    pixels, ``confidences`` float32[n], ``landmarks`` float32[n, 5, 2], ``vectors`` float32[n, 128] of unit length."""

    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    confidences: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TrackRequest:
    """``cuts``: the first frames of all shots but the first; faces were looked for on every ``step``-th frame."""

    detections: Detections
    cuts: tuple[int, ...]
    fps: float
    step: int


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One person over consecutive frames, as in ``Detections``; ``detected`` is False where a box was interpolated.

    ``vector`` float32[128] is the mean of the detections' vectors, weighted by confidence and size, of unit length.
    """

    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    confidences: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    detected: NDArray[np.bool_]
    vector: NDArray[np.float32]


class Config(StageConfig):
    """``user_config`` of analysis/tracks; everything changes in place."""

    confident: float = Field(default=0.87, ge=0, le=1, description="only detections from here on start a trace")
    same_cosine: float = Field(default=0.45, ge=-1, le=1, description="vectors of one person, for joining pieces")
    other_cosine: float = Field(default=0.15, ge=-1, le=1, description="below it two detections are never linked")
    lost_s: float = Field(default=0.6, gt=0, description="a track that is not seen for longer ends")
    rejoin_s: float = Field(default=20.0, ge=0, description="pieces of one shot further apart stay apart")
    min_detections: int = Field(default=3, ge=1, description="shorter traces are taken for false detections")


TRACKS: Final = StageRef[TrackRequest, tuple[Trace, ...]]("analysis/tracks")


class Tracks(Stage[Config, TrackRequest, TrackRequest, tuple[Trace, ...]]):
    """Detections of one video → its traces, ordered by first frame."""

    key = TRACKS.key
    config_class = Config

    def load(self) -> None:
        """Nothing to load."""

    def predict_batch(self, items: list[TrackRequest]) -> Sequence[tuple[Trace, ...] | StageError]:
        return [self._traces(item) for item in items]

    def info(self) -> dict[str, object]:
        return {
            "method": "two-round association of boxes and face vectors, joined again by vector within a shot",
            "max_batch_size": self.config.max_batch_size,
        }

    def _traces(self, request: TrackRequest) -> tuple[Trace, ...] | StageError:
        found = request.detections
        if len({len(values) for values in (found.frames, found.boxes, found.confidences, found.vectors)}) != 1:
            return InvalidInput("The detections' arrays differ in length.")
        if np.any(np.diff(found.frames) < 0):
            return InvalidInput("The detections are not ordered by frame.")
        config = self.config
        link = Link(
            confident=config.confident,
            same_cosine=config.same_cosine,
            other_cosine=config.other_cosine,
            lost=max(round(config.lost_s * request.fps), 2 * request.step),
            rejoin=round(config.rejoin_s * request.fps),
        )
        tracks: list[Track] = []
        for shot in np.split(np.arange(len(found.frames)), np.searchsorted(found.frames, request.cuts)):
            linker = Linker(link, found.boxes, found.confidences, found.vectors)
            for look in np.split(shot, np.flatnonzero(np.diff(found.frames[shot])) + 1):
                if len(look):
                    linker.see(int(found.frames[look[0]]), look)
            tracks += linker.joined()
        traces = [_filled(track, found, link.lost) for track in tracks if len(track.members) >= config.min_detections]
        return tuple(sorted(traces, key=lambda trace: (int(trace.frames[0]), float(trace.boxes[0, 0]))))


def _filled(track: Track, found: Detections, longest: int) -> Trace:
    """The trace of a track: boxes between two sightings are interpolated, over no more than ``longest`` frames."""
    members = np.array(track.members)
    seen = found.frames[members]
    gaps = np.diff(seen)
    between = [np.arange(a + 1, b) for a, b, gap in zip(seen[:-1], seen[1:], gaps, strict=True) if 1 < gap <= longest]
    frames = np.unique(np.concatenate([seen, *between]))

    def at_frames(values: NDArray[np.float32]) -> NDArray[np.float32]:
        flat = values[members].reshape(len(members), -1)
        columns = [np.interp(frames, seen, column) for column in flat.T]
        return np.stack(columns, axis=1).reshape(len(frames), *values.shape[1:]).astype(np.float32)

    weights = found.confidences[members] * np.sqrt(found.boxes[members, 2] * found.boxes[members, 3])
    mean = (found.vectors[members] * weights[:, None]).sum(axis=0)
    return Trace(
        frames=frames.astype(np.int64),
        boxes=at_frames(found.boxes),
        confidences=at_frames(found.confidences),
        landmarks=at_frames(found.landmarks),
        detected=np.isin(frames, seen),
        vector=(mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32),
    )
