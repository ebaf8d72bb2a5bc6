"""Labelled boxes and captions, drawn into frames."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any, Final

from vision.images import Pixels
from vision.media.plan import Box

Colour = tuple[int, int, int]

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


class Overlay:
    """Draws into RGB frames, uint8 (H, W, 3), in place; text and lines grow with the frame."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._text = max(SMALLEST_TEXT, round(min(width, height) / 28))
        self._line = max(2, round(min(width, height) / 300))

    def boxes(self, frame: Pixels, boxes: Iterable[Box]) -> None:
        """Draw boxes and their labels: outlines first, so that no line crosses a label."""
        import cv2

        boxes = list(boxes)
        for box in boxes:
            x, y = round(box.x), round(box.y)
            corner = round(box.x + box.width) - 1, round(box.y + box.height) - 1
            cv2.rectangle(frame, (x, y), corner, PALETTE[box.colour % len(PALETTE)], self._line)
        for box in boxes:
            if box.label:
                above = round(box.y) - self._line - self._text * 3 // 2
                inside = round(box.y) + self._line
                self._label(frame, box.label, round(box.x), above if above >= 0 else inside, box.colour)

    def caption(self, frame: Pixels, text: str) -> None:
        """Draw a caption, white on dark, in the top left corner."""
        self._label(frame, text, self._text // 2, self._text // 2, None)

    def _label(self, frame: Pixels, text: str, left: int, top: int, colour: int | None) -> None:
        import cv2

        pad = self._text // 3
        (_, _, wide, _) = cv2.getTextSize((0, 0), text, (0, 0), self._font, self._text, WEIGHT)
        width, height = wide + 2 * pad, self._text * 3 // 2
        left = max(0, min(left, self._width - width))
        top = max(0, min(top, self._height - height))
        cv2.rectangle(frame, (left, top), (left + width, top + height), BACKING, cv2.FILLED)
        if colour is not None:
            cv2.rectangle(
                frame, (left, top), (left + self._line, top + height), PALETTE[colour % len(PALETTE)], cv2.FILLED
            )
        base = left + pad, top + round(self._text * 1.15)
        cv2.putText(frame, text, base, WHITE, self._font, self._text, WEIGHT)

    @cached_property
    def _font(self) -> Any:
        import cv2

        return cv2.FontFace("sans")


def timecode(seconds: float) -> str:
    """Return a time as ``hh:mm:ss.mmm``."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
