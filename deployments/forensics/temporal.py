"""forensics/temporal: whether a face stays the same and moves as faces do, over some seconds of a video.

A face that was made frame by frame trembles where a filmed one does not. Measured on one face, looked at about ten
times a second:

- ``embedding_jitter``: 1 - cosine of its vectors from look to look, on average: identity trembles,
- ``landmark_motion``: acceleration of the landmarks once the whole face is turned upright and scaled, so that the head
  may move: root mean square of second differences, as a share of the distance of the eyes,
- ``flicker``: second differences of the logarithm of the face's brightness less that of the whole picture, root mean
  square: a pasted face flickers by itself,
- ``blink_rate``: blinks a minute (``blinks``). Faces made by the first generators hardly blink (Li, Chang, Lyu 2018,
  https://arxiv.org/abs/1806.02877); people blink 17 times a minute at rest (Bentivoglio et al. 1997).

The first three go into the probability by a logistic curve; blinks are told only, as some seconds are too few to expect
one.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.errors import InvalidInput
from vision.faces.alignment import TEMPLATE, similarity_transform
from vision.forensics.blinks import blinks
from vision.forensics.calibration import TREMBLING

FEWEST: Final = 8
"""Looks below which nothing is said."""
GAP: Final = 2.5
"""Times the usual distance from which two looks are no neighbours."""
EYES_APART: Final = float(np.hypot(*np.subtract(TEMPLATE[1], TEMPLATE[0])))
TINY: Final = 1e-4
LEAST_EYES: Final = 24.0
"""Pixels of the picture between the eyes below which a lid is too small to be seen."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceTrack:
    """Looks at one face, in order. ``times``: float64[n], seconds; ``landmarks``: float64 (n, 5, 2), pixels;
    ``vectors``: float32 (n, 128); ``crops``: uint8 (n, 112, 112), grey, upright; ``scene``: float64[n], mean brightness
    of the whole pictures, 0-255."""

    times: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    vectors: NDArray[np.float32]
    crops: NDArray[np.uint8]
    scene: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Temporal:
    """``probability``: 0-1, higher is more likely made frame by frame; ``blink_rate``: a minute, over ``seconds`` in
    which the face was seen, None for a face too small to see its lids."""

    probability: float
    embedding_jitter: float
    landmark_motion: float
    flicker: float
    blink_rate: float | None
    seconds: float
    looks: int


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
            "method": "trembling of a face's vector, landmarks and brightness; blinks by correlation of the eyes",
            "score": "probability of being made frame by frame, 0 to 1, higher is more likely",
            "worth": "fitted to genuine footage and to faces pasted frame by frame into the same footage; of real "
            "face swaps there was none to measure it on",
            "calibration": TREMBLING.told(),
        }


def consistency(track: FaceTrack) -> Temporal:
    """The measures of a track of at least 8 looks."""
    steps = np.diff(track.times)
    near = steps <= GAP * np.median(steps)
    pairs = near[:-1] & near[1:]
    cosines = (track.vectors[1:] * track.vectors[:-1]).sum(1)
    jitter = float(np.mean(1 - cosines[near])) if near.any() else 0.0
    motion = _rms(np.diff(_upright(track.landmarks), 2, axis=0)[pairs]) / EYES_APART
    bright = np.log(track.crops.mean((1, 2)) + 1) - np.log(track.scene + 1)
    flicker = _rms(np.diff(bright, 2)[pairs])
    seconds = float(steps[near].sum())
    eyes = float(np.median(np.hypot(*(track.landmarks[:, 0] - track.landmarks[:, 1]).T)))
    rate = None if eyes < LEAST_EYES else 60 * blinks(track.crops, track.times) / max(seconds, TINY)
    return Temporal(
        probability=TREMBLING.probability(trembling(jitter, motion, flicker)),
        embedding_jitter=jitter,
        landmark_motion=motion,
        flicker=flicker,
        blink_rate=rate,
        seconds=seconds,
        looks=len(track.times),
    )


def trembling(jitter: float, motion: float, flicker: float) -> float:
    """One number of the three: the mean of their logarithms, so that none of them counts more by its unit."""
    return float(np.mean(np.log(np.array([jitter, motion, flicker]) + TINY)))


def _upright(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 5, 2) in pixels of the picture to pixels of the upright crop of 112."""
    moved = np.empty_like(landmarks)
    for place, points in enumerate(landmarks):
        transform = similarity_transform([(float(x), float(y)) for x, y in points])
        moved[place] = points @ transform[:, :2].T + transform[:, 2]
    return moved


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0
