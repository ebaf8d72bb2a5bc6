"""The query parameters that streams share: which part of a video, with boxes drawn in or not, with sound or not."""

from typing import Annotated, Final, Literal, NamedTuple

from fastapi import Depends, Query
from pydantic import Field, FiniteFloat

from graphs.media.schemas import FrameNumber
from vision.errors import InvalidInput
from vision.media.plan import Action, ClipPlan

MAX_SECONDS: Final = 10**7

Moment = Annotated[FiniteFloat, Field(ge=0, le=MAX_SECONDS)]
Mode = Annotated[
    Literal["normal", "debug"],
    Query(
        description="debug: boxes of faces and objects, and the number and time of each frame, are drawn on the picture"
    ),
]
Audio = Annotated[Literal["on", "off"], Query(description="off: without sound")]
StartFrame = Annotated[FrameNumber | None, Query(description="zero-based; needs end_frame", examples=[0])]
EndFrame = Annotated[FrameNumber | None, Query(description="the last frame of the part", examples=[47])]
StartTime = Annotated[Moment | None, Query(description="seconds from the first frame; needs end_time", examples=[30])]
EndTime = Annotated[
    Moment | None, Query(description="seconds; the part ends before it, or with the video", examples=[45])
]
Fps = Annotated[
    float | None,
    Query(
        gt=0,
        le=1000,
        description="turns start_time and end_time into frame numbers at this rate, in place of the frames' time "
        "stamps; frame numbers need no rate",
        examples=[25],
    ),
]


class Span(NamedTuple):
    """A part of a video by frames, ``end_frame`` included, or by seconds; all None for the whole."""

    start_frame: int | None = None
    end_frame: int | None = None
    start_time: float | None = None
    end_time: float | None = None
    fps: float | None = None

    @property
    def is_whole(self) -> bool:
        """Return whether no part was asked for."""
        return self[:4] == (None,) * 4

    @property
    def label(self) -> str:
        """Return what tells this part from others, for the name of a file; empty for the whole."""
        if self.start_frame is not None:
            return f"frames {self.start_frame}-{self.end_frame}"
        return "" if self.start_time is None else f"{self.start_time:g}-{self.end_time:g} s"

    def or_frames(self, first_frame: int, last_frame: int) -> "Span":
        """Return this part; where none was asked for, that of these frames."""
        return Span(first_frame, last_frame) if self.is_whole else self

    def plan(self, action: Action, audio: str, caption: str = "") -> ClipPlan:
        """Return what to make of this part."""
        return ClipPlan(action, *self, audio=audio == "on", caption=caption)


async def span_of(
    start_frame: StartFrame = None,
    end_frame: EndFrame = None,
    start_time: StartTime = None,
    end_time: EndTime = None,
    fps: Fps = None,
) -> Span:
    """Return the requested part. Raises InvalidInput for half a part, two parts, and one that runs backwards."""
    span = Span(start_frame, end_frame, start_time, end_time, fps)
    given = [name for name, value in zip(Span._fields[:4], span, strict=False) if value is not None]
    if any(name.endswith("frame") for name in given) and any(name.endswith("time") for name in given):
        raise InvalidInput(f"Give the part by frames or by times; {', '.join(given)} are both.")
    if len(given) == 1:
        start, _, unit = given[0].partition("_")
        missing = f"{'end' if start == 'start' else 'start'}_{unit}"
        raise InvalidInput(f"{given[0]} is given without {missing}; a part needs both.")
    if start_frame is not None and end_frame is not None and start_frame > end_frame:
        raise InvalidInput(f"start_frame {start_frame} is after end_frame {end_frame}.")
    if start_time is not None and end_time is not None and start_time >= end_time:
        raise InvalidInput(f"start_time {start_time:g} is not before end_time {end_time:g}.")
    return span


SpanOf = Annotated[Span, Depends(span_of)]
