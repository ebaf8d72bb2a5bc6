"""What was found in a video, for editors and spreadsheets: CSV, JSON, EDL (CMX 3600) and OTIO (OpenTimelineIO).

Events have the frames of the file, counted from 0 in order of presentation as the service counts them. Editors have
frames of a constant rate: those are the same unless the rate of the film varies, where an event gets the places of its
times. Timecodes begin at 00:00:00:00; they are those of SMPTE ST 12-1, at 29.97 and 59.94 frames a second drop-frame.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any, Final

MAX_EVENTS: Final = 9999
REEL: Final = "AX"
"""What an editor asks the user to link to a file."""
RATES: Final = (
    *(Fraction(24_000, 1001), Fraction(24), Fraction(25), Fraction(30_000, 1001), Fraction(30), Fraction(48)),
    *(Fraction(50), Fraction(60_000, 1001), Fraction(60)),
)
"""Frames a second that projects of editors have."""
_OF_FILES: Final = (
    *RATES,
    *map(Fraction, ("5", "6", "8", "10", "12", "12.5", "15", "20", "72", "90", "100", "120000/1001", "120", "240")),
)
"""Those, and others that cameras and archives have."""
DROPPED: Final = {Fraction(30_000, 1001): 2, Fraction(60_000, 1001): 4}
"""Numbers that a drop-frame timecode leaves out at the start of each minute, but not of each tenth."""
SAME_RATE: Final = 0.0005
"""Half of what 23.976 and 24 differ by: rates of files are averages."""
_STEADY: Final = 0.5
"""Frames by which times and frame numbers differ less where the rate is constant: times are rounded."""


@dataclass(frozen=True, slots=True)
class Event:
    """A stretch of a video: ``first_frame`` to ``last_frame``, both included; ``end_s`` is when that one ends."""

    name: str
    first_frame: int
    last_frame: int
    start_s: float
    end_s: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Film:
    """The video that events are of; ``fps`` is its rate on average, ``frames`` their number."""

    file_uuid: str
    filename: str
    fps: float
    frames: int
    url: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Frames of an editor: ``rate`` a second, of which ``frames`` are the whole film.

    ``places`` has first frame and end (not included) of each event.
    """

    rate: Fraction
    frames: int
    places: Sequence[tuple[int, int]]


def timeline(film: Film, events: Sequence[Event], rate: Fraction | None = None) -> Timeline:
    """Return where events are for an editor, at a rate of its own, or at that of the film.

    A film of constant rate has its own frames. One whose rate varies is placed by its times, and has the next higher
    rate of those that editors have unless its average is one.
    """
    own = next((each for each in _OF_FILES if abs(film.fps / each - 1) < SAME_RATE), None)
    if own is not None and rate in (None, own) and not _varies(film, events):
        return Timeline(own, film.frames, [(event.first_frame, event.last_frame + 1) for event in events])
    rate = rate or own or next((each for each in RATES if each > film.fps), RATES[-1])
    places = [(round(event.start_s * rate), round(event.end_s * rate)) for event in events]
    return Timeline(rate, round(film.frames / film.fps * rate), [(first, max(end, first + 1)) for first, end in places])


def _varies(film: Film, events: Sequence[Event]) -> bool:
    """Return whether times and frame numbers of events differ by other than a constant."""
    off = [event.start_s * film.fps - event.first_frame for event in events]
    # How long the last frame of a file lasts is what its container says, be it true or not.
    inside = [event for event in events if event.last_frame + 1 < film.frames]
    off += [event.end_s * film.fps - event.last_frame - 1 for event in inside]
    return bool(off) and max(off) - min(off) > _STEADY


def to_csv(film: Film, events: Sequence[Event], rate: Fraction | None = None) -> str:
    """Return a table with a line for each event."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [each.name for each in fields(Event)]
    writer.writerow([*names, "start_timecode", "filename"])
    placed = timeline(film, events, rate)
    for event, (first, _) in zip(events, placed.places, strict=True):
        values = [_cell(value) for value in asdict(event).values()]
        writer.writerow([*values, timecode(first, placed.rate), _cell(film.filename)])
    return out.getvalue()


def to_json(film: Film, events: Sequence[Event], _: Fraction | None = None) -> str:
    """Return film and events as JSON."""
    whole = {"film": asdict(film), "events": [asdict(event) for event in events]}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def to_edl(film: Film, events: Sequence[Event], rate: Fraction | None = None) -> str:
    """Return an edit decision list that has the events one after the other. Raises ValueError for too many."""
    if len(events) > MAX_EVENTS:
        raise ValueError(f"An EDL takes {MAX_EVENTS:,} events at most and there are {len(events):,}; export OTIO.")
    placed = timeline(film, events, rate)
    counting = "DROP FRAME" if placed.rate in DROPPED else "NON-DROP FRAME"
    lines = [f"TITLE: {_line(film.filename)}", f"FCM: {counting}", ""]
    at = 0
    for number, (event, (first, end)) in enumerate(zip(events, placed.places, strict=True), 1):
        codes = " ".join(timecode(frame, placed.rate) for frame in (first, end, at, at + end - first))
        lines += [f"{number:03d}  {REEL:<8} V     C        {codes}", f"* FROM CLIP NAME: {_line(film.filename)}"]
        lines += [f"* COMMENT: {_line(text)}" for text in (event.name, event.note) if text]
        lines.append("")
        at += end - first
    return "\n".join(lines)


def to_otio(film: Film, events: Sequence[Event], rate: Fraction | None = None) -> str:
    """Return a timeline of the events as clips one after the other, each with its name, as OTIO's JSON."""
    placed = timeline(film, events, rate)
    reference = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "name": film.filename,
        "target_url": film.url or film.filename,
        "available_range": _range(0, placed.frames, placed.rate),
        "metadata": {},
    }
    clips = [
        {
            "OTIO_SCHEMA": "Clip.1",
            "name": event.name,
            "source_range": _range(first, end - first, placed.rate),
            "media_reference": reference,
            "effects": [],
            "markers": [],
            "metadata": {"visiongraph": {"file_uuid": film.file_uuid, "note": event.note}},
        }
        for event, (first, end) in zip(events, placed.places, strict=True)
    ]
    track = {"OTIO_SCHEMA": "Track.1", "name": film.filename, "kind": "Video", "children": clips, **_EMPTY}
    stack = {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": [track], **_EMPTY}
    whole = {"OTIO_SCHEMA": "Timeline.1", "name": film.filename, "tracks": stack, "metadata": {}}
    return json.dumps({**whole, "global_start_time": None}, ensure_ascii=False, indent=1) + "\n"


FORMATS: Final[Mapping[str, Callable[[Film, Sequence[Event], Fraction | None], str]]] = {
    "csv": to_csv,
    "json": to_json,
    "edl": to_edl,
    "otio": to_otio,
}
_EMPTY: Final[Mapping[str, Any]] = {"source_range": None, "effects": [], "markers": [], "metadata": {}}


def timecode(frame: int, rate: Fraction) -> str:
    """Return the timecode of a frame; a semicolon before the frames says that it is drop-frame."""
    nominal = max(1, round(rate))
    if dropped := DROPPED.get(rate, 0):
        minute = 60 * nominal - dropped
        tens, rest = divmod(frame, 10 * minute + dropped)
        frame += 9 * dropped * tens + dropped * (max(0, rest - dropped) // minute)
    seconds, frames = divmod(frame, nominal)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{';' if dropped else ':'}{frames:02d}"


def _range(start: int, length: int, rate: Fraction) -> dict[str, Any]:
    def time(frames: int) -> dict[str, Any]:
        return {"OTIO_SCHEMA": "RationalTime.1", "rate": float(rate), "value": float(frames)}

    return {"OTIO_SCHEMA": "TimeRange.1", "start_time": time(start), "duration": time(length)}


def _line(text: str) -> str:
    """Return a text as one line: a name from somewhere else must not add an edit to the list."""
    return " ".join(text.split())


def _cell(value: object) -> object:
    """Return a value that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
