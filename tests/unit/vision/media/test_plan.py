"""Which frames a stretch means, and boxes by frame."""

import pickle
from typing import Any

import numpy as np
import pytest

from vision.errors import InvalidInput
from vision.media.plan import Box, BoxTrack, ClipPlan, FrameOutOfRange

TIMES = np.arange(100) / 25
VARYING = np.array([0.0, 0.1, 0.5, 0.6, 2.0])


@pytest.mark.parametrize(
    ("asked", "frames"),
    [
        ({}, (0, 99)),
        ({"start_frame": 0, "end_frame": 47}, (0, 47)),
        ({"start_frame": 99}, (99, 99)),
        ({"end_frame": 0}, (0, 0)),
        ({"start_time": 0, "end_time": 1}, (0, 24)),
        ({"start_time": 1, "end_time": 2}, (25, 49)),
        ({"start_time": 1.01, "end_time": 1.02}, (25, 25)),  # what is on the screen
        ({"start_time": 0.6, "end_time": 0.64}, (15, 15)),  # 15 / 25 is not quite 0.6 in binary
        ({"start_time": 3.96, "end_time": 500}, (99, 99)),
        ({"end_time": 0.04}, (0, 0)),
        ({"start_time": 1, "end_time": 2, "fps": 10}, (10, 19)),
        ({"start_time": 0, "end_time": 100, "fps": 10}, (0, 99)),
        ({"start_frame": 3, "end_time": 1}, (3, 24)),
    ],
)
def test_a_stretch_is_a_range_of_frames(asked: dict[str, Any], frames: tuple[int, int]) -> None:
    assert ClipPlan("clip", **asked).part(TIMES, 4.0)[:2] == frames


def test_times_are_those_of_the_frames_whatever_their_rate() -> None:
    assert ClipPlan("clip", start_time=0.55, end_time=1.5).part(VARYING, 2.1)[:2] == (2, 3)
    assert ClipPlan("clip", start_time=0.7).part(VARYING, 2.1)[:2] == (3, 4)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"start_frame": 100}, FrameOutOfRange, "no frame 100; the last frame of this video is 99"),
        ({"end_frame": 100}, FrameOutOfRange, "no frame 100"),
        ({"start_frame": -1}, FrameOutOfRange, "no frame -1"),
        ({"start_frame": 5, "end_frame": 4}, InvalidInput, "end at frame 4, before its start at frame 5"),
        ({"start_time": 2, "end_time": 1}, InvalidInput, "before its start"),
        ({"start_time": 1, "end_time": 1}, InvalidInput, "before its start"),
        ({"end_time": 0}, FrameOutOfRange, "no frame -1"),
        ({"start_time": -1}, InvalidInput, "in seconds"),
        ({"start_time": float("nan")}, InvalidInput, "in seconds"),
        ({"end_time": float("inf")}, InvalidInput, "in seconds"),
        ({"start_time": 4.5}, InvalidInput, "ends at 4.000 s"),
        ({"start_time": 1, "fps": 0}, InvalidInput, "fps must be above 0"),
    ],
)
def test_what_is_no_stretch_is_explained(asked: dict[str, Any], error: type[InvalidInput], message: str) -> None:
    with pytest.raises(error, match=message):
        ClipPlan("clip", **asked).part(TIMES, 4.0)


def test_boxes_are_found_by_frame() -> None:
    boxes = [Box(1, 2, 3, 4, "a", 0), Box(5.5, 6, 7, 8, "b", 9), Box(0, 0, 1, 1, "a", 1)]
    track = BoxTrack.of([(7, boxes[0]), (3, boxes[1]), (7, boxes[2])])
    assert track.labels == ("b", "a")
    for found in (track, pickle.loads(pickle.dumps(track))):
        assert found.at(3) == [boxes[1]]
        assert found.at(7) == [boxes[0], boxes[2]]
        assert found.at(0) == found.at(5) == found.at(8) == []


def test_a_track_without_boxes() -> None:
    track = BoxTrack.of([])
    assert track.at(0) == []
    assert track.boxes.shape == (0, 4)
