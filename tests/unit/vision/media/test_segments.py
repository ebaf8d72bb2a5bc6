"""Segments of a stream: where they begin and end, and that together they are what the whole is."""

import io
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.unit.vision.media.conftest import MakeVideo
from tests.unit.vision.media.samples import RECIPES, TICKS, X264, Recipe, number_in, shown
from vision.media import segments as module
from vision.media.encoder import encode
from vision.media.plan import ClipPlan, Part
from vision.media.reader import VideoReader
from vision.media.segments import LONGEST_S, MOST_FRAMES, SEGMENT_S, SegmentNotFound, segment, segments

BEEPS = (0.3, 0.99, 1.5, 2.02)
WITH_SOUND = Recipe(frames=65, beeps=BEEPS, encoder={**X264, "g": "20", "bf": "3"})


def times_of(fps: float, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.arange(count) / fps


RNG = np.random.default_rng(18)
TIMES = {
    "25": times_of(25, 1003),
    "23.976": times_of(24000 / 1001, 500),
    "59.94": times_of(60000 / 1001, 1500),
    "1000": times_of(1000, 5000),
    "12.5": times_of(12.5, 51),
    "one a second": times_of(1, 30),
    "one in three seconds": times_of(1 / 3, 9),
    "varying": np.cumsum(RNG.uniform(0.005, 0.3, 700)) - 0.005,
    "slides": np.cumsum([0.0, 3.0, 27.0, 1.0, 0.04, 8.01, 61.0]),
    "one frame": np.zeros(1),
}


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("tail", [0.04, 3.0, 50.0])
def test_segments_follow_each_other_from_frame_to_frame(name: str, tail: float) -> None:
    times = TIMES[name]
    whole = Part(0, len(times) - 1, float(times[0]), float(times[-1]) + tail)
    parts = segments(times, whole)
    ends = np.append(times[1:], whole.end)
    assert (parts[0].start, parts[-1].end, parts[0].first, parts[-1].last) == (whole.start, whole.end, 0, whole.last)
    for one, other in itertools.pairwise(parts):
        assert one.end == other.start
        # A new segment begins with a new frame, unless it goes on with one that is shown for long.
        if other.first == one.last:
            assert ends[one.last] - one.start > LONGEST_S
            assert one.end == pytest.approx(one.start + SEGMENT_S)  # floats of seconds
        else:
            assert (other.first, other.start) == (one.last + 1, times[other.first])
            assert one.end - one.start >= SEGMENT_S - 1e-6 or one.last - one.first + 1 == MOST_FRAMES
    for part in parts:
        assert 0 < part.end - part.start <= LONGEST_S
        assert part.last - part.first < MOST_FRAMES
        assert times[part.first] <= part.start < ends[part.first]
        assert times[part.last] < part.end <= ends[part.last]


def test_a_part_has_segments_of_its_own() -> None:
    times = times_of(25, 1000)
    assert segments(times, Part(10, 130, 0.4, 5.24)) == [Part(10, 109, 0.4, 4.4), Part(110, 130, 4.4, 5.24)]
    assert segment(times, Part(10, 130, 0.4, 5.24), 1) == Part(110, 130, 4.4, 5.24)
    for number in (2, 10**9, -1):
        with pytest.raises(SegmentNotFound, match=f"no segment {number}; the last one of this stream is 1"):
            segment(times, Part(10, 130, 0.4, 5.24), number)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a second."""
    monkeypatch.setattr(module, "SEGMENT_S", 1.0)
    monkeypatch.setattr(module, "LONGEST_S", 2.0)


def streamed(path: Path, **plan: Any) -> tuple[bytes, list[bytes], bytes]:
    """The header, the segments, and the same as an overlay."""

    def made(**more: Any) -> bytes:
        return b"".join(encode(reader, partial(path.open, "rb"), ClipPlan("overlay", **plan, **more)))

    with VideoReader(path) as reader:
        whole = ClipPlan("overlay", **plan).part(reader.times, reader.facts.duration)
        bodies = [made(segmented=True, segment=number) for number in range(len(segments(reader.times, whole)))]
        return made(segmented=True), bodies, made()


def packets_of(data: bytes, kind: str) -> list[tuple[int, int]]:
    """PTS and duration of the packets of a stream, in its ticks; none where the file has no such stream."""
    with av.open(io.BytesIO(data)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        return [(p.pts, p.duration) for p in container.demux(streams) if p.size] if streams else []


def numbers_of(data: bytes) -> list[int | None]:
    with av.open(io.BytesIO(data)) as container:
        return [number_in(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def sound_of(data: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    with av.open(io.BytesIO(data)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


KINDS = {
    "vfr": "vfr",
    "turned": "rotated 270",
    "open GOP in MPEG-TS": "open gop in mpeg-ts",
    "VP9 without sound": "vp9",
    "frames that are only counted": "b-frames in avi",
    "edit list": "edit list",
    "10 bit": "10 bit",
    "sound": WITH_SOUND,
    "sound in Matroska at an odd rate": Recipe(
        "matroska", ticks=[n * 1001 * TICKS // 30000 for n in range(80)], beeps=BEEPS, encoder={**X264, "g": "600"}
    ),
    "sound that ends early": Recipe(frames=65, beeps=(0.3,), sound_s=1.3, encoder=X264),
    "120 a second": Recipe(fps=120, frames=250, size=(192, 96), beeps=BEEPS, encoder=X264),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("short")
def test_segments_one_after_the_other_are_the_whole(kind: str, video: MakeVideo) -> None:
    recipe = KINDS[kind]
    header, bodies, plain = streamed(video(recipe))
    assert len(bodies) in (2, 3, 4)
    joined = header + b"".join(bodies)
    for stream in ("video", "audio"):
        packets = packets_of(joined, stream)
        assert [pts for pts, _ in packets] == [pts for pts, _ in packets_of(plain, stream)]
        assert all(pts + lasts == after for (pts, lasts), (after, _) in itertools.pairwise(packets))
    numbers = shown(recipe) if isinstance(recipe, str) else list(range(len(recipe.times())))
    assert numbers_of(joined) == numbers_of(plain) == numbers
    if not isinstance(recipe, str):
        one, other = sound_of(joined), sound_of(plain)
        assert len(one) == len(other)
        # Half a millisecond of Matroska's clock may lie between the samples of two segments.
        assert np.abs(one - other).max() < (0.01 if recipe.container == "mp4" else 0.7)
        assert np.flatnonzero(np.abs(one) > 0.1)[0] == pytest.approx(0.3 * 48_000, abs=300)  # 6 ms


@pytest.mark.parametrize("kind", ["vfr", "turned", "sound"])
@pytest.mark.usefixtures("short")
def test_each_segment_plays_alone(kind: str, video: MakeVideo) -> None:
    path = video(KINDS[kind])
    header, bodies, _ = streamed(path)
    with VideoReader(path) as reader:
        parts = segments(reader.times, ClipPlan("overlay").part(reader.times, reader.facts.duration))
    for part, body in zip(parts, bodies, strict=True):
        assert numbers_of(header + body) == list(range(part.first, part.last + 1))
        pictures = packets_of(header + body, "video")
        assert pictures[0][0] == round(part.start * TICKS)
        assert sum(pictures[-1]) == round(part.end * TICKS)
        for pts, _ in packets_of(header + body, "audio"):
            assert part.start <= pts / 48_000 < part.end


@pytest.mark.usefixtures("short")
def test_segments_of_a_part_begin_at_zero(video: MakeVideo) -> None:
    header, bodies, plain = streamed(video(WITH_SOUND), start_frame=20, end_frame=60, caption="X")
    joined = header + b"".join(bodies)
    assert len(bodies) == 2
    for stream in ("video", "audio"):
        assert packets_of(joined, stream)[0][0] == 0
        assert [pts for pts, _ in packets_of(joined, stream)] == [pts for pts, _ in packets_of(plain, stream)]


@pytest.mark.usefixtures("short")
def test_a_picture_that_is_shown_for_long_is_shown_again(video: MakeVideo) -> None:
    slides = Recipe(ticks=[0, TICKS // 2, 5 * TICKS, 5 * TICKS + TICKS // 2], beeps=(0.2,), sound_s=7.3, encoder=X264)
    header, bodies, plain = streamed(video(slides))
    joined = header + b"".join(bodies)
    assert numbers_of(plain) == [0, 1, 2, 3]
    numbers, times = numbers_of(joined), [pts / TICKS for pts, _ in packets_of(joined, "video")]
    assert (numbers[:8], set(numbers[8:])) == ([0, 1, 1, 1, 1, 2, 3, 3], {3})
    assert times[:8] == [0, 0.5, 1, 2, 3, 5, 5.5, 6]
    assert sum(packets_of(joined, "video")[-1]) == sum(packets_of(plain, "video")[-1])
    assert packets_of(joined, "audio") == packets_of(plain, "audio")


@pytest.mark.usefixtures("short")
def test_a_segment_without_a_whole_picture_shows_the_one_before(video: MakeVideo, tmp_path: Path) -> None:
    path = video(Recipe(frames=100, encoder={**X264, "g": "25", "bf": "0", "x264-params": "scenecut=0"}))
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for at, size in places[25:50]:
        data[at + 4 : at + size] = bytes(size - 4)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    header, bodies, _ = streamed(damaged)
    assert len(bodies) == 4
    shown_by = [numbers_of(header + body) for body in bodies]
    assert shown_by[0] == list(range(25))
    assert shown_by[2:] == [list(range(50, 75)), list(range(75, 100))]
    assert len(shown_by[1]) >= 1
    joined = packets_of(header + b"".join(bodies), "video")
    assert all(pts < after for (pts, _), (after, _) in itertools.pairwise(joined))


def test_a_segment_that_nobody_takes_ends(video: MakeVideo) -> None:
    with VideoReader(video(RECIPES["b-frames"])) as reader:
        chunks = encode(
            reader, lambda: io.BytesIO(video("b-frames").read_bytes()), ClipPlan("overlay", segmented=True, segment=0)
        )
        assert next(filter(None, chunks))[4:8] == b"styp"
        chunks.close()
        assert number_in(reader.frame(30)) == 30
