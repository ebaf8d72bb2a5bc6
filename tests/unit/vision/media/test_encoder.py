"""Clips and overlays: which frames they hold, when, how they look, what they sound like, how they leave."""

import gc
import io
import threading
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.unit.vision.media.conftest import MakeVideo
from tests.unit.vision.media.samples import RECIPES, X264, Recipe, number_in, shown
from vision.errors import InvalidInput, InvalidMedia
from vision.images import Pixels
from vision.media.audio import Sound
from vision.media.container import CODECS, SOUND_CODECS, MediaFile
from vision.media.encoder import encode
from vision.media.plan import Box, BoxTrack, ClipPlan, EncoderOptions, FrameOutOfRange
from vision.media.reader import VideoReader

BEEPS = (0.4, 1.2, 2.0)
WITH_SOUND = Recipe(frames=75, beeps=BEEPS, encoder={**X264, "g": "20", "bf": "3"})


def made(path: Path, plan: ClipPlan, boxes: BoxTrack | None = None) -> bytes:
    with VideoReader(path) as reader:
        return b"".join(encode(reader, partial(path.open, "rb"), plan, boxes))


def psnr(one: Pixels, other: Pixels) -> float:
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 10 * np.log10(255**2 / max(error, 1e-9))


def beeps_in(data: bytes) -> tuple[list[float], int]:
    """When the sound of a file gets loud, in seconds from its first picture, and the length of it in samples."""
    with av.open(io.BytesIO(data)) as container:
        pictures = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.size]
    with av.open(io.BytesIO(data)) as container:
        rate = container.streams.audio[0].rate
        loud = np.zeros(0, bool)
        start = None
        for frame in container.decode(audio=0):
            start = frame.pts * frame.time_base if start is None else start
            loud = np.concatenate([loud, np.abs(frame.to_ndarray()[0]) > 0.1])
    assert start is not None
    spaced = loud & ~np.concatenate(
        [[False], np.lib.stride_tricks.sliding_window_view(np.pad(loud, (rate // 10 - 1, 0)), rate // 10).any(1)[:-1]]
    )
    return [float(start) + place / rate - min(pictures) for place in np.flatnonzero(spaced)], len(loud)


@pytest.mark.parametrize("name", RECIPES)
def test_a_clip_holds_its_frames_and_no_others(name: str, video: MakeVideo) -> None:
    path, numbers = video(name), shown(name)
    data = made(path, ClipPlan("clip", 7, 33))
    with VideoReader(path) as source, VideoReader(io.BytesIO(data)) as clip:
        row = list(clip.frames())
        assert [number_in(pixels) for _, _, pixels in row] == numbers[7:34]
        np.testing.assert_allclose(clip.times, source.times[7:34] - source.times[7], atol=2e-5)  # two ticks of 90 kHz
        assert min(psnr(pixels, source.frame(7 + number)) for number, _, pixels in row) > 30
        assert (clip.facts.width, clip.facts.height) == (source.facts.width, source.facts.height)
        assert (clip.facts.codec, clip.facts.pixel_format, clip.container) == ("h264", "yuv420p", "mpegts")
        assert clip.facts.rotation == 0


@pytest.mark.parametrize("plan", [ClipPlan("clip", 5, 5), ClipPlan("clip", 59, 59), ClipPlan("clip", 0, 0)])
def test_a_clip_of_one_frame(plan: ClipPlan, video: MakeVideo) -> None:
    with VideoReader(io.BytesIO(made(video("b-frames"), plan))) as clip:
        assert [number_in(pixels) for _, _, pixels in clip.frames()] == [plan.start_frame]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5])
def test_a_clip_of_a_few_small_frames_is_recognised(frames: int, video: MakeVideo) -> None:
    data = made(video(Recipe(frames=6, size=(64, 48), encoder=X264)), ClipPlan("clip", 0, frames - 1))
    assert len(data) % 188 == 0
    with av.open(io.BytesIO(data)) as clip:
        assert clip.format.name == "mpegts"
        assert len(list(clip.decode(video=0))) == frames


def test_a_whole_video_as_a_clip(video: MakeVideo) -> None:
    with VideoReader(io.BytesIO(made(video("vfr"), ClipPlan("clip")))) as clip:
        assert [number_in(pixels) for _, _, pixels in clip.frames()] == list(range(60))


def test_sides_of_odd_length_lose_a_pixel(video: MakeVideo) -> None:
    path = video(Recipe("matroska", "libvpx-vp9", frames=6, size=(255, 191), encoder={"cpu-used": "8"}))
    with VideoReader(io.BytesIO(made(path, ClipPlan("clip")))) as clip:
        assert (clip.facts.width, clip.facts.height) == (254, 190)
        assert [number_in(pixels) for _, _, pixels in clip.frames()] == list(range(6))


@pytest.mark.parametrize(("rotation", "size"), [(None, (384, 192)), (90, (256, 288))])
@pytest.mark.parametrize("plan", [ClipPlan("clip"), ClipPlan("overlay", caption="CLIP")])
def test_the_pixels_of_a_clip_are_square(
    plan: ClipPlan, rotation: int | None, size: tuple[int, int], video: MakeVideo
) -> None:
    path = video(Recipe(frames=5, rotation=rotation, pixel_aspect=Fraction(3, 2), encoder=X264))
    data = made(path, plan)
    with VideoReader(io.BytesIO(data)) as clip, av.open(io.BytesIO(data)) as file:
        assert (clip.facts.width, clip.facts.height) == size
        assert file.streams.video[0].sample_aspect_ratio in (None, 1)


@pytest.mark.parametrize("action", ["clip", "overlay"])
def test_sound_stays_with_its_pictures(action: Any, video: MakeVideo) -> None:
    data = made(video(WITH_SOUND), ClipPlan(action, 5, 64))
    found, samples = beeps_in(data)
    assert found == pytest.approx([beep - 5 / 25 for beep in BEEPS], abs=0.02)
    assert samples == pytest.approx(60 / 25 * 48_000, abs=2 * 1024)
    with av.open(io.BytesIO(data)) as container:
        sound = container.streams.audio[0].codec_context
        assert (sound.name, sound.rate, sound.layout.name) == ("aac", 48_000, "stereo")


def test_sound_begins_in_the_middle_of_a_beep(video: MakeVideo) -> None:
    found, _ = beeps_in(made(video(WITH_SOUND), ClipPlan("clip", 30, 60)))
    assert found == pytest.approx([0.0, 0.8], abs=0.025)


def test_sound_of_an_edited_video(video: MakeVideo) -> None:
    """Ten frames are hidden, and with them the sound of that time."""
    ticks = [(number - 10) * 3600 for number in range(80)]
    hidden = Recipe(ticks=ticks, beeps=BEEPS, encoder={**X264, "g": "20"}, muxer={"avoid_negative_ts": "disabled"})
    found, _ = beeps_in(made(video(hidden), ClipPlan("clip", 5, 60)))
    assert found == pytest.approx([beep - 5 / 25 for beep in BEEPS], abs=0.02)


def test_sound_that_is_too_short_ends_in_silence(video: MakeVideo) -> None:
    with av.open(str(video(WITH_SOUND))) as container:
        seconds = float(container.streams.audio[0].duration * container.streams.audio[0].time_base)
    assert seconds > 2.9
    cut = Recipe(frames=100, beeps=BEEPS, sound_s=1.0, encoder=X264)
    found, samples = beeps_in(made(video(cut), ClipPlan("clip")))
    assert found == pytest.approx(BEEPS[:1], abs=0.02)
    assert samples == pytest.approx(4 * 48_000, abs=2 * 1024)


@pytest.mark.parametrize(("path_of", "audio"), [(WITH_SOUND, False), (Recipe(frames=20, encoder=X264), True)])
def test_without_sound(path_of: Recipe, audio: bool, video: MakeVideo) -> None:
    with av.open(io.BytesIO(made(video(path_of), ClipPlan("clip", 0, 10, audio=audio)))) as container:
        assert not container.streams.audio
        assert len(list(container.decode(video=0))) == 11


def test_times_choose_frames(video: MakeVideo) -> None:
    with VideoReader(io.BytesIO(made(video("b-frames"), ClipPlan("clip", start_time=0.4, end_time=1.0)))) as clip:
        assert [number_in(pixels) for _, _, pixels in clip.frames()] == list(range(10, 25))


def test_a_caption_is_drawn_in_the_corner(video: MakeVideo) -> None:
    path = video("b-frames")
    with (
        VideoReader(io.BytesIO(made(path, ClipPlan("clip", 0, 30)))) as plain,
        VideoReader(io.BytesIO(made(path, ClipPlan("clip", 0, 30, caption="CLIP")))) as marked,
    ):
        for number in (0, 30):
            changed = np.abs(plain.frame(number).astype(int) - marked.frame(number)).max(2) > 60
            assert changed[:40, :200].mean() > 0.2
            assert changed[60:].mean() < 0.01
        assert np.abs(marked.frame(3).astype(int) - marked.frame(30))[8:24, 60:120].max() > 100  # its number changes


def track(numbers: Iterable[int]) -> BoxTrack:
    return BoxTrack.of((number, Box(40 + number, 60, 80, 100, f"trace {number // 20}", 5)) for number in numbers)


@pytest.mark.parametrize("name", ["b-frames", "rotated 90", "vfr"])
def test_boxes_are_drawn_on_their_frames(name: str, video: MakeVideo) -> None:
    path = video(name)
    data = made(path, ClipPlan("overlay"), track(range(10, 50)))
    colour = np.array([213, 94, 0])
    with VideoReader(path) as source, VideoReader(io.BytesIO(data)) as overlay:
        assert overlay.container == "mov"
        np.testing.assert_allclose(overlay.times, source.times, atol=2e-5)  # two ticks of 90 kHz
        for number, _, pixels in overlay.frames():
            assert number_in(pixels) == number
            edge = pixels[80:150, 39 + number : 42 + number].astype(int)
            drawn = (np.abs(edge - colour).max(2) < 90).any(1).mean()
            assert drawn > 0.8 if 10 <= number < 50 else drawn < 0.2, number
            inside = slice(90, 150), slice(50 + number, 110 + number)
            assert psnr(pixels[inside], source.frame(number)[inside]) > 26


@pytest.mark.parametrize("name", ["b-frames", "vfr", "rotated 90", "mpeg-ts"])
def test_drawing_leaves_the_pictures_of_the_reader_as_they_are(name: str, video: MakeVideo) -> None:
    path = video(name)
    with VideoReader(path) as reader, VideoReader(path) as other:
        plan = ClipPlan("overlay", 10, 25, caption="DEBUG")
        assert b"".join(encode(reader, partial(path.open, "rb"), plan, track(range(60))))
        for number in (25, 26, 27, 30):
            assert np.array_equal(reader.frame(number), other.frame(number))


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi"])
def test_sound_is_the_same_where_no_picture_is_decoded_to_open_the_file(container: str, video: MakeVideo) -> None:
    path = video(replace(WITH_SOUND, container=container))
    heard = []
    for codecs in (CODECS, SOUND_CODECS):
        with MediaFile(path, probed=True, codecs=codecs) as media:
            assert (media.container.streams.video[0].pix_fmt is None) == (codecs == SOUND_CODECS)
            sound = Sound(media, media.audio(), media.start_of(media.audio()) + 0.3, 2.5)
            heard.append((sound.rate, sound.take(2.0)))
    assert heard[0][0] == heard[1][0]
    assert np.abs(heard[0][1]).max() > 0.3
    assert np.array_equal(heard[0][1], heard[1][1])


def test_fragments_begin_before_the_end_is_known(video: MakeVideo) -> None:
    data = made(video(WITH_SOUND), ClipPlan("overlay"))
    assert data[4:8] == b"ftyp"
    assert data.count(b"moof") >= 3
    assert data.index(b"moov") < data.index(b"moof") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        (ClipPlan("clip", 0, 60), FrameOutOfRange),
        (ClipPlan("clip", 60, 70), FrameOutOfRange),
        (ClipPlan("clip", 20, 10), InvalidInput),
        (ClipPlan("clip", start_time=99.0), InvalidInput),
    ],
)
def test_what_cannot_be_cut_fails_before_the_first_byte(
    plan: ClipPlan, error: type[Exception], video: MakeVideo
) -> None:
    path = video("b-frames")
    with VideoReader(path) as reader, pytest.raises(error):
        next(encode(reader, partial(path.open, "rb"), plan))


def test_damage_at_the_first_frame_fails_before_the_first_byte(video: MakeVideo) -> None:
    data = bytearray(video("b-frames").read_bytes())
    with av.open(io.BytesIO(data)) as container:
        for packet in container.demux(video=0):
            if packet.size and packet.pts * packet.time_base >= 1.6:  # frame 40 is a key frame
                data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    with VideoReader(io.BytesIO(data)) as reader:
        assert sum(map(len, encode(reader, lambda: io.BytesIO(data), ClipPlan("clip", 20, 39)))) > 1000
        with pytest.raises(InvalidMedia, match="Frame 45"):
            next(encode(reader, lambda: io.BytesIO(data), ClipPlan("clip", 45, 50)))


def test_damage_in_the_middle_costs_the_frames_that_are_damaged(video: MakeVideo) -> None:
    data = bytearray(video("mpeg-ts").read_bytes())
    middle = len(data) // 2 // 188 * 188
    data[middle : middle + 188 * 8] = bytes(188 * 8)
    with VideoReader(io.BytesIO(data)) as reader:
        clip = b"".join(encode(reader, lambda: io.BytesIO(data), ClipPlan("clip")))
    with VideoReader(io.BytesIO(clip)) as reader:
        numbers = [number_in(pixels) for _, _, pixels in reader.frames()]
    assert numbers[:20] == list(range(20))
    assert numbers[-20:] == list(range(40, 60))


def test_a_reader_that_leaves_leaves_nothing_open(video: MakeVideo) -> None:
    path = video(WITH_SOUND)
    made(path, ClipPlan("clip", 0, 3))
    gc.collect()  # what tests before have left
    files, threads = len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))
    for _ in range(5):
        with VideoReader(path) as reader:
            chunks = encode(reader, partial(path.open, "rb"), ClipPlan("clip"))
            while not next(chunks):
                pass
            chunks.close()
    gc.collect()
    # What other tests have left may end meanwhile.
    assert len(list(Path("/proc/self/fd").iterdir())) <= files
    assert len(list(Path("/proc/self/task").iterdir())) <= threads + 1
    assert threading.active_count() == 1 or threading.current_thread() is threading.main_thread()


def test_memory_does_not_grow_with_the_clip(video: MakeVideo) -> None:
    path = video(Recipe(frames=300, beeps=(1.0,), encoder={"preset": "ultrafast"}))

    def peak(frames: int) -> int:
        with VideoReader(path) as reader:
            tracemalloc.start()
            size = sum(map(len, encode(reader, partial(path.open, "rb"), ClipPlan("clip", 0, frames - 1))))
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert size > frames * 100
        return most

    peak(10)
    assert peak(300) < peak(60) + 500_000


def test_a_picture_that_stands_for_long_takes_no_more_memory(video: MakeVideo) -> None:
    path = video(Recipe(ticks=[0, 3600, 7200, 150 * 90_000], beeps=(0.5,), sound_s=2, encoder=X264))
    tracemalloc.start()
    data = made(path, ClipPlan("clip"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    found, samples = beeps_in(data)
    assert samples == pytest.approx(150 * 48_000, rel=1e-3)  # whole AAC frames
    assert found == pytest.approx([0.5], abs=0.02)
    assert peak < 20_000_000  # of 58 MB that 150 s of sound are


@pytest.mark.parametrize("wrong", [{"crf": 52}, {"crf": -1}, {"preset": "slow; rm -rf /"}, {"preset": "veryslow"}])
def test_the_encoder_takes_listed_options_only(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        EncoderOptions(**wrong)


def test_quality_is_what_is_asked_for(video: MakeVideo) -> None:
    path = video("b-frames")
    fine = made(path, ClipPlan("clip", encoder=EncoderOptions(crf=12)))
    coarse = made(path, ClipPlan("clip", encoder=EncoderOptions(crf=38)))
    assert len(fine) > 2 * len(coarse)
