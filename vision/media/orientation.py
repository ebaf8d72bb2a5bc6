"""How decoded frames have to be turned to stand upright."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vision.images import Pixels


@dataclass(frozen=True, slots=True)
class Orientation:
    """Swap the axes first, if at all, then mirror. Of a display matrix only the right angles are taken."""

    swapped: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    @classmethod
    def of(cls, frame: Any) -> "Orientation":
        """Of a PyAV VideoFrame, by its display matrix."""
        for data in frame.side_data:
            if data.type.name == "DISPLAYMATRIX":
                # A pixel at (x, y) is shown at (a x + c y, b x + d y), but for an offset.
                (a, b, _), (c, d, _), _ = np.frombuffer(bytes(data), np.int32).reshape(3, 3).tolist()
                swapped = abs(b) + abs(c) > abs(a) + abs(d)
                return cls(swapped, *((c < 0, b < 0) if swapped else (a < 0, d < 0)))
        return cls()

    @property
    def turns(self) -> bool:
        """Whether there is anything to do."""
        return self.swapped or self.mirrored_x or self.mirrored_y

    @property
    def clockwise(self) -> int:
        """Degrees by which a player turns, after it has mirrored from left to right where that is needed."""
        if self.swapped:
            return 270 if self.mirrored_y else 90
        return 180 if self.mirrored_y else 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as shown, or back again."""
        return (height, width) if self.swapped else (width, height)

    def upright(self, pixels: Pixels) -> Pixels:
        """A plane or an image, uint8 (H, W) or (H, W, channels), as shown; contiguous."""
        if self.swapped:
            pixels = pixels.swapaxes(0, 1)
        return np.ascontiguousarray(pixels[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1])
