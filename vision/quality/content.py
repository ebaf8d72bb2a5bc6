"""What a picture shows that BRISQUE was not made for: plain grounds, flat colours, blur by focus.

BRISQUE was trained on photographs that are sharp all over, and on such photographs distorted all over. Where most of a
picture is plain it takes the plain part for blur, whatever the rest is like; and drawings have other statistics than
photographs. So the picture is looked at at half its size, in blocks of 1/16 of its shorter side: how much detail each
has, and how bright it is. ``ops.bench.exposure`` measures what comes of it.
"""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels

Content = Literal["plain_ground", "flat_colours", "shallow_focus"]

LONGEST_SIDE: Final = 720
"""Pixels of the shorter side of what is looked at, at most: details of larger pictures cost time and tell no more."""
BLOCKS: Final = 16
"""Along the shorter side."""
LEAST_BLOCK: Final = 4
"""Pixels of a side."""
PLAIN: Final = 0.5
"""Least share of blocks without detail."""
SMOOTH: Final = 4.0
"""Mean square of the Laplacian, in grey levels, below which a block has no detail; codecs alone make about 1."""
DETAIL: Final = 90.0
"""Mean square from which on a part is in focus; a picture without such a part is blurred as a whole."""
IN_FOCUS: Final = 0.98
"""Quantile of the blocks, by their detail, that is such a part."""
BLACK: Final = 20
WHITE: Final = 235
"""Means of blocks from which on a ground counts as black, and as white."""
FLAT: Final = 0.5
"""Least share of pixels in 5x5 of one level; of photographs only very strong compression makes as many."""
AROUND: Final = 5


def outside(image: Pixels) -> tuple[Content, ...]:
    """Return why BRISQUE may misjudge an image, uint8 (H, W, 3) RGB; nothing for most photographs.

    ``plain_ground``: most of it is plain black or white, behind something; ``shallow_focus``: most of it is out of
    focus, a part is not; ``flat_colours``: much of it has not even noise, as in drawings, charts and pictures of
    screens.
    """
    import cv2

    scale = min(0.5, LONGEST_SIDE / min(image.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    details, levels = _blocks(small)
    if np.quantile(details, IN_FOCUS) < DETAIL:
        return ()
    smooth = details < SMOOTH
    plain = smooth.mean() >= PLAIN
    if plain and ((levels < BLACK) | (levels > WHITE))[smooth].mean() >= PLAIN:
        return ("plain_ground",)
    if _flat(small) >= FLAT:
        return ("flat_colours",)
    return ("shallow_focus",) if plain else ()


def _blocks(grey: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return float32[n, m], the mean square of the Laplacian in each block, and its mean level."""
    import cv2

    laplacian = cv2.Laplacian(grey, cv2.CV_16S)
    energy = cv2.multiply(laplacian, laplacian, dtype=cv2.CV_32F)
    height, width = grey.shape
    side = max(LEAST_BLOCK, min(height, width) // BLOCKS)
    size = max(1, round(width / side)), max(1, round(height / side))
    details, levels = (
        cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in (energy, grey.astype(np.float32))
    )
    return details, levels


def _flat(grey: NDArray[np.uint8]) -> float:
    """Return the share of pixels, 0 to 1, that have the level of all pixels around them."""
    import cv2

    around = np.ones((AROUND, AROUND), np.uint8)
    return 1 - cv2.countNonZero(cv2.subtract(cv2.dilate(grey, around), cv2.erode(grey, around))) / grey.size
