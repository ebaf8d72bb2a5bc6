"""Reads JPEGs whose end is missing, and tells those that lack nothing to be seen from those that are cut short."""

from io import BytesIO
from typing import Final

import numpy as np
from PIL import Image

JPEG_END: Final = b"\xff\xd9"
MOST_LOST: Final = 400
"""Pixels that may hang on what is missing: a last block of 16 x 16, and what its colours are smoothed over."""
LEAST_SHOWN: Final = 0.99
_ROWS: Final = 64
"""Compared at a time."""
_NOISE: Final = bytes(np.random.default_rng(0).integers(0, 255, 256, np.uint8))


class JpegSource(BytesIO):
    """A JPEG that ends by an end mark, though the file has none.

    A decoder makes grey of what is missing. ``with_noise`` puts random bytes in its place instead, so what hangs on
    missing bytes differs between the two.
    """

    def __init__(self, data: bytes, *, with_noise: bool = False) -> None:
        whole = data.rstrip(b"\xff")  # the first byte of a marker that is not there
        super().__init__(whole + (_NOISE if with_noise else b"") + JPEG_END)


def shown_share(grey: Image.Image, noise: Image.Image) -> float:
    """Return the share of rows above the first one that hangs on missing bytes, 1 where no more than a block does.

    ``grey`` and ``noise``: the picture decoded with either in place of those.
    """
    lost, first = 0, grey.height
    for top in range(0, grey.height, _ROWS):
        rows = (0, top, grey.width, min(top + _ROWS, grey.height))
        left, right = np.asarray(grey.crop(rows)), np.asarray(noise.crop(rows))
        differs = (left != right).reshape(*left.shape[:2], -1).any(2)
        lost += int(differs.sum())
        if first == grey.height and differs.any():
            first = top + int(differs.any(1).argmax())
    if lost <= min(MOST_LOST, (1 - LEAST_SHOWN) * grey.width * grey.height):
        return 1.0
    return first / grey.height
