"""Pictures that may become the keyframe of a shot, chosen while the video is decoded, so that it is decoded once.

A shot is known only some frames after it ended. So the sharpest frame of about every second is kept as a JPEG, and of
what is suddenly another picture too; which of them stand for a shot is decided at the end.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from vision.images import Pixels
from vision.media.reader import StreamFacts, VideoReader

SIDE: Final = 640
"""Pixels of the longer side of a keyframe, at most."""
QUALITY: Final = 88
APART_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """``sharpness``: as ``vision.shots.keyframes.sharpness`` says."""

    frame: int
    sharpness: float
    jpeg: bytes


class Candidates:
    """The sharpest frame of each stretch of ``APART_S`` that is offered in order."""

    def __init__(self, reader: VideoReader, size: tuple[int, int]) -> None:
        self._reader = reader
        self._size = size
        self._best: tuple[float, int, Any] | None = None
        self._until = float("-inf")

    def offer(self, frame: int, sharpness: float, picture: Any) -> None:
        """A frame of the present stretch, as the reader gave it."""
        if self._best is None:
            self._until = float(self._reader.times[frame]) + APART_S
        if self._best is None or sharpness > self._best[0]:
            self._best = (sharpness, frame, picture)

    def ended(self, frame: int) -> bool:
        """Whether the present stretch is over before this frame."""
        return self._best is not None and float(self._reader.times[frame]) >= self._until

    def take(self) -> list[Candidate]:
        """The sharpest frame since this was called last; none where none was offered."""
        if self._best is None:
            return []
        sharpness, frame, picture = self._best
        self._best = None
        return [Candidate(frame, sharpness, jpeg(self._reader.pixels(picture, self._size)))]


def size_of(facts: StreamFacts, side: int) -> tuple[int, int]:
    """Width and height of a frame, made to fit a square of ``side`` where it does not."""
    scale = max(1.0, max(facts.width, facts.height) / side)
    return max(1, round(facts.width / scale)), max(1, round(facts.height / scale))


def jpeg(pixels: Pixels) -> bytes:
    """RGB, uint8 (H, W, 3), as a JPEG."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
