"""The process of decord: it ends with its reader, and is killed when it takes too long or gives up."""

import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from tests.unit.vision.media.conftest import MakeVideo
from tests.unit.vision.media.samples import number_in
from tests.waiting import wait_for
from vision.errors import ProcessingFailed
from vision.media import decord_reader as decord_module
from vision.media.decord_reader import DecordReader, decord_objections, is_fragmented, open_reader
from vision.media.reader import VideoReader


class Children:
    """The children of this process that tests before have not left."""

    def __init__(self) -> None:
        self._before = set(self._all())

    def __call__(self) -> list[psutil.Process]:
        return [child for child in self._all() if child not in self._before]

    def _all(self) -> list[psutil.Process]:
        found = []
        for child in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                if "vision.child" in " ".join(child.cmdline()):
                    found.append(child)
        return found


@pytest.fixture
def children() -> Children:
    return Children()


def test_it_stands_still_between_batches_and_ends_with_its_reader(
    video: MakeVideo, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decord_module, "BATCH", 4)
    with DecordReader(video("b-frames")) as reader:
        frames = reader.frames()
        for _ in range(6):
            next(frames)
        (child,) = children()
        wait_for(lambda: child.status() == psutil.STATUS_STOPPED)
        before = child.cpu_times()
        time.sleep(0.1)
        assert child.cpu_times()[:2] == before[:2]
        assert number_in(reader.frame(40)) == 40
        assert children() == [child]
    assert children() == []


def test_it_is_killed_when_it_takes_too_long(video: MakeVideo, children: Children) -> None:
    with DecordReader(video("b-frames")) as reader:
        reader._timeout_s = 0.01  # less than its start takes
        with pytest.raises(ProcessingFailed, match="took too long"):
            reader.frame(3)
    assert children() == []


def test_it_may_die(video: MakeVideo, children: Children) -> None:
    with DecordReader(video("b-frames")) as reader:
        frames = reader.frames()
        next(frames)
        children()[0].kill()
        with pytest.raises(ProcessingFailed, match="decord ended"):
            list(frames)
        with pytest.raises(ProcessingFailed, match="decord ended"):
            reader.frame(3)
    assert children() == []


def test_it_does_not_outlive_a_parent_that_is_killed(video: MakeVideo) -> None:
    code = (
        "import sys, time; from pathlib import Path; from vision.media.decord_reader import DecordReader\n"
        "frames = DecordReader(Path(sys.argv[1])).frames(); next(frames); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(video("b-frames"))], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"\n"
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
    assert psutil.wait_procs([child], timeout=10)[0] == [child]


def test_a_video_that_changes_is_noticed(video: MakeVideo) -> None:
    with DecordReader(video("b-frames")) as reader:
        reader.times = reader.times[:-1]
        with pytest.raises(decord_module.UnsafeForDecord, match="other times"):
            next(reader.frames())


def test_fragments_are_found(video: MakeVideo) -> None:
    assert is_fragmented(video("fragmented"))
    for name in ("b-frames", "matroska", "mpeg-ts"):
        assert not is_fragmented(video(name))


def test_a_video_that_is_not_safe_is_read_by_pyav(video: MakeVideo) -> None:
    for name, backend in (("b-frames", DecordReader), ("edit list", VideoReader), ("av1", VideoReader)):
        reader = open_reader(video(name), "decord")
        assert isinstance(reader, backend)
        reader.close()
    reader = open_reader(video("b-frames"))
    assert isinstance(reader, VideoReader)
    assert decord_objections(reader, video("b-frames")) == []
    reader.close()
