"""What the header of a JPEG says of how it was saved; no pixel is decoded."""

from typing import Final

from vision.images import opened

_ORIENTATION_TAG: Final = 0x0112
_STEPS: Final = 64


def luma_table(data: bytes, max_pixels: int) -> tuple[int, ...] | None:
    """The 64 steps, row by row, by which the luminance was quantised; None for what is no JPEG.

    None too for a picture that is turned when it is shown: its blocks lie elsewhere then. Raises as ``opened``.
    """
    with opened(data, max_pixels) as image:
        tables = getattr(image, "quantization", None)
        if not tables or image.getexif().get(_ORIENTATION_TAG, 1) != 1:
            return None
        first = min(tables)
        steps = tuple(int(step) for step in tables[first])
    return steps if len(steps) == _STEPS and min(steps) > 0 else None
