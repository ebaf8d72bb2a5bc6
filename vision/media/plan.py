"""What to make of a video, described without any video library, so that a graph can describe it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from vision.errors import InvalidInput

Action = Literal["clip", "copy", "overlay"]
Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"]
CRF: Final = range(52)
EPSILON_S: Final = 1e-6
"""Times of a request are decimal fractions, those of frames are not."""


LONG_S: Final = 1.0
"""A frame that is shown for longer is cut where a part by time begins or ends; a shorter one is shown whole."""


class Part(NamedTuple):
    """Frames ``first`` to ``last``, both included, from ``start`` to ``end`` in seconds from the first of the video."""

    first: int
    last: int
    start: float
    end: float


class FrameOutOfRange(InvalidInput):
    """The video has no frame of this number."""

    code = "FRAME_OUT_OF_RANGE"

    @classmethod
    def of(cls, number: int, last: int) -> "FrameOutOfRange":
        """Return the error for a frame that does not exist."""
        return cls(f"There is no frame {number}; the last frame of this video is {last}.")


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """Options of x264; values out of range raise InvalidInput.

    ``crf``: 0 (lossless) to 51 (worst); ``preset``: how much time to spend on smaller files.
    """

    crf: int = 23
    preset: Preset = "veryfast"

    def __post_init__(self) -> None:
        if self.crf not in CRF:
            raise InvalidInput(f"crf must be between {CRF[0]} and {CRF[-1]}, got {self.crf}.")
        if self.preset not in get_args(Preset):
            raise InvalidInput(f"preset must be one of {', '.join(get_args(Preset))}.")


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """A part of a video and what to make of it.

    - ``clip``: MPEG-TS with H.264 and AAC, cut to the frame; ``caption`` is drawn into it, with frame number and time;
    - ``copy``: the packets as they are, so it begins at the key frame at or before the first frame;
    - ``overlay``: fragmented MP4 with H.264 and AAC, boxes and ``caption`` drawn in; where it is ``segmented`` for HTTP
      Live Streaming, one ``segment`` of it, see ``vision.media.segments``, or without a number the header of them all.

    The part is ``start_frame`` to ``end_frame``, both included, or what is shown from ``start_time`` to before
    ``end_time``, in seconds; None is the video's own beginning or end. Only frames that are shown for over a second are
    cut where these times are. With ``fps`` times are converted by that rate instead of by the times of the frames.
    """

    action: Action
    start_frame: int | None = None
    end_frame: int | None = None
    start_time: float | None = None
    end_time: float | None = None
    fps: float | None = None
    audio: bool = True
    caption: str = ""
    encoder: EncoderOptions = EncoderOptions()
    segmented: bool = False
    segment: int | None = None

    def part(self, times: NDArray[np.float64], end: float) -> Part:
        """Return the part of a video whose frames have these times, and whose last one is shown until ``end``.

        Raises FrameOutOfRange, and InvalidInput for a part that ends before it begins. A time behind the end is the
        end.
        """
        first, last = self._frames(times, end)
        ends = np.append(times[1:], end)
        start, until = float(times[first]), float(ends[last])
        opening = self.start_time if self.start_frame is None and self.fps is None else None
        if opening is not None and ends[first] - start > LONG_S:
            start = max(start, opening)
        ending = self.end_time if self.end_frame is None and self.fps is None else None
        if ending is not None and until - times[last] > LONG_S:
            until = min(until, ending)
        if start >= until and start == opening:
            raise InvalidInput(f"This part of the video would end at {until:g} s, before its start at {start:g} s.")
        return Part(first, last, start, until)

    def _frames(self, times: NDArray[np.float64], end: float) -> tuple[int, int]:
        last = len(times) - 1
        opening = self.start_time if self.start_frame is None else None
        if opening is not None and opening > times[-1] + EPSILON_S and opening >= end - EPSILON_S:
            raise InvalidInput(f"Nothing is shown at {opening:g} s; this video ends at {end:.3f} s.")
        first = self._frame(times, self.start_frame, self.start_time, opening=True)
        final = self._frame(times, self.end_frame, self.end_time, opening=False)
        first, final = 0 if first is None else first, last if final is None else final
        if self.end_frame is None:
            final = min(final, last)
        for number in (first, final):
            if not 0 <= number <= last:
                raise FrameOutOfRange.of(number, last)
        if first > final:
            raise InvalidInput(f"This part of the video would end at frame {final}, before its start at frame {first}.")
        return first, final

    def _frame(
        self, times: NDArray[np.float64], number: int | None, time: float | None, *, opening: bool
    ) -> int | None:
        if number is not None or time is None:
            return number
        if not 0 <= time < float("inf"):
            raise InvalidInput(f"A time is in seconds from the start of the video, not {time:g}.")
        if self.fps is not None:
            if not self.fps > 0:
                raise InvalidInput(f"fps must be above 0, not {self.fps:g}.")
            return round(time * self.fps) - (0 if opening else 1)
        if opening:
            return int(np.searchsorted(times, time + EPSILON_S, side="right")) - 1
        return int(np.searchsorted(times, time - EPSILON_S, side="left")) - 1


class Box(NamedTuple):
    """A labelled rectangle in pixels of the upright frame; ``colour`` picks one of the palette, by remainder."""

    x: float
    y: float
    width: float
    height: float
    label: str
    colour: int

    def scaled(self, across: float, down: float) -> "Box":
        """Return it in a frame that is so many times as wide and as high."""
        return self._replace(x=self.x * across, y=self.y * down, width=self.width * across, height=self.height * down)


@dataclass(frozen=True, slots=True, eq=False)
class BoxTrack:
    """Boxes by frame.

    ``frames``: int64 (n,) ascending; ``boxes``: float32 (n, 4), x, y, width, height in pixels; ``colours``: int32 (n,);
    ``names``: int32 (n,), places in ``labels``.
    """

    frames: NDArray[np.int64]
    boxes: NDArray[np.float32]
    colours: NDArray[np.int32]
    names: NDArray[np.int32]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, rows: Iterable[tuple[int, Box]]) -> "BoxTrack":
        """Return the track of (frame, box) in any order."""
        ordered = sorted(rows, key=lambda row: row[0])
        labels = {label: place for place, label in enumerate(dict.fromkeys(box.label for _, box in ordered))}
        return cls(
            np.array([frame for frame, _ in ordered], np.int64),
            np.array([box[:4] for _, box in ordered], np.float32).reshape(-1, 4),
            np.array([box.colour for _, box in ordered], np.int32),
            np.array([labels[box.label] for _, box in ordered], np.int32),
            tuple(labels),
        )

    def at(self, frame: int) -> list[Box]:
        """Return the boxes of one frame."""
        first, behind = np.searchsorted(self.frames, [frame, frame + 1])
        boxes = []
        for row in range(first, behind):
            x, y, width, height = self.boxes[row].tolist()
            boxes.append(Box(x, y, width, height, self.labels[self.names[row]], int(self.colours[row])))
        return boxes


@dataclass(frozen=True, slots=True, eq=False)
class ClipRequest:
    """A clip to stream; ``key``: of the video in the object store; ``boxes``: what an overlay draws."""

    key: str
    plan: ClipPlan
    boxes: BoxTrack | None = None


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What a stream will hold.

    First and last frame of the source, both included, their count, the time of the first and the end of the last in
    seconds, and the content type. A copy may begin before the frame that was asked for. ``boundaries``: of the segments
    of a segmented part, in seconds, the end of the last one included; empty for one of them, and for other plans.
    """

    first_frame: int
    last_frame: int
    frame_count: int
    start_time: float
    end_time: float
    content_type: str
    boundaries: tuple[float, ...] = ()
