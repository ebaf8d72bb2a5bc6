"""analysis/tracks: links the face detections of a video over time into traces of one person each.

How is in ``vision.faces.tracking``: two rounds of association by box and face vector within a shot.
"""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.faces.tracking import Detections, Thresholds, Trace, track_faces


@dataclass(frozen=True, slots=True)
class TrackRequest:
    """``cuts``: the first frames of all shots but the first; faces were detected on every ``step``-th frame."""

    detections: Detections
    cuts: tuple[int, ...]
    fps: float
    step: int


class Config(StageConfig):
    """``user_config`` of analysis/tracks; everything changes in place."""

    confident: float = Field(default=0.87, ge=0, le=1, description="least confidence of a detection to start a trace")
    same_cosine: float = Field(default=0.45, ge=-1, le=1, description="vectors of one person, for joining pieces")
    other_cosine: float = Field(default=0.15, ge=-1, le=1, description="below it two detections are never linked")
    lost_s: float = Field(default=0.6, gt=0, description="a track without a sighting for longer ends")
    rejoin_s: float = Field(default=20.0, ge=0, description="pieces of one shot further apart stay apart")
    min_detections: int = Field(default=3, ge=1, description="shorter traces are taken for false detections")


TRACKS: Final = StageRef[TrackRequest, tuple[Trace, ...]]("analysis/tracks")


class FaceTracker(Stage[Config, TrackRequest, TrackRequest, tuple[Trace, ...]]):
    """Detections of one video → its traces, ordered by first frame."""

    key = TRACKS.key
    config_class = Config

    def predict(self, item: TrackRequest) -> tuple[Trace, ...]:
        config = self.config
        thresholds = Thresholds(
            confident=config.confident,
            same_cosine=config.same_cosine,
            other_cosine=config.other_cosine,
            lost=max(round(config.lost_s * item.fps), 2 * item.step),
            rejoin=round(config.rejoin_s * item.fps),
        )
        return track_faces(item.detections, item.cuts, thresholds, min_detections=config.min_detections)

    def info(self) -> dict[str, Any]:
        return {
            "method": "two-round association of boxes and face vectors, joined again by vector within a shot",
            "max_batch_size": self.config.max_batch_size,
        }
