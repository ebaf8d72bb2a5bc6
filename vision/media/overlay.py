"""Labelled boxes and captions, drawn into frames: of RGB, or of YUV as an encoder takes them."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np

from vision.colour import BT709, BT2020
from vision.images import Pixels
from vision.media.plan import Box

Colour = tuple[int, int, int]
Planes = tuple[Pixels, Pixels, Pixels]
"""Y, U and V of 4:2:0, uint8 (H, W) and twice (H / 2, W / 2), in the narrow range."""

# Distinct from each other and from skin, also for people who do not see red and green: Okabe and Ito 2008.
PALETTE: Final[tuple[Colour, ...]] = (
    *((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167), (255, 255, 255)),
)
BACKING: Final[Colour] = (16, 16, 16)
WHITE: Final[Colour] = (255, 255, 255)
WEIGHT: Final = 500
"""Weight of the font, 100 to 900."""
SMALLEST_TEXT: Final = 12
"""Pixels; smaller text does not survive compression."""
_WEIGHTS: Final = {BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593), 4: (0.30, 0.11), 7: (0.212, 0.087)}
"""Of red and blue in luminance, by the code of the matrix in H.273; those of BT.601 are the others."""
_BT601: Final = (0.299, 0.114)


class _Layer(NamedTuple):
    """Samples of a frame, each of ``apart`` x ``apart`` pixels, and what a colour is in them."""

    samples: Pixels
    apart: int
    paint: Callable[[Colour], Any]


class Overlay:
    """Draws into frames, RGB, uint8 (H, W, 3), or YUV, in place; text and lines grow with the frame.

    ``matrix`` is that of YUV, by its code in H.273.
    """

    def __init__(self, width: int, height: int, matrix: int = BT709) -> None:
        self._width, self._height = width, height
        self._weights = _WEIGHTS.get(matrix, _BT601)
        self._text = max(SMALLEST_TEXT, round(min(width, height) / 28))
        self._line = max(2, round(min(width, height) / 300))

    def boxes(self, frame: Pixels | Planes, boxes: Iterable[Box]) -> None:
        """Draw boxes and their labels: outlines first, so that no line crosses a label."""
        layers = self._layers(frame)
        boxes = list(boxes)
        for box in boxes:
            corner = round(box.x + box.width) - 1, round(box.y + box.height) - 1
            self._rectangle(layers, (round(box.x), round(box.y)), corner, self._colour(box.colour), self._line)
        for box in boxes:
            if box.label:
                above = round(box.y) - self._line - self._text * 3 // 2
                inside = round(box.y) + self._line
                self._label(layers, box.label, round(box.x), above if above >= 0 else inside, box.colour)

    def caption(self, frame: Pixels | Planes, text: str) -> None:
        """Draw a caption, white on dark, in the top left corner."""
        self._label(self._layers(frame), text, self._text // 2, self._text // 2, None)

    def _layers(self, frame: Pixels | Planes) -> list[_Layer]:
        if isinstance(frame, np.ndarray):
            return [_Layer(frame, 1, tuple)]
        return [_Layer(plane, 2 if place else 1, self._component(place)) for place, plane in enumerate(frame)]

    def _component(self, place: int) -> Callable[[Colour], int]:
        """Return what turns a colour into its Y, U or V."""
        of_red, of_blue = self._weights

        def component(colour: Colour) -> int:
            red, green, blue = (level / 255 for level in colour)
            luma = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
            if not place:
                return round(16 + 219 * luma)
            excess = (blue - luma) / (1 - of_blue) if place == 1 else (red - luma) / (1 - of_red)
            return round(128 + 112 * excess)

        return component

    @staticmethod
    def _colour(number: int) -> Colour:
        return PALETTE[number % len(PALETTE)]

    @staticmethod
    def _rectangle(
        layers: Iterable[_Layer], first: tuple[int, int], last: tuple[int, int], colour: Colour, line: int | None = None
    ) -> None:
        """Draw the outline of a rectangle, or fill it, up to the corner ``last``, in pixels of the frame."""
        import cv2

        for samples, apart, paint in layers:
            begin, end = ((x // apart, y // apart) for x, y in (first, last))
            thickness = cv2.FILLED if line is None else max(1, round(line / apart))
            cv2.rectangle(samples, begin, end, paint(colour), thickness)

    def _label(self, layers: list[_Layer], text: str, left: int, top: int, colour: int | None) -> None:
        import cv2

        pad = self._text // 3
        (_, _, wide, _) = cv2.getTextSize((0, 0), text, (0, 0), self._font, self._text, WEIGHT)
        width, height = wide + 2 * pad, self._text * 3 // 2
        left = max(0, min(left, self._width - width))
        top = max(0, min(top, self._height - height))
        self._rectangle(layers, (left, top), (left + width, top + height), BACKING)
        if colour is not None:
            self._rectangle(layers, (left, top), (left + self._line, top + height), self._colour(colour))
        base = left + pad, top + round(self._text * 1.15)
        # Its U and V are those of the grey behind it.
        samples, _, paint = layers[0]
        cv2.putText(samples, text, base, paint(WHITE), self._font, self._text, WEIGHT)

    @cached_property
    def _font(self) -> Any:
        import cv2

        return cv2.FontFace("sans")


def timecode(seconds: float) -> str:
    """Return a time as ``hh:mm:ss.mmm``."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
