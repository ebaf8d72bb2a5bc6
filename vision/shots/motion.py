"""What is known of the motion between two frames: one row of numbers, and what each of them is."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Motions = NDArray[np.float32]
"""float32 (pairs, 8), a row for each pair of consecutive frames; the columns are those of ``Motion``."""


class Motion(IntEnum):
    """Columns of ``Motions``. All motion is that of the picture's content, the opposite of the camera's.

    The first four are the global motion, that of the background, about the middle of the frame.
    """

    DX = 0
    """To the right, as a fraction of the frame's width."""
    DY = 1
    """Down, as a fraction of its height."""
    SCALE = 2
    """Natural logarithm of the magnification; above 0 the content grows."""
    ROTATION = 3
    """Radians, clockwise as seen."""
    INLIERS = 4
    """Share of the tracked points that move with it, 0 to 1. It is 0, and so are all others, where nothing could be
    measured: in black frames, on plain walls, after a cut."""
    RESIDUAL = 5
    """What the global motion does not explain: root mean square over all points, each counted up to a tenth of the
    diagonal, as a fraction of the frame's diagonal."""
    STILL = 6
    """Share of the points in the middle of the frame that stay where they are while the background moves, 0 to 1."""
    PARALLAX = 7
    """How much more the points of the background stray along the global motion than across it (difference of the mean
    absolute deviations, as a fraction of the diagonal): around 0 for a camera that turns or zooms, above it for one
    that travels past things at different depths. One pair says little; the mean over a shot does."""
