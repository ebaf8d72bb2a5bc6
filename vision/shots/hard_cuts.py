"""Hard cuts of a video, from how much each frame differs from the frames before it.

Each frame is shrunk to a thumbnail, which averages out motion and noise but not a change of scene. The change
between two thumbnails is the mean of two parts, both 0 to 1: the mean absolute difference of the pixels, and half the
L1 distance of the histograms of their colours. A frame is the first of a shot where the change from the frame before
is a peak far above those around it (the adaptive threshold of PySceneDetect, https://www.scenedetect.com), and where
it lasts: after a flash the image is as before. Dissolves and fades are not cuts.
"""

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels

THUMBNAIL: Final = (32, 18)
"""(width, height) in pixels, for every aspect ratio."""
LASTING: Final = 4
"""Frames after which a change must persist; flashes of up to three frames are not cuts."""
REACH: Final = 5
"""Frames on either side to compare a peak with."""
LEAST: Final = 0.07
RATIO: Final = 3.0
"""Least ratio of a peak to its neighbours."""
LASTS: Final = 0.6
"""Share of the change that must persist over ``LASTING`` frames before and after."""
BINS: Final = 8
"""Bins of each colour channel in a histogram."""

Changes = NDArray[np.float32]


class ChangeMeter:
    """Measures the changes of frames in order; pass each thumbnail to ``update``."""

    sudden: bool
    """Whether the last frame may be the first of a shot, judged without the frames after it."""

    def __init__(self) -> None:
        self.sudden = False
        self._changes: deque[float] = deque([0.0], maxlen=REACH)
        self._before: deque[tuple[NDArray[np.int16], NDArray[np.float32]]] = deque(maxlen=LASTING)

    def update(self, thumbnail: Pixels) -> tuple[float, float]:
        """Return the change of this frame, uint8 (h, w, 3), from the previous one and from ``LASTING`` frames before.

        All thumbnails of a video have the same size, for example ``THUMBNAIL``.

        Before the first frame everything was as in the first frame.
        """
        now = thumbnail.astype(np.int16), _histograms(thumbnail)
        if not self._before:
            self._before.append(now)
        changes = _change(now, self._before[-1]), _change(now, self._before[0])
        self.sudden = changes[0] >= max(LEAST, RATIO * sum(self._changes) / len(self._changes))
        self._before.append(now)
        self._changes.append(changes[0])
        return changes


def cuts(changes: Changes) -> tuple[int, ...]:
    """Return the indices of the first frames of all shots but the first; ``changes``: float32[n, 2] of frames in
    order."""
    if len(changes) < 2:
        return ()
    sudden = changes[:, 0]
    padded = np.pad(sudden, REACH)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1)
    others = np.delete(around, REACH, axis=1)
    # The second greatest, as another cut may be near.
    beside = np.sort(others, axis=1)[:, -2]
    after = np.minimum(np.arange(len(changes)) + LASTING - 1, len(changes) - 1)
    peak = (sudden >= LEAST) & (sudden >= RATIO * np.minimum(beside, others.mean(1)))
    # The first frame of a flash differs from the frames after it, the frame after a flash not from those before it.
    lasting = np.minimum(changes[:, 1], changes[after, 1]) >= LASTS * sudden
    return tuple(np.flatnonzero(peak & lasting).tolist())


def _histograms(thumbnail: Pixels) -> NDArray[np.float32]:
    """Return float32[3 · BINS], 1 in total per channel; a value between two bins counts in both."""
    places = thumbnail.reshape(-1, 3).T.astype(np.float32) * ((BINS - 1) / 255)
    low = np.minimum(places.astype(np.intp), BINS - 2)
    share = places - low
    offset = np.arange(3)[:, None] * BINS
    bins = np.bincount((low + offset).ravel(), (1 - share).ravel(), 3 * BINS)
    bins += np.bincount((low + offset + 1).ravel(), share.ravel(), 3 * BINS)
    histograms: NDArray[np.float32] = (bins / places.shape[1]).astype(np.float32)
    return histograms


def _change(
    now: tuple[NDArray[np.int16], NDArray[np.float32]], before: tuple[NDArray[np.int16], NDArray[np.float32]]
) -> float:
    pixels = np.abs(now[0] - before[0]).mean() / 255
    colours = np.abs(now[1] - before[1]).sum() / 6
    return float(pixels + colours) / 2
