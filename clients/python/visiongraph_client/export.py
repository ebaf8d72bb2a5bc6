"""What was found in a video, for editors and spreadsheets: CSV, JSON, EDL (CMX 3600) and OTIO (OpenTimelineIO).

Frames are counted from 0 in order of presentation, as the service counts them. Timecodes begin at 00:00:00:00 and count
every frame (non-drop) at the nearest whole rate, so that a timecode names exactly one frame of the file.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

MAX_EVENTS: Final = 9999
REEL: Final = "AX"
"""What an editor asks the user to link to a file."""


@dataclass(frozen=True, slots=True)
class Event:
    """A stretch of a video: ``first_frame`` to ``last_frame``, both included, and the same in seconds."""

    name: str
    first_frame: int
    last_frame: int
    start_s: float
    end_s: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Film:
    """The video that events are of; ``fps`` is its rate, ``frames`` their number."""

    file_uuid: str
    filename: str
    fps: float
    frames: int
    url: str = ""


def to_csv(film: Film, events: Sequence[Event]) -> str:
    """Return a table with a line for each event."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [each.name for each in fields(Event)]
    writer.writerow([*names, "start_timecode", "filename"])
    for event in events:
        values = [_cell(value) for value in asdict(event).values()]
        writer.writerow([*values, timecode(event.first_frame, film.fps), _cell(film.filename)])
    return out.getvalue()


def to_json(film: Film, events: Sequence[Event]) -> str:
    """Return film and events as JSON."""
    whole = {"film": asdict(film), "events": [asdict(event) for event in events]}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def to_edl(film: Film, events: Sequence[Event]) -> str:
    """Return an edit decision list that has the events one after the other. Raises ValueError for too many."""
    if len(events) > MAX_EVENTS:
        raise ValueError(f"An EDL takes {MAX_EVENTS:,} events at most and there are {len(events):,}; export OTIO.")
    lines = [f"TITLE: {_line(film.filename)}", "FCM: NON-DROP FRAME", ""]
    at = 0
    for number, event in enumerate(events, 1):
        length = event.last_frame - event.first_frame + 1
        places = (event.first_frame, event.last_frame + 1, at, at + length)
        codes = " ".join(timecode(frame, film.fps) for frame in places)
        lines += [f"{number:03d}  {REEL:<8} V     C        {codes}", f"* FROM CLIP NAME: {_line(film.filename)}"]
        lines += [f"* COMMENT: {_line(text)}" for text in (event.name, event.note) if text]
        lines.append("")
        at += length
    return "\n".join(lines)


def to_otio(film: Film, events: Sequence[Event]) -> str:
    """Return a timeline of the events as clips one after the other, each with its name, as OTIO's JSON."""
    reference = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "name": film.filename,
        "target_url": film.url or film.filename,
        "available_range": _range(0, film.frames, film.fps),
        "metadata": {},
    }
    clips = [
        {
            "OTIO_SCHEMA": "Clip.1",
            "name": event.name,
            "source_range": _range(event.first_frame, event.last_frame - event.first_frame + 1, film.fps),
            "media_reference": reference,
            "effects": [],
            "markers": [],
            "metadata": {"visiongraph": {"file_uuid": film.file_uuid, "note": event.note}},
        }
        for event in events
    ]
    track = {"OTIO_SCHEMA": "Track.1", "name": film.filename, "kind": "Video", "children": clips, **_EMPTY}
    stack = {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": [track], **_EMPTY}
    timeline = {"OTIO_SCHEMA": "Timeline.1", "name": film.filename, "tracks": stack, "metadata": {}}
    return json.dumps({**timeline, "global_start_time": None}, ensure_ascii=False, indent=1) + "\n"


FORMATS: Final[Mapping[str, Callable[[Film, Sequence[Event]], str]]] = {
    "csv": to_csv,
    "json": to_json,
    "edl": to_edl,
    "otio": to_otio,
}
_EMPTY: Final[Mapping[str, Any]] = {"source_range": None, "effects": [], "markers": [], "metadata": {}}


def timecode(frame: int, fps: float) -> str:
    """Return the timecode of a frame, non-drop at the nearest whole rate."""
    rate = max(1, round(fps))
    seconds, frames = divmod(frame, rate)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}:{frames:02d}"


def _range(start: int, length: int, fps: float) -> dict[str, Any]:
    def time(frames: int) -> dict[str, Any]:
        return {"OTIO_SCHEMA": "RationalTime.1", "rate": fps, "value": float(frames)}

    return {"OTIO_SCHEMA": "TimeRange.1", "start_time": time(start), "duration": time(length)}


def _line(text: str) -> str:
    """Return a text as one line: a name from somewhere else must not add an edit to the list."""
    return " ".join(text.split())


def _cell(value: object) -> object:
    """Return a value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
