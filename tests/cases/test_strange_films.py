"""Films with edit lists, tracks, stamps and headers that few writers make: what is told is what a full decode shows."""

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.cases.conftest import CaseFile, CaseService
from tests.cases.files import add_video, box, boxes, copied, numbered, video_packets, write_video
from tests.cases.films import number_in
from tests.unit.vision.media.samples import end_real_time
from vision.media.reader import VideoReader

FRAMES, RATE = 60, 30
TICKS = 512
"""Ticks of a frame in an MP4 of 30 frames a second."""
X264 = {"g": "15", "bf": "2", "preset": "ultrafast"}
FRAGMENTED = {"movflags": "frag_keyframe+delay_moov+default_base_moof"}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """Bytes of a film of 60 numbered pictures, each kind encoded once: ``film(".mp4", bf="0")``."""
    folder, written = tmp_path_factory.mktemp("films"), {}

    def make(suffix: str, codec: str = "libx264", muxer: dict[str, str] | None = None, **options: str) -> bytes:
        key = (suffix, codec, str(muxer), str(options))
        if key not in written:
            path = folder / f"film{suffix}"
            usual = X264 if codec == "libx264" else {"g": "15"}
            pixel = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            write_video(path, FRAMES, codec, RATE, options=usual | options, muxer=muxer, pixel=pixel)
            written[key] = path.read_bytes()
        return written[key]

    return make


def seen(data: bytes) -> list[int]:
    """Numbers of the pictures by the reader, in order, after each was found in another order as well."""
    with VideoReader(io.BytesIO(data)) as reader:
        count = reader.facts.frame_count
        row = {number: number_in(pixels) for number, _, pixels in reader.frames()}
        assert list(row) == list(range(count))
        for number in np.random.default_rng(1).permutation(count)[:15].tolist():
            assert number_in(reader.frame(number)) == row[number]
        assert (np.diff(reader.times) > 0).all()
        return list(row.values())


def decoded(data: bytes) -> list[int]:
    with av.open(io.BytesIO(data)) as container:
        return [number_in(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def duration(data: bytes) -> float:
    with VideoReader(io.BytesIO(data)) as reader:
        return reader.facts.duration


def edited(data: bytes, rows: list[tuple[int, int, int, int]], version: int = 0) -> bytes:
    """The film with these edits: length in milliseconds, begin in ticks of the media, and rate in two halves."""
    entries = b"".join(struct.pack(">Qqhh" if version else ">Iihh", *row) for row in rows)
    edits = box(b"edts", box(b"elst", struct.pack(">BxxxI", version, len(rows)) + entries))

    def inside(part: bytes) -> bytes:
        out = b""
        for name, at, size in boxes(part, 0, len(part)):
            body = part[at + 8 : at + size]
            if name != b"edts":
                out += box(name, inside(body) if name in (b"moov", b"trak") else body)
            out += edits if name == b"tkhd" else b""
        return out

    return inside(data)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(
    ("rows", "numbers"),
    [
        ([(2000, -1, 1, 0), (2000, 0, 1, 0)], [*range(60)]),
        ([(500, 0, 1, 0), (500, 45, 1, 0)], [*range(15), *range(45, 60)]),
        ([(500, 45, 1, 0), (500, 0, 1, 0)], [*range(45, 60), *range(15)]),
        ([(500, 0, 1, 0), (500, 0, 1, 0)], [*range(15), *range(15)]),
        ([(1000, 22, 1, 0)], [*range(22, 52)]),
        ([(2000, -1, 1, 0), (1000, 22, 1, 0)], [*range(22, 52)]),
        ([(900, 0, 1, 0)], [*range(27)]),
        ([(90_000, 0, 1, 0)], [*range(60)]),
        ([(500, -1, 1, 0), (500, -1, 1, 0), (2000, 0, 1, 0)], [*range(60)]),
        ([(500, 30, 0, 0), (500, 30, 1, 0)], [*range(30, 45), *range(30, 45)]),  # FFmpeg plays what should stand still
    ],
)
def test_edits_show_what_they_keep(
    rows: list[tuple[int, int, int, int]], numbers: list[int], version: int, suffix: str, film: Callable[..., bytes]
) -> None:
    ticks = [(length, -1 if at < 0 else 1024 + at * TICKS, *rate) for length, at, *rate in rows]
    data = edited(film(suffix), ticks, version)  # type: ignore[arg-type]
    assert seen(data) == decoded(data) == numbers
    assert duration(data) == pytest.approx(len(numbers) / RATE, abs=1e-3)  # Matroska and the reports count milliseconds


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(("rows", "first"), [([(2000, -1, 1, 0), (0, 0, 1, 0)], 0), ([(0, 22, 1, 0)], 20)])
def test_an_edit_of_a_fragmented_film_moves_it(
    rows: list[tuple[int, int, int, int]], first: int, version: int, film: Callable[..., bytes]
) -> None:
    ticks = [(length, -1 if at < 0 else at * TICKS, *rate) for length, at, *rate in rows]
    data = edited(film(".mp4", muxer=FRAGMENTED), ticks, version)  # type: ignore[arg-type]
    assert seen(data) == [*range(first, 60)]  # its first picture is two frames late
    assert duration(data) == pytest.approx((60 - first) / RATE, abs=1e-3)  # Matroska and the reports count milliseconds


def with_track(data: bytes, handler: bytes, codec: bytes, *, first: bool) -> bytes:
    """The film with its track a second time, as one of another kind."""
    at, size = next((at, size) for name, at, size in boxes(data, 0, len(data)) if name == b"moov")
    parts = [(name, data[start : start + length]) for name, start, length in boxes(data, at + 8, at + size)]
    place = next(number for number, (name, _) in enumerate(parts) if name == b"trak")
    track = bytearray(parts[place][1])
    for name, offset, value in ((b"hdlr", 12, handler), (b"tkhd", 16, b"\0\0\0\x4d"), (b"avc1", 0, codec)):
        start = track.index(name) + offset
        track[start : start + 4] = value
    parts.insert(place + (not first), (b"trak", bytes(track)))
    return data[:at] + box(b"moov", b"".join(part for _, part in parts)) + data[at + size :]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("handler", "codec"),
    [(b"meta", b"gpmd"), (b"tmcd", b"tmcd"), (b"sbtl", b"tx3g"), (b"vide", b"zzzz"), (b"soun", b"zzzz")],
)
def test_other_tracks_are_left_alone(handler: bytes, codec: bytes, first: bool, film: Callable[..., bytes]) -> None:
    assert seen(with_track(film(".mp4"), handler, codec, first=first)) == [*range(60)]


def test_a_font_in_a_film_is_no_picture(film: Callable[..., bytes]) -> None:
    target = io.BytesIO()
    with av.open(io.BytesIO(film(".mkv"))) as old, av.open(target, "w", format="matroska") as new:
        new.add_attachment("font.ttf", "application/x-truetype-font", bytes(5000))
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    assert seen(target.getvalue()) == [*range(60)]


def lacking(packet: Any) -> None:
    packet.pts = None


def hours_ahead(packet: Any) -> None:
    packet.pts += round(7200 / packet.time_base)


def three_ahead(packet: Any) -> None:
    packet.pts += round(3 / RATE / packet.time_base)


def one_ahead(packet: Any) -> None:
    packet.pts += round(1 / RATE / packet.time_base)


@pytest.mark.parametrize(
    ("place", "change", "suffix", "codec", "b_frames"),
    [
        (place, change, suffix, codec, "0")
        for suffix, codec in ((".mkv", "libx264"), (".webm", "libvpx"), (".avi", "mpeg4"))
        for place in (0, 7, 40)
        for change in (lacking, hours_ahead, three_ahead, one_ahead)
    ]
    + [(place, change, ".mp4", "libx264", "0") for place in (7, 40) for change in (lacking, hours_ahead, three_ahead)]
    + [(0, hours_ahead, ".mp4", "libx264", "2"), (0, one_ahead, ".mp4", "libx264", "2")]
    + [(0, one_ahead, ".mkv", "libx264", "2"), (40, hours_ahead, ".mkv", "libx264", "2")],
)
def test_one_bad_stamp_costs_nothing(
    place: int,
    change: Callable[[Any], None],
    suffix: str,
    codec: str,
    b_frames: str,
    film: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"film{suffix}"
    options = {"bf": b_frames} if codec == "libx264" else {}
    options |= {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx" else {}
    whole.write_bytes(film(suffix, codec, **options))
    copied(whole, path, lambda number, packet: change(packet) if number == place else None)
    assert seen(path.read_bytes()) == [*range(60)]
    assert duration(path.read_bytes()) == pytest.approx(2.0, abs=0.04)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
async def test_a_film_whose_first_stamp_is_hours_ahead_is_served(
    suffix: str, film: Callable[..., bytes], served: CaseService, tmp_path: Path
) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"film{suffix}"
    whole.write_bytes(film(suffix, bf="0" if suffix == ".mkv" else "2"))
    copied(whole, path, lambda number, packet: None if number else hours_ahead(packet))
    asset = (await served.upload(path))["asset_id"]
    for first, last in ((0, 9), (20, 40)):
        for route in ("video", "clip"):
            answer = await served.of_file(asset, route, start_frame=first, end_frame=last)
            assert answer.status_code == 200, answer.text
            begins = int(answer.headers.get("x-first-frame", first))  # a clip begins where it was asked to
            assert begins <= first
            assert decoded(answer.content)[: last + 1 - begins] == [*range(begins, last + 1)]


async def test_a_part_behind_a_repeated_stamp_is_served(case: CaseFile, served: CaseService) -> None:
    asset = (await served.upload(case("repeated_pts", "repeated_pts.mkv")))["asset_id"]
    answer = await served.of_file(asset, "video", start_frame=2900, end_frame=2950)
    first = int(answer.headers["x-first-frame"])
    assert 2870 <= first <= 2900
    assert decoded(answer.content) == [*range(first, 2951)]


@pytest.mark.parametrize("value", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\1\0"])
@pytest.mark.parametrize("names", [(b"mdhd",), (b"mvhd",), (b"mdhd", b"mvhd", b"tkhd")])
def test_durations_in_the_header_of_an_mp4_are_not_believed(
    names: tuple[bytes, ...], value: bytes, film: Callable[..., bytes]
) -> None:
    data = bytearray(film(".mp4"))
    for name in names:
        at = data.index(name) + (24 if name == b"tkhd" else 20)
        data[at : at + 4] = value
    assert seen(bytes(data)) == [*range(60)]
    assert duration(bytes(data)) == pytest.approx(2.0, abs=1e-3)  # Matroska and the reports count milliseconds


@pytest.mark.parametrize("value", [1.0, 5e9, 0.0, -1.0, float("nan")])
def test_the_duration_in_the_header_of_a_matroska_file_is_not_believed(
    value: float, film: Callable[..., bytes]
) -> None:
    data = bytearray(film(".mkv"))
    struct.pack_into(">d", data, data.index(b"\x44\x89\x88") + 3, value)
    assert duration(bytes(data)) == pytest.approx(2.0, abs=0.002)  # Matroska and the reports count milliseconds


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
@pytest.mark.parametrize("count", [0, 5000])
def test_the_frames_in_the_header_of_an_avi_are_not_believed(
    count: int, codec: str, film: Callable[..., bytes]
) -> None:
    data = bytearray(film(".avi", codec))
    struct.pack_into("<I", data, data.index(b"avih") + 24, count)
    struct.pack_into("<I", data, data.index(b"strh") + 40, count)
    assert seen(bytes(data)) == [*range(60)]
    assert duration(bytes(data)) == pytest.approx(2.0, abs=1e-3)  # Matroska and the reports count milliseconds


class Pipe(io.RawIOBase):
    """What is written and never gone back to."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += data
        return len(data)


@pytest.mark.parametrize(("muxer", "codec"), [("matroska", "libx264"), ("webm", "libvpx")])
@pytest.mark.parametrize("live", [{"live": "1"}, {}])
def test_a_recording_that_was_never_closed(live: dict[str, str], muxer: str, codec: str) -> None:
    pipe = Pipe()
    options = X264 if codec == "libx264" else {"deadline": "realtime", "cpu-used": "8", "g": "15"}
    with av.open(pipe, "w", format=muxer, options=live) as output:
        stream = add_video(output, codec, rate=RATE, options=options)
        output.mux(list(video_packets(stream, map(numbered, range(60)), range(60), Fraction(1, RATE))))
    end_real_time()
    assert seen(bytes(pipe.data)) == [*range(60)]
    cut = seen(bytes(pipe.data[: len(pipe.data) * 4 // 5]))
    assert cut == [*range(len(cut))]
    assert 30 < len(cut) < 60
