"""Copies: the packets of the source, from a key frame on, in a container that fits."""

import io
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from tests.unit.vision.media.conftest import MakeVideo
from tests.unit.vision.media.samples import COUNTED, RECIPES, X264, Recipe, number_in, shown
from tests.unit.vision.media.test_encoder import BEEPS, WITH_SOUND, beeps_in
from vision.errors import InvalidInput
from vision.media.plan import ClipPlan, FrameOutOfRange
from vision.media.reader import VideoReader
from vision.media.remux import copied_part, copied_type, copy

REORDERED = 3
"""Frames behind the last that may come along, as others are decoded by them."""
CONTAINERS = {
    "mpeg-ts": ("mpegts", "video/mp2t"),
    "open gop in mpeg-ts": ("mpegts", "video/mp2t"),
    "matroska": ("matroska", "video/x-matroska"),
    "vp9": ("matroska", "video/webm"),
    "motion jpeg": ("matroska", "video/x-matroska"),
}


def copied(path: Path, plan: ClipPlan) -> bytes:
    with VideoReader(path) as reader:
        return b"".join(copy(reader, partial(path.open, "rb"), plan))


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in COUNTED])
@pytest.mark.parametrize("stretch", [(None, None), (25, 40), (0, 5), (51, 56)])
def test_a_copy_has_the_very_pixels(name: str, stretch: tuple[int | None, int | None], video: MakeVideo) -> None:
    path, plan = video(name), ClipPlan("copy", *stretch)
    data = copied(path, plan)
    container, content_type = CONTAINERS.get(name, ("mov", "video/mp4"))
    with VideoReader(path) as source, VideoReader(io.BytesIO(data)) as copy_:
        assert copied_type(source, partial(path.open, "rb"), plan) == content_type
        first, last = copied_part(source, plan)[:2]
        assert first <= (stretch[0] or 0)
        assert last == (len(source.times) - 1 if stretch[1] is None else stretch[1])
        assert copy_.container == container
        row = list(copy_.frames())
        assert last - first + 1 <= len(row) <= last - first + 1 + REORDERED
        for number, _, pixels in row[: last - first + 1]:
            assert np.array_equal(pixels, source.frame(first + number))
        times = source.times[first : last + 1] - source.times[first]
        np.testing.assert_allclose(copy_.times[: len(times)], times, atol=1e-3)  # Matroska counts in milliseconds
        assert number_in(row[0][2]) == shown(name)[first]
        assert copy_.facts.rotation == source.facts.rotation
    with av.open(io.BytesIO(data)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    # What is shown before the key frame and decoded after it has lost what it is decoded from.
    assert stamps[0] == min(stamps)


def test_it_begins_at_the_key_frame_before(video: MakeVideo) -> None:
    with VideoReader(video("b-frames")) as reader:  # key frames are 0, 20 and 40
        for first, expected in ((0, 0), (19, 0), (20, 20), (39, 20), (59, 40)):
            assert copied_part(reader, ClipPlan("copy", first))[:2] == (expected, 59)
        assert copied_part(reader, ClipPlan("copy", start_time=1.0, end_time=1.2))[:2] == (20, 29)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_sound_stays_with_its_pictures(container: str, video: MakeVideo) -> None:
    recipe = Recipe(container, frames=75, beeps=BEEPS, encoder={**X264, "g": "20", "bf": "2"})
    found, _ = beeps_in(copied(video(recipe), ClipPlan("copy", 25, 74)))
    assert found == pytest.approx([beep - 20 / 25 for beep in BEEPS[1:]], abs=0.03)


def test_sound_is_left_out_on_demand(video: MakeVideo) -> None:
    with av.open(io.BytesIO(copied(video(WITH_SOUND), ClipPlan("copy", audio=False)))) as container:
        assert not container.streams.audio
    with av.open(io.BytesIO(copied(video(WITH_SOUND), ClipPlan("copy")))) as container:
        assert len(container.streams.audio) == 1


def test_a_video_without_times_is_not_copied(video: MakeVideo) -> None:
    data = video("mpeg-ts").read_bytes() * 2
    with VideoReader(io.BytesIO(data)) as reader:
        assert reader.index.counted
        with pytest.raises(InvalidInput, match="encoded anew"):
            next(copy(reader, lambda: io.BytesIO(data), ClipPlan("copy")))


def test_a_stretch_that_is_not_there(video: MakeVideo) -> None:
    path = video("b-frames")
    with VideoReader(path) as reader, pytest.raises(FrameOutOfRange):
        next(copy(reader, partial(path.open, "rb"), ClipPlan("copy", 60)))


def test_leaving_closes_the_file(video: MakeVideo) -> None:
    path = video(WITH_SOUND)
    with VideoReader(path) as reader:
        files = []

        def reopen() -> io.BufferedReader:
            files.append(path.open("rb"))
            return files[-1]

        chunks = copy(reader, reopen, ClipPlan("copy"))
        next(chunks)
        chunks.close()
    assert [file.closed for file in files] == [True]
