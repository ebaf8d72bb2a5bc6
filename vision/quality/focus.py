"""Focus: where in an image its edges are sharp, and where they are blurred or missing.

The blur of each edge is estimated as ``blur`` does, from how much of its gradient a further blur leaves, so contrast
and colour do not count. What is between edges takes the value of those around it, weighed by their number (normalised
convolution, Knutsson and Westin 1993); a part without any edge (sky, a wall, a background blurred to nothing) has 0.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.images import Pixels
from vision.quality.blur import DEEPEST, SHARPEST, edge_blurs

Focus = NDArray[np.float32]
"""float32 (h, w) in 0..1: 1 where edges are as sharp as the image can show, 0 where they are blurred or missing."""

SIDE: Final = 1024
"""Longer side in pixels of the copy that is measured, as large as a screen shows a picture."""
MAP_SIDE: Final = 128
"""Longer side of the map, in cells."""
SPREAD: Final = 1.5
"""Standard deviation in cells of the Gaussian that carries the value of an edge to what is around it."""
FEW: Final = 0.25
"""Edge pixels for each cell around at which a value counts by one half; more of them count by more."""


def focus_map(image: Pixels) -> Focus:
    """Return the map of an image, uint8 (H, W, 3) RGB, in its aspect ratio.

    A cell has the mean over the edges around it of ``1 - ln(blur) / ln(5)``, where their blur is a standard deviation
    of 1 to 5 pixels of the copy.
    """
    import cv2

    scale = min(1.0, SIDE / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    rows, columns, blurs = edge_blurs(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
    sharpness = 1 - np.log(blurs.clip(SHARPEST, DEEPEST) / SHARPEST) / np.log(DEEPEST / SHARPEST)
    side = max(height, width) / MAP_SIDE
    cells = max(1, round(height / side)), max(1, round(width / side))
    at = (rows * cells[0] // height) * cells[1] + columns * cells[1] // width

    def around(weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        sums = np.bincount(at, weights, cells[0] * cells[1]).astype(np.float64).reshape(cells)
        spread: NDArray[np.float64] = cv2.GaussianBlur(sums, (0, 0), SPREAD).astype(np.float64, copy=False)
        return spread

    focus: Focus = (around(sharpness) / (around(None) + FEW)).clip(0, 1).astype(np.float32)
    return focus
