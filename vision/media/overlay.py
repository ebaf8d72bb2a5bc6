"""Labelled boxes and captions, drawn into frames: of RGB, or of YUV as an encoder takes them."""

from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from vision.colour import BT709, BT2020
from vision.images import Pixels
from vision.media.labels import Label, LabelPlacer
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
CROWDS: Final = ((8, 1.0), (20, 0.7), (0, 0.5))
"""How large text is, by the most boxes that a frame has: it takes less room where there are many."""
CROWD_LASTS: Final = 0.98
"""What is left of a crowd in the next frame, so that text does not change its size with each face."""
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
        self._smallest = max(SMALLEST_TEXT, round(min(width, height) / 60))
        self._line = max(2, round(min(width, height) / 300))
        self._crowd = 0.0
        self._placer = LabelPlacer(width, height, self._line)
        self._label_of = lru_cache(maxsize=1024)(self._measured)

    def draw(self, frame: Pixels | Planes, boxes: Iterable[Box], caption: str = "") -> None:
        """Draw boxes, their labels, and a caption, white on dark, in the top left corner.

        Outlines come first, so that no line crosses a label; no label covers another one or the caption. One for which
        there is no room is left out.
        """
        layers, boxes = self._layers(frame), list(boxes)
        for box in boxes:
            corner = round(box.x + box.width) - 1, round(box.y + box.height) - 1
            self._rectangle(layers, (round(box.x), round(box.y)), corner, self._colour(box.colour), self._line)
        margin, taken = self._text // 2, []
        title = self._measured(caption, self._text)
        if caption:
            taken.append((margin, margin, margin + title.width, margin + title.height))
        text = self._text_for(len(boxes))
        named = [box for box in boxes if box.label]
        edges = np.array([(b.x, b.y, b.x + b.width, b.y + b.height) for b in named], np.float64).reshape(-1, 4)
        places = self._placer.place(edges, (labels := [self._label_of(box.label, text) for box in named]), taken)
        for box, place in zip(named, places, strict=True):
            if place is not None and place.line is not None:
                self._join(layers, *place.line, self._colour(box.colour))
        for box, label, place in zip(named, labels, places, strict=True):
            if place is not None:
                self._label(layers, label, text, place.left, place.top, box.colour)
        if caption:
            self._label(layers, title, self._text, margin, margin, None)

    def _text_for(self, count: int) -> int:
        """Return the size of text in a frame of so many boxes, in pixels."""
        self._crowd = max(count, self._crowd * CROWD_LASTS)
        share = next(share for most, share in CROWDS if self._crowd <= most or not most)
        return max(self._smallest, round(self._text * share))

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

    def _measured(self, text: str, size: int) -> Label:
        """Return a text with the size of its label; ``size`` is that of its letters, in pixels."""
        import cv2

        (_, _, wide, _) = cv2.getTextSize((0, 0), text, (0, 0), self._font, size, WEIGHT)
        return Label(text, wide + size, size * 3 // 2)

    def _join(self, layers: list[_Layer], start: tuple[int, int], end: tuple[int, int], colour: Colour) -> None:
        import cv2

        for samples, apart, paint in layers:
            begin, stop = ((x // apart, y // apart) for x, y in (start, end))
            cv2.line(samples, begin, stop, paint(colour), max(1, round(self._line / apart)), cv2.LINE_AA)

    def _label(self, layers: list[_Layer], label: Label, text: int, left: int, top: int, colour: int | None) -> None:
        import cv2

        right, bottom = left + label.width - 1, top + label.height - 1
        self._rectangle(layers, (left, top), (right, bottom), BACKING)
        if colour is not None:
            self._rectangle(layers, (left, top), (left + text // 4, bottom), self._colour(colour))
        base = left + text // 2, top + round(text * 1.15)
        # Its U and V are those of the grey behind it.
        samples, _, paint = layers[0]
        cv2.putText(samples, str(label.name), base, paint(WHITE), self._font, text, WEIGHT)

    @cached_property
    def _font(self) -> Any:
        import cv2

        return cv2.FontFace("sans")


def timecode(seconds: float) -> str:
    """Return a time as ``hh:mm:ss.mmm``."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
