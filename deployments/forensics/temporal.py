"""forensics/temporal: whether a face stays the same and moves as faces do, over some seconds of a video.

Jitter, motion and flicker go into the probability by a logistic curve; blinks are reported only, as some seconds are
too few to expect one.
"""

from typing import Any, Final

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.errors import InvalidInput
from vision.forensics.calibration import INSTABILITY
from vision.forensics.temporal import FEWEST, FaceTrack, Temporal, consistency

TEMPORAL: Final = StageRef[FaceTrack, Temporal]("forensics/temporal")


class TemporalAnalyzer(Stage[StageConfig, FaceTrack, FaceTrack, Temporal]):
    """FaceTrack → Temporal."""

    key = TEMPORAL.key

    def predict(self, item: FaceTrack) -> Temporal:
        if len(item.times) < FEWEST:
            raise InvalidInput(f"A face has to be seen {FEWEST} times, not {len(item.times)}, to tell how it moves.")
        return consistency(item)

    def info(self) -> dict[str, Any]:
        return {
            "method": "instability of a face's vector, landmarks and brightness; blinks by correlation of the eyes",
            "score": "probability of being generated frame by frame, 0 to 1, higher is more likely",
            "worth": "fitted to genuine footage and to faces pasted frame by frame into the same footage; of real "
            "face swaps there was none to measure it on",
            "calibration": INSTABILITY.info(),
        }
