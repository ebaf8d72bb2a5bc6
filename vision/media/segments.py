"""The segments of a video for HTTP Live Streaming (RFC 8216): where each begins and ends, from the times of frames.

They depend on nothing but the times, so a playlist can name all of them before any is made, and each is made alone.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import StageError
from vision.media.plan import EPSILON_S, Part

SEGMENT_S: Final = 4.0
"""Seconds after which a segment ends with the next frame: a player waits for the first one, and loads two or three."""
LONGEST_S: Final = 2 * SEGMENT_S
"""A frame that is shown for so long that its segment would be longer is shown again in the next one."""
MOST_FRAMES: Final = 600
"""Of one segment, at any rate of frames."""


class SegmentNotFound(StageError):
    """The part of the video has no segment of this number."""

    code = "SEGMENT_NOT_FOUND"
    status = 404

    @classmethod
    def of(cls, number: int, count: int) -> "SegmentNotFound":
        """Return the error for a segment that does not exist."""
        return cls(f"There is no segment {number}; the last one of this stream is {count - 1}, see its playlist.")


def segments(times: NDArray[np.float64], whole: Part) -> list[Part]:
    """Return the segments of a part of a video whose frames have these times; one follows the other without a gap.

    Each begins with a frame, but for the rest of one that is shown for longer than a segment may be.
    """
    parts: list[Part] = []
    first, start = whole.first, whole.start
    while True:
        wanted = int(np.searchsorted(times, start + SEGMENT_S - EPSILON_S))
        behind = min(max(wanted, first + 1), first + MOST_FRAMES, whole.last + 1)
        end = whole.end if behind > whole.last else float(times[behind])
        is_long = end - start > LONGEST_S
        end = start + SEGMENT_S if is_long else end
        parts.append(Part(first, behind - 1, start, end))
        if end >= whole.end:
            return parts
        first, start = behind - is_long, end


def segment(times: NDArray[np.float64], whole: Part, number: int) -> Part:
    """Return one of the segments. Raises SegmentNotFound."""
    parts = segments(times, whole)
    if not 0 <= number < len(parts):
        raise SegmentNotFound.of(number, len(parts))
    return parts[number]
