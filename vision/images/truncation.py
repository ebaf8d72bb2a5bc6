"""Reads JPEGs whose end is missing, and tells those that lack nothing to be seen from those that are cut short."""

from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray

JPEG_END: Final = b"\xff\xd9"
MOST_LOST: Final = 400
"""Pixels that may hang on what is missing: a last block of 16 x 16, and what its colours are smoothed over."""
LEAST_SHOWN: Final = 0.99
_NOISE: Final = bytes(np.random.default_rng(0).integers(0, 255, 256, np.uint8))


class JpegSource(BytesIO):
    """A JPEG that ends by an end mark, though the file has none.

    A decoder makes grey of what is missing. ``with_noise`` puts random bytes in its place instead, so what hangs on
    missing bytes differs between the two.
    """

    def __init__(self, data: bytes, *, with_noise: bool = False) -> None:
        whole = data.rstrip(b"\xff")  # the first byte of a marker that is not there
        super().__init__(whole + (_NOISE if with_noise else b"") + JPEG_END)


def shown_share(grey: NDArray[np.uint8], noise: NDArray[np.uint8]) -> float:
    """Return the share of rows above the first one that hangs on missing bytes, 1 where no more than a block does.

    ``grey`` and ``noise``: the picture decoded with either in place of those, (H, W) or (H, W, C).
    """
    differs = (grey != noise).reshape(*grey.shape[:2], -1).any(2)
    lost = int(differs.sum())
    if lost <= min(MOST_LOST, (1 - LEAST_SHOWN) * differs.size):
        return 1.0
    return float(differs.any(1).argmax()) / len(differs)
