"""Temporal consistency of a face over some seconds of a video: whether it stays the same and moves as faces do.

A face that was generated frame by frame trembles where a filmed one does not. The measures are taken from samples of
one face, about ten a second:

- ``embedding_jitter``: mean of 1 - cosine between the vectors of consecutive samples,
- ``landmark_motion``: acceleration of the landmarks after the face is turned upright and scaled, so that the head may
  move: root mean square of second differences, as a share of the distance between the eyes,
- ``flicker``: root mean square of the second differences of the logarithm of the face's brightness less that of the
  whole frame: a pasted face flickers by itself,
- ``blink_rate``: blinks a minute. Faces made by the first generators hardly blink (Li, Chang, Lyu 2018,
  https://arxiv.org/abs/1806.02877); people blink 17 times a minute at rest (Bentivoglio et al. 1997).

Blinks are found as in Grauman et al. 2001 (https://doi.org/10.1109/CVPR.2001.990641) and Chau and Betke 2005 (Real time
eye tracking and blink detection with USB cameras): an open eye is compared with itself by normalised correlation, which
falls while the lid is down. The open eye is the median of the eye over all samples, as eyes are open most of the time.
Both eyes have to close and open again, within half a second.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.faces.face import TEMPLATE, similarity_transform
from vision.forensics.calibration import INSTABILITY

Crops = NDArray[np.uint8]

EYES: Final = ((38, 52), (74, 52))
"""Centre of the person's right and left eye in a crop of 112 pixels, x and y."""
REACH: Final = (12, 8)
"""Half of the width and height of the patch of an eye, in pixels."""
CLOSED: Final = 0.55
"""Correlation below which an eye is closed: between those of Grauman's open and closed eyes."""
LONGEST_S: Final = 0.5
FEWEST: Final = 8
"""Least number of samples of a face that is judged."""
GAP: Final = 2.5
"""Multiple of the median interval above which two samples do not count as consecutive."""
EYES_APART: Final = float(np.hypot(*np.subtract(TEMPLATE[1], TEMPLATE[0])))
TINY: Final = 1e-4
LEAST_EYES: Final = 24.0
"""Pixels of the frame between the eyes below which lids are too small to be seen."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceTrack:
    """Samples of one face, in order.

    ``times``: float64[n], seconds. ``landmarks``: float64 (n, 5, 2), pixels. ``vectors``: float32 (n, 128). ``crops``:
    uint8 (n, 112, 112), grey, aligned. ``scene``: float64[n], mean brightness of the whole frames, 0-255.
    """

    times: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    vectors: NDArray[np.float32]
    crops: NDArray[np.uint8]
    scene: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Temporal:
    """``probability``: 0 to 1, higher is more likely generated frame by frame. ``blink_rate``: blinks a minute over the
    ``seconds`` in which the face was seen, None for a face too small to see its lids. ``looks``: number of samples."""

    probability: float
    embedding_jitter: float
    landmark_motion: float
    flicker: float
    blink_rate: float | None
    seconds: float
    looks: int


def consistency(track: FaceTrack) -> Temporal:
    """Measure a track of at least 8 samples."""
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
        probability=INSTABILITY.probability(instability(jitter, motion, flicker)),
        embedding_jitter=jitter,
        landmark_motion=motion,
        flicker=flicker,
        blink_rate=rate,
        seconds=seconds,
        looks=len(track.times),
    )


def instability(jitter: float, motion: float, flicker: float) -> float:
    """Return the mean of the logarithms of the three measures, so that their units do not matter."""
    return float(np.mean(np.log(np.array([jitter, motion, flicker]) + TINY)))


def _upright(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return landmarks (n, 5, 2) in pixels of the aligned crop of 112, given those in pixels of the frame."""
    moved = np.empty_like(landmarks)
    for place, points in enumerate(landmarks):
        transform = similarity_transform([(float(x), float(y)) for x, y in points])
        moved[place] = points @ transform[:, :2].T + transform[:, 2]
    return moved


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def blinks(crops: Crops, times: NDArray[np.float64]) -> int:
    """Count the blinks; ``crops``: uint8 (n, 112, 112) of one face, grey; ``times``: seconds of each."""
    openness = np.minimum(*(_correlations(_patches(crops, eye)) for eye in EYES))
    best = np.maximum(*(_correlations(_patches(crops, eye)) for eye in EYES))
    # Both eyes are closed; a head that turns hides only one of them.
    closed = (openness < CLOSED) & (best < (1 + CLOSED) / 2)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], closed, [False]]).astype(np.int8)))
    count = 0
    for first, behind in zip(edges[::2], edges[1::2], strict=True):
        inside = first > 0 and behind < len(times)
        count += bool(inside and times[behind] - times[first - 1] <= LONGEST_S + (times[1] - times[0]))
    return count


def _patches(crops: Crops, eye: tuple[int, int]) -> NDArray[np.float64]:
    (x, y), (across, down) = eye, REACH
    return crops[:, y - down : y + down, x - across : x + across].reshape(len(crops), -1).astype(np.float64)


def _correlations(patches: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlation of each patch with the median of all, -1 to 1; 1 for patches without contrast."""
    template = np.median(patches, axis=0)
    template = template - template.mean()
    centred = patches - patches.mean(1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1) * np.linalg.norm(template)
    return np.where(lengths > 0, centred @ template / np.maximum(lengths, 1e-9), 1.0)
