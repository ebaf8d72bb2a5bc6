"""What editors read of films: timecodes of every rate, and events of real indexes, as other readers understand them."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from fractions import Fraction
from itertools import accumulate, cycle, islice

import opentimelineio
import pytest
from opentimelineio.opentime import RationalTime, from_timecode, to_timecode

from deployments.serving.handle import StageHandle
from graphs.web.api import find_apis
from tests.dummies.video import DummyVideoFaces
from tests.graphs.harness import handles, listening, serving, settings_in
from tests.graphs.indexing import DUMMIES, REAL, IndexService, film
from vision.errors import StageUnavailable
from visiongraph_client import cli, export
from visiongraph_client.export import Event, Film

NTSC, NTSC_60, PULLED = Fraction(30_000, 1001), Fraction(60_000, 1001), Fraction(24_000, 1001)
FILM = Film("f" * 32, "film\nEVIL\x01.mov", 30_000 / 1001, 120_000)
EVENTS = [
    Event("=HYPERLINK(1)", 0, 0, 0.0, 1001 / 30_000),
    Event("Zoë\n002  AX  V", 107_892, 107_999, 107_892 * 1001 / 30_000, 108_000 * 1001 / 30_000, "two"),
]


def test_exported_names_are_only_names() -> None:
    edl = export.to_edl(FILM, EVENTS)
    lines = edl.splitlines()
    assert [line for line in lines if line[:3].isdigit()] == [
        "001  AX       V     C        00:00:00;00 00:00:00;01 00:00:00;00 00:00:00;01",
        "002  AX       V     C        01:00:00;00 01:00:03;18 00:00:00;01 00:00:03;19",
    ]
    assert lines[:2] == ["TITLE: film EVIL\x01.mov", "FCM: DROP FRAME"]
    (first, second) = csv.DictReader(io.StringIO(export.to_csv(FILM, EVENTS)))
    assert first["name"] == "'=HYPERLINK(1)"
    assert second["name"] == "Zoë\n002  AX  V"
    timeline = opentimelineio.adapters.read_from_string(export.to_otio(FILM, EVENTS), "otio_json")
    assert [clip.name for clip in timeline.find_clips()] == [event.name for event in EVENTS]
    with pytest.raises(ValueError, match="export OTIO"):
        export.to_edl(FILM, EVENTS[:1] * 10_000)


@pytest.mark.parametrize(
    ("frame", "rate", "code"),
    [
        (24, Fraction(25), "00:00:00:24"),
        (90_000, Fraction(25), "01:00:00:00"),
        # SMPTE ST 12-1: numbers 0 and 1 (0 to 3 at 59.94) are left out each minute, but not in minutes 0, 10, 20, …
        (1799, NTSC, "00:00:59;29"),
        (1800, NTSC, "00:01:00;02"),
        (17_981, NTSC, "00:09:59;29"),
        (17_982, NTSC, "00:10:00;00"),
        (107_892, NTSC, "01:00:00;00"),
        (3600, NTSC_60, "00:01:00;04"),
        (215_784, NTSC_60, "01:00:00;00"),
        # No frame is left out at 23.976: an hour of timecode lasts 3.6 s longer than one of the clock.
        (86_400, PULLED, "01:00:00:00"),
        (108_000, Fraction(30), "01:00:00:00"),
        (12, Fraction(25, 2), "00:00:01:00"),
    ],
)
def test_timecodes(frame: int, rate: Fraction, code: str) -> None:
    assert export.timecode(frame, rate) == code


@pytest.mark.parametrize("rate", export.RATES, ids=lambda rate: f"{float(rate):.3f}")
def test_timecodes_are_those_of_opentimelineio(rate: Fraction) -> None:
    drop = rate in export.DROPPED
    # Around every minute of a quarter of an hour, and about a day later.
    for minute in [*range(16), 599, 600, 1379]:
        middle = round(60 * minute * rate)
        for frame in range(max(0, middle - 6), middle + 7):
            code = export.timecode(frame, rate)
            assert code == to_timecode(RationalTime(frame, float(rate)), float(rate), drop_frame=drop)
            assert from_timecode(code, float(rate)).value == frame


@pytest.mark.parametrize(
    ("fps", "frames", "rate"),
    [
        (29.97002997, 100, NTSC),
        (29.9702, 100, NTSC),  # of a file whose times are whole milliseconds
        (23.976, 100, PULLED),
        (24.0, 100, Fraction(24)),
        (59.94, 100, NTSC_60),
        (15.0, 100, Fraction(15)),
        (12.5, 100, Fraction(25, 2)),
    ],
)
def test_the_rate_is_that_which_editors_have(fps: float, frames: int, rate: Fraction) -> None:
    events = [Event("a", 10, 19, 10 / fps, 20 / fps)]
    placed = export.timeline(Film("f", "film", fps, frames), events)
    assert (placed.rate, placed.frames, placed.places) == (rate, frames, [(10, 20)])


def test_a_film_of_variable_rate_is_placed_by_its_times() -> None:
    # 100 frames in 4 s, the first half of them in 1 s: 25 a second on average, and in no place.
    events = [Event("a", 0, 49, 0.0, 1.0), Event("b", 50, 99, 1.0, 4.0)]
    steady = export.timeline(Film("f", "phone.mp4", 25.0, 100), events)
    assert (steady.rate, steady.frames, list(steady.places)) == (Fraction(25), 100, [(0, 25), (25, 100)])
    # At an average that no editor has it is the next one above, so that few frames share a place.
    other = [Event("a", 0, 49, 0.0, 1.0), Event("b", 50, 107, 1.0, 4.0)]
    placed = export.timeline(Film("f", "phone.mp4", 27.0, 108), other)
    assert (placed.rate, placed.frames, list(placed.places)) == (NTSC, 120, [(0, 30), (30, 120)])
    asked = export.timeline(Film("f", "phone.mp4", 27.0, 108), other, Fraction(50))
    assert (asked.rate, asked.frames, list(asked.places)) == (Fraction(50), 200, [(0, 50), (50, 200)])
    # A film of one rate in a project of another.
    pulled = export.timeline(Film("f", "film.mov", 24.0, 240), [Event("a", 24, 47, 1.0, 2.0)], Fraction(25))
    assert (pulled.frames, list(pulled.places)) == (250, [(25, 50)])


@pytest.fixture(scope="module")
async def indexing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[IndexService, str]]:
    """A service that indexes films with dummy models, and its address."""

    async def info() -> dict[str, object]:
        return {"loaded": True}

    async def unused(*_: object) -> object:
        raise StageUnavailable("not here")

    idle = {key: StageHandle(key, unused, info) for api in find_apis().values() for key in api.stage_keys}
    with settings_in(tmp_path_factory.mktemp("service"), allowed_hosts="test") as config:
        async with (
            handles(*REAL, *DUMMIES) as stages,
            serving(
                IndexService, config, list(find_apis()), {**idle, **stages}, faces=DummyVideoFaces.running
            ) as service,
            listening(service.app) as port,
        ):
            yield service, f"http://127.0.0.1:{port}"


STAMPS = [0, *accumulate(islice(cycle((20, 60, 33, 50)), 129))]
"""A phone's: 24.5 frames a second on average, each as long as it happens to be."""


@pytest.mark.parametrize(
    ("fps", "form", "stamps", "rate", "cuts"),
    [
        (NTSC, "mp4", (), NTSC, [0, 60, 90, 130]),
        (NTSC, "matroska", (), NTSC, [0, 60, 90, 130]),
        (NTSC_60, "mov", (), NTSC_60, [0, 60, 90, 130]),
        (PULLED, "mov", (), PULLED, [0, 60, 90, 130]),
        (PULLED, "matroska", (), PULLED, [0, 60, 90, 130]),
        (Fraction(25), "mp4", (), Fraction(25), [0, 60, 90, 130]),
        (Fraction(25), "matroska", STAMPS, Fraction(25), [round(0.025 * STAMPS[at]) for at in (0, 60, 90)] + [132]),
        (Fraction(30), "mp4", STAMPS, Fraction(25), [round(0.025 * STAMPS[at]) for at in (0, 60, 90)] + [132]),
    ],
    ids=["29.97", "29.97 mkv", "59.94", "23.976", "23.976 mkv", "25", "variable mkv", "variable mp4"],
)
async def test_events_of_real_indexes_are_where_editors_look_for_them(
    indexing: tuple[IndexService, str],
    capsys: pytest.CaptureFixture[str],
    fps: Fraction,
    form: str,
    stamps: list[int],
    rate: Fraction,
    cuts: list[int],
) -> None:
    service, url = indexing
    asset = await service.indexed(film(fps=fps, form=form, stamps=stamps))

    async def exported(what: str, kind: str) -> str:
        arguments = ["export", asset.asset_id, "--what", what, "--format", kind, "--url", url]
        async with service.working():
            status = await asyncio.to_thread(cli.main, arguments)
        out, failure = capsys.readouterr()
        assert (status, failure) == (0, "")
        return out

    edl = await exported("shots", "edl")
    assert edl.splitlines()[1] == ("FCM: DROP FRAME" if rate in export.DROPPED else "FCM: NON-DROP FRAME")
    read = opentimelineio.adapters.read_from_string(edl, "cmx_3600", rate=float(rate))
    ranges = [each.source_range for each in read.find_clips()]
    starts = [each.start_time.value for each in ranges]
    assert [*starts, ranges[-1].end_time_exclusive().value] == pytest.approx(cuts, abs=1)  # the last frame's own length
    assert starts == cuts[:-1]
    timeline = opentimelineio.adapters.read_from_string(await exported("shots", "otio"), "otio_json")
    assert [each.source_range for each in timeline.find_clips()] == ranges
    assert timeline.find_clips()[0].media_reference.available_range.duration.value == pytest.approx(
        cuts[-1],
        abs=1,  # as above
    )
    people = json.loads(await exported("people", "json"))["events"]
    starts = [event["first_frame"] for event in people]
    assert [starts[0], *starts[2:]] == [0, 60, 90]
    bob, entry = people[1], starts[1]
    assert entry == pytest.approx(21, abs=4)  # faces are looked for in every few frames
    begins = STAMPS[entry] / 1000 if stamps else float(entry / fps)
    assert bob["start_s"] == pytest.approx(begins, abs=0.001)  # times of Matroska are whole milliseconds
    rows = list(csv.DictReader(io.StringIO(await exported("people", "csv"))))
    (code,) = [row["start_timecode"] for row in rows if row["first_frame"] == str(entry)]
    assert from_timecode(code, float(rate)).value == round(begins * rate)


async def test_a_project_has_a_rate_of_its_own(
    indexing: tuple[IndexService, str], capsys: pytest.CaptureFixture[str]
) -> None:
    service, url = indexing
    asset = await service.indexed(film(fps=Fraction(25)))
    arguments = ["export", asset.asset_id, "--format", "edl", "--url", url, "--rate"]
    assert await asyncio.to_thread(cli.main, [*arguments, "29.97"]) == 0
    edl = capsys.readouterr().out
    assert "FCM: DROP FRAME" in edl
    assert "00:00:02;12 00:00:03;18" in edl  # 2.4 s to 3.6 s
    for wrong in ("0", "1/0", "fast", "1e9"):
        with pytest.raises(SystemExit):
            await asyncio.to_thread(cli.main, [*arguments, wrong])
        assert "is no rate" in capsys.readouterr().err
