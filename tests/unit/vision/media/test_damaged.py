"""Damaged files: the good frames come, or InvalidMedia; nothing hangs, nothing else is raised."""

import io
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest

from tests.unit.vision.media.conftest import MakeVideo
from tests.unit.vision.media.samples import RECIPES, number_in
from vision.errors import InvalidMedia, StageUnavailable
from vision.media.container import TimeLimit
from vision.media.reader import VideoReader

Harm = Callable[[bytearray, random.Random], None]


def cut_short(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 20, 400])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    size = min(rng.choice([16, 500, 8000]), len(data) - start)
    data[start : start + size] = rng.randbytes(size) if rng.random() < 0.5 else bytes(size)


def lose(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.choice([1, 188, 5000])]


def repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.choice([1, 188, 5000])]


@pytest.mark.parametrize("harm", [cut_short, flip_bits, overwrite, lose, repeat])
@pytest.mark.parametrize("name", ["b-frames", "open gop in mpeg-ts", "fragmented", "vp9", "mpeg-4 in avi", "hevc"])
@pytest.mark.timeout(120)
def test_whatever_is_wrong(name: str, harm: Harm, video: MakeVideo) -> None:
    rng = random.Random(name + harm.__name__)
    whole = video(name).read_bytes()
    for _ in range(6):
        data = bytearray(whole)
        harm(data, rng)
        with suppress(InvalidMedia), VideoReader(io.BytesIO(data), timeout_s=5) as reader:
            numbers = [number for number, _, _ in reader.frames()]
            assert numbers == sorted(set(numbers))
            assert len(reader.times) == reader.facts.frame_count
            for number in (0, reader.facts.frame_count // 2, reader.facts.frame_count - 1):
                with suppress(InvalidMedia):
                    assert reader.frame(number).shape[2] == 3


def test_what_lies_around_the_damage_is_whole(video: MakeVideo) -> None:
    """Key frames are 0, 20 and 40: damage in the second group leaves the first and the third as they were."""
    data = bytearray(video("mpeg-ts").read_bytes())
    with VideoReader(io.BytesIO(data)) as reader:
        whole = [pixels for _, _, pixels in reader.frames()]
    middle = len(data) // 2 // 188 * 188
    data[middle : middle + 188 * 6] = bytes(188 * 6)
    with VideoReader(io.BytesIO(data)) as reader:
        found = {number_in(pixels): pixels for _, _, pixels in reader.frames()}
    for number in (*range(20), *range(40, 60)):
        assert np.array_equal(found[number], whole[number]), number
    assert any(number not in found or not np.array_equal(found[number], whole[number]) for number in range(20, 40))


def test_a_file_cut_short_keeps_its_first_frames(video: MakeVideo) -> None:
    data = video("fragmented").read_bytes()
    with VideoReader(io.BytesIO(data)) as reader:
        whole = [pixels for _, _, pixels in reader.frames()]
    with VideoReader(io.BytesIO(data[: len(data) * 2 // 3])) as reader:
        row = [pixels for _, _, pixels in reader.frames()]
    assert len(whole) * 0.4 < len(row) < len(whole)
    for pixels, expected in zip(row[:20], whole, strict=False):
        assert np.array_equal(pixels, expected)


class Stalling(io.BytesIO):
    """A file whose reads take longer and longer from a point on."""

    def __init__(self, data: bytes, stall_after: int) -> None:
        super().__init__(data)
        self.left, self.reads = stall_after, 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        self.left -= 1
        if self.left < 0:
            time.sleep(0.05)
            return super().read(1)
        return super().read(size)


def test_slow_storage_is_not_the_fault_of_the_file(video: MakeVideo) -> None:
    data = video("open gop in mpeg-ts").read_bytes()
    for stall_after in (0, 1):
        file = Stalling(data, stall_after)
        with pytest.raises(StageUnavailable, match="too busy to read this video in time; try again"):
            VideoReader(file, timeout_s=0.2)
        assert file.reads < 100


class Burning(io.BytesIO):
    """A file of which each read takes the processor for 0.1 s, as damage can make the reading of a header."""

    def read(self, size: int | None = -1) -> bytes:
        work(0.1)
        return super().read(1000)


def test_a_file_that_takes_too_much_work_is_refused(video: MakeVideo) -> None:
    with pytest.raises(InvalidMedia, match="takes too long to read; it may be damaged"):
        VideoReader(Burning(video("open gop in mpeg-ts").read_bytes()), timeout_s=0.1)


@pytest.mark.parametrize("threads", [1, 2])
def test_only_the_processor_tells_work_from_waiting(threads: int) -> None:
    limit = TimeLimit(0.1, threads=threads)
    time.sleep(0.1)
    assert (limit.is_up, limit.starved) == (True, True)
    limit.restart()
    assert not limit.is_up
    work(0.1)
    assert (limit.is_up, limit.starved) == (True, False)


def test_work_of_other_threads_is_not_that_of_a_file() -> None:
    limit = TimeLimit(0.1)
    other = threading.Thread(target=work, args=(0.1,))
    other.start()
    other.join()
    assert (limit.is_up, limit.starved) == (True, True)


def work(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_bomb_is_refused(video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    from configs import settings as settings_module

    monkeypatch.setenv("VISION_MAX_IMAGE_PIXELS", "1000")
    settings_module.settings.cache_clear()
    try:
        for name in ("b-frames", "vp9", "hevc"):
            with pytest.raises(InvalidMedia):
                VideoReader(video(name))
    finally:
        monkeypatch.undo()
        settings_module.settings.cache_clear()


def test_every_recipe_survives_its_first_half(video: MakeVideo) -> None:
    for name in RECIPES:
        data = video(name).read_bytes()
        try:
            with VideoReader(io.BytesIO(data[: len(data) // 2])) as reader:
                assert sum(1 for _ in reader.frames()) > 0
        except InvalidMedia:
            assert RECIPES[name].container in ("mp4", "mov")  # their list of packets stands at the end
