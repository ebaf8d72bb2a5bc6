"""Files of few bytes that would take minutes or gigabytes: refused, or read as far as they are a film or a sound."""

import resource
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.media_bombs import BOMBS, film, golomb, moov_of, muxed, scans, skipping, track
from vision import deadlines
from vision.errors import DeadlineExceeded, InvalidMedia
from vision.media.probe import Limits, probe
from vision.media.reader import VideoReader

LIMITS = Limits(50 * 2**20, 4 * 2**30, 100 * 2**20, 80_000_000)
MOST_RESIDENT = 600 * 2**10
"""Kilobytes by which a bomb may make this process larger."""


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_read(name: str, tmp_path: Path) -> None:
    filename, make, refused = BOMBS[name]
    path = tmp_path / filename
    path.write_bytes(make())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if refused:
        with pytest.raises(InvalidMedia):
            probe(path, LIMITS, poster=tmp_path / "poster")
    else:
        assert probe(path, LIMITS, poster=tmp_path / "poster").duration
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_RESIDENT


def test_a_packet_of_endless_work_is_left_out_and_the_others_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    picture = scans(640, 2)
    path.write_bytes(muxed([picture] * 5 + [scans(6000, 200), picture], "mjpeg", "matroska", pixel="yuvj420p"))
    with pytest.raises(InvalidMedia, match="far more work"):
        VideoReader(path)
    fill = picture[:-2] + b"\xff\xfe\xff\xff" + bytes(65533) + picture[-2:]
    path.write_bytes(muxed([fill] * 80 + [scans(6000, 200), picture], "mjpeg", "matroska", pixel="yuvj420p"))
    with VideoReader(path) as reader:
        assert [number for number, _, _ in reader.frames(size=(16, 16))] == [*range(80), 81]


def test_films_of_many_slices_are_films(tmp_path: Path) -> None:
    """One slice for each row of blocks, as cameras and broadcasters write them."""
    first, slices = skipping((640, 480), 1200)
    path = tmp_path / "film.avi"
    path.write_bytes(muxed([first, b"".join(b"\0\0\1" + unit for unit in slices)], "h264", "avi", (640, 480)))
    with VideoReader(path) as reader:
        assert len([*reader.frames()]) == 2


@pytest.mark.parametrize(("tracks", "samples"), [(1, 12_000_001), (30, 500_000)])
def test_claims_of_all_tracks_count_together(tracks: int, samples: int, tmp_path: Path) -> None:
    data = film()
    at, size = moov_of(data)
    more = b"".join(track(samples, number) for number in range(2, 2 + tracks))
    path = tmp_path / "film.mp4"
    path.write_bytes(data[:at] + (size + len(more)).to_bytes(4, "big") + data[at + 4 : at + size] + more)
    with pytest.raises(InvalidMedia, match="states more samples"):
        probe(path, LIMITS)


def test_reading_ends_with_the_time_of_the_request(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(film())
    with VideoReader(path) as reader:
        frames = reader.frames()
        next(frames)
        token = deadlines.request_deadline.set(1.0)
        try:
            with pytest.raises(DeadlineExceeded):
                list(frames)
            with pytest.raises(DeadlineExceeded):
                VideoReader(path)
        finally:
            deadlines.request_deadline.reset(token)
        assert np.isfinite(reader.times).all()


def test_codes_of_golomb() -> None:
    assert [golomb(number) for number in range(5)] == ["1", "010", "011", "00100", "00101"]
