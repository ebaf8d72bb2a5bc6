"""Frames by number: the same as decoding in a row gives, and the ones asked for; both readers."""

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.vision.media.conftest import MakeVideo
from tests.unit.vision.media.hardware import pretend
from tests.unit.vision.media.samples import COUNTED, RECIPES, TICKS, X264, Recipe, number_in, shown
from vision.errors import InvalidMedia
from vision.images import Pixels
from vision.media import nvdec
from vision.media.decord_reader import DecordReader, UnsafeForDecord
from vision.media.plan import FrameOutOfRange
from vision.media.reader import VideoReader

Reader = VideoReader | DecordReader
OpenReader = Callable[[Path], Reader]


def nvdec_reader(path: Path) -> VideoReader:
    return VideoReader(path, decoder="nvdec")


UNSAFE = {
    "open gop": "open GOPs",
    "hevc": "open GOPs",
    "mpeg-ts": "mpegts",
    "open gop in mpeg-ts": "mpegts",
    "fragmented": "fragmented",
    "edit list": "edit list",
    "rotated 90": "rotated or mirrored",
    "rotated 180": "rotated or mirrored",
    "rotated 270": "rotated or mirrored",
    "mirrored": "rotated or mirrored",
    "av1": "av1",
    "mpeg-4 in avi": "avi",
    "b-frames in avi": "no stored times",
    "10 bit": "yuv420p10le",
}
PROCESSOR = {"av1", "mpeg-4 in avi", "b-frames in avi", "motion jpeg", "10 bit"}
"""What NVDEC cannot decode, or not exactly."""
CASES = [
    *(pytest.param(VideoReader, name, id=f"pyav-{name}") for name in RECIPES),
    *(pytest.param(nvdec_reader, name, id=f"nvdec-{name}") for name in RECIPES if name not in PROCESSOR),
    *(pytest.param(DecordReader, name, id=f"decord-{name}") for name in RECIPES if name not in UNSAFE),
]


@pytest.fixture(autouse=True)
def _hardware(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    case = getattr(request.node, "callspec", None)
    if case is not None and case.params.get("open_reader") is nvdec_reader and not nvdec.is_available():
        pretend(monkeypatch)


def in_a_row(path: Path) -> list[Pixels]:
    """Every frame, by PyAV's own decoding from the first packet to the last; not turned upright."""
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(("open_reader", "name"), CASES)
def test_frame_n_is_frame_n(open_reader: OpenReader, name: str, video: MakeVideo) -> None:
    expected = shown(name)
    rng = random.Random(name)
    with open_reader(video(name)) as reader:
        row = list(reader.frames())
        if open_reader is nvdec_reader:
            assert isinstance(reader, VideoReader)
            assert reader.decoder == "nvdec"
            with VideoReader(video(name)) as processor:
                assert all(np.array_equal(pixels, processor.frame(number)) for number, _, pixels in row)
        assert [number for number, _, _ in row] == list(range(len(expected)))
        assert [number_in(pixels) for _, _, pixels in row] == expected
        chosen = rng.sample(range(len(expected)), 8 if open_reader is DecordReader else 40)
        for number in (0, len(expected) - 1, *chosen, chosen[-1], chosen[-1]):
            pixels = reader.frame(number)
            assert number_in(pixels) == expected[number]
            assert np.array_equal(pixels, row[number][2]), f"frame {number} of {chosen}"


@pytest.mark.parametrize(("open_reader", "name"), CASES)
def test_frames_have_their_times(open_reader: OpenReader, name: str, video: MakeVideo) -> None:
    ticks = np.array(RECIPES[name].times(), np.float64)[shown(name)]
    expected = (ticks - ticks[0]) / TICKS
    with open_reader(video(name)) as reader:
        np.testing.assert_allclose(reader.times, expected, atol=0.6e-3)  # Matroska counts in milliseconds
        assert (np.diff(reader.times) > 0).all()
        for number, time, _ in reader.frames(0, None, 11):
            assert time == reader.times[number]
        assert reader.facts.frame_count == len(expected)
        step = expected[-1] - expected[-2]
        assert reader.facts.duration == pytest.approx(expected[-1] + step, abs=0.05)


@pytest.mark.parametrize("name", RECIPES)
def test_without_turning_it_is_what_decoding_gives(name: str, video: MakeVideo) -> None:
    expected = in_a_row(video(name))
    with VideoReader(video(name)) as reader:
        for number in (0, 7, 31, len(expected) - 1):
            assert np.array_equal(reader.frame(number), reader.renderer.orientation.upright(expected[number]))


@pytest.mark.parametrize(("open_reader", "name"), [(VideoReader, "b-frames"), (DecordReader, "b-frames")])
def test_every_third_frame_of_a_stretch(open_reader: OpenReader, name: str, video: MakeVideo) -> None:
    with open_reader(video(name)) as reader:
        row = list(reader.frames(5, 50, 3))
        assert [number for number, _, _ in row] == list(range(5, 50, 3))
        assert [number_in(pixels) for _, _, pixels in row] == list(range(5, 50, 3))
        assert [number for number, _, _ in reader.frames(55, 1000)] == [55, 56, 57, 58, 59]
        assert list(reader.frames(60)) == []


@pytest.mark.parametrize(("open_reader", "name"), [(VideoReader, "b-frames"), (DecordReader, "b-frames")])
def test_frames_are_scaled_as_asked(open_reader: OpenReader, name: str, video: MakeVideo) -> None:
    with open_reader(video(name)) as reader:
        for number, _, pixels in reader.frames(0, 60, 20, size=(128, 96)):
            assert pixels.shape == (96, 128, 3)
            whole = reader.frame(number).reshape(96, 2, 128, 2, 3).mean((1, 3))
            assert np.abs(pixels - whole).mean() < 6


def test_a_turned_video_is_scaled_upright(video: MakeVideo) -> None:
    with VideoReader(video("rotated 90")) as reader:
        (_, _, pixels) = next(reader.frames(9, 10, size=(128, 96)))
        assert pixels.shape == (96, 128, 3)
        whole = reader.frame(9).reshape(96, 2, 128, 2, 3).mean((1, 3))
        assert np.abs(pixels - whole).mean() < 6


@pytest.mark.parametrize(("open_reader", "name"), [(VideoReader, "vfr"), (DecordReader, "vfr")])
def test_a_frame_that_is_not_there(open_reader: OpenReader, name: str, video: MakeVideo) -> None:
    with open_reader(video(name)) as reader:
        for number in (-1, 60, 10**9):
            with pytest.raises(FrameOutOfRange, match=f"no frame {number}; the last frame of this video is 59"):
                reader.frame(number)
        assert number_in(reader.frame(59)) == 59


@pytest.mark.parametrize("name", UNSAFE)
def test_decord_is_not_given_what_it_gets_wrong(name: str, video: MakeVideo) -> None:
    with pytest.raises(UnsafeForDecord, match=UNSAFE[name]):
        DecordReader(video(name))


@pytest.mark.parametrize("name", RECIPES)
def test_frames_are_counted_only_where_they_have_to_be(name: str, video: MakeVideo) -> None:
    with VideoReader(video(name)) as reader:
        assert reader.index.counted == (name in COUNTED)


def test_facts(video: MakeVideo) -> None:
    with VideoReader(video("rotated 90")) as reader:
        facts = reader.facts
    assert (facts.width, facts.height, facts.rotation) == (256, 192, 270)
    assert (facts.codec, facts.pixel_format, facts.has_audio) == ("h264", "yuv420p", False)
    assert facts.fps == pytest.approx(25)
    rotations = {"rotated 180": 180, "rotated 270": 90, "b-frames": 0}
    for name, rotation in rotations.items():
        with VideoReader(video(name)) as reader:
            assert reader.facts.rotation == rotation
    with VideoReader(video("60 fps")) as reader:
        assert reader.facts.fps == pytest.approx(60)
    with VideoReader(video("av1")) as reader:
        assert reader.facts.codec == "av1"
    with VideoReader(video(Recipe(frames=5, beeps=(0.0,)))) as reader:
        assert reader.facts.has_audio


def test_a_file_object_is_as_good_as_a_path(video: MakeVideo) -> None:
    data = video("open gop in mpeg-ts").read_bytes()
    file = io.BytesIO(data)
    with VideoReader(file) as reader:
        assert [number_in(reader.frame(number)) for number in (50, 3, 59, 24)] == [50, 3, 59, 24]
    assert not file.closed


def test_pictures_refreshed_bit_by_bit(video: MakeVideo) -> None:
    refreshed = {"preset": "veryfast", "x264-params": "intra-refresh=1:keyint=20:bframes=0"}
    path = video(Recipe("mpegts", frames=90, encoder=refreshed))
    row = in_a_row(path)
    with VideoReader(path) as reader:
        assert len(reader.index.keys) > 3
        for number in (88, 3, 75, 49, 21, 20, 70):
            assert np.array_equal(reader.frame(number), row[number])


def test_two_streams_one_behind_the_other_are_counted(video: MakeVideo) -> None:
    first, second = video("mpeg-ts").read_bytes(), video("open gop in mpeg-ts").read_bytes()
    with VideoReader(io.BytesIO(first + second)) as reader:
        assert reader.index.counted
        assert [number_in(pixels) for _, _, pixels in reader.frames()] == [*range(60), *range(60)]
        assert [number_in(reader.frame(number)) for number in (70, 59, 60, 5, 119)] == [10, 59, 0, 5, 59]
        assert np.diff(reader.times).max() == pytest.approx(0.04)


@pytest.mark.parametrize("name", ["mpeg-ts", "open gop in mpeg-ts"])
@pytest.mark.parametrize("packets", [30, 61, 110])
def test_a_broadcast_that_begins_in_the_middle(name: str, packets: int, video: MakeVideo) -> None:
    data = video(name).read_bytes()[188 * packets :]
    with VideoReader(io.BytesIO(data)) as reader:
        row = [pixels for _, _, pixels in reader.frames()]
        first = number_in(row[0])
        assert first is not None
        assert first > 0
        assert [number_in(pixels) for pixels in row] == list(range(first, 60))
        for number in (len(row) - 1, 2, len(row) // 2, 0):
            assert np.array_equal(reader.frame(number), row[number])


def test_closing_ends_the_threads_and_closes_the_file(video: MakeVideo) -> None:
    def open_things() -> tuple[int, int]:
        tasks, files = Path("/proc/self/task"), Path("/proc/self/fd")
        return len(list(tasks.iterdir())), len(list(files.iterdir()))

    path = video("b-frames")
    before = open_things()
    reader = VideoReader(path, threads=3)
    reader.frame(30)
    during = open_things()
    assert during[0] >= before[0] + 3
    assert during[1] == before[1] + 1
    reader.close()
    assert open_things() == before
    reader.close()


def test_colours_survive(video: MakeVideo) -> None:
    from tests.unit.vision.media.samples import picture

    with VideoReader(video("b-frames")) as reader:
        assert np.abs(reader.frame(30).astype(int) - picture(30)).mean() < 6


def test_a_picture_is_no_video() -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    for data in (file.getvalue(), b"", b"not a video", b"#EXTM3U\n/etc/passwd"):
        with pytest.raises(InvalidMedia):
            VideoReader(io.BytesIO(data))


def test_long_key_frame_distances_are_decoded_from_where_the_reader_is(video: MakeVideo) -> None:
    with VideoReader(video(Recipe(frames=90, encoder={**X264, "g": "600", "bf": "2"}))) as reader:
        seeks = 0
        seek = reader._seek

        def counted(number: int) -> None:
            nonlocal seeks
            seeks += 1
            seek(number)

        reader._seek = counted  # type: ignore[method-assign]
        for number in (5, 6, 40, 40, 41, 89):
            assert number_in(reader.frame(number)) == number
        assert seeks == 0
        reader.frame(88)
        assert seeks == 1


def test_a_picture_is_shrunk_by_the_filter_that_is_asked_for(video: MakeVideo) -> None:
    with VideoReader(video("b-frames")) as reader:
        picture = reader.picture(7)
        area, bicubic = (reader.pixels(picture, (48, 27), how).astype(int) for how in ("AREA", "BICUBIC"))
    assert area.shape == bicubic.shape == (27, 48, 3)
    assert 0 < np.abs(area - bicubic).mean() < 8
