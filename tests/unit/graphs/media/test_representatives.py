"""Boxes that stand for a trace: which are tried, and how they lie in the frame."""

from typing import Any

import numpy as np

from graphs.media.representatives import candidates, square_around, whole_box
from stores.people import TraceBoxes, VideoIndex
from tests.graphs.indexing import SIZE

INDEX = VideoIndex("a" * 32, "x", *SIZE, 25.0, 100, 4.0, 2, (), 1, None)  # type: ignore[arg-type]


def boxes_of(boxes: list[tuple[float, float, float, float]], confidences: list[float], detected: list[bool]) -> Any:
    return TraceBoxes(
        np.arange(len(boxes)), np.array(boxes, np.float32), np.array(confidences, np.float32), np.array(detected)
    )


def test_candidates_are_the_largest_and_surest_that_were_detected() -> None:
    sizes = [(0.0, 0.0, 10.0 + n, 10.0) for n in range(6)]
    boxes = boxes_of(sizes, [0.9, 0.9, 0.9, 0.9, 0.5, 0.9], [True, True, True, True, True, False])
    assert candidates(boxes, 3) == [3, 2, 1]
    assert candidates(boxes, 10) == [3, 2, 1, 0, 4]
    assert candidates(boxes_of(sizes, [0.9] * 6, [False] * 6), 2) == [5, 4]


def test_boxes_in_whole_pixels_stay_in_the_frame() -> None:
    boxes = boxes_of(
        [(10.4, 20.6, 30.2, 40.2), (-3, -2, 10, 9), (180, 100, 30, 30), (300, 200, 5, 5)], [1.0] * 4, [True] * 4
    )
    assert [whole_box(boxes, place, INDEX) for place in range(4)] == [
        (10, 21, 31, 40),
        (0, 0, 7, 7),
        (180, 100, 12, 8),
        (191, 107, 1, 1),
    ]


def test_the_square_about_a_face_is_moved_into_the_frame() -> None:
    assert square_around((80, 40, 20, 30), INDEX) == (67, 32, 45, 45)
    assert square_around((0, 0, 20, 30), INDEX) == (0, 0, 45, 45)
    assert square_around((170, 80, 20, 28), INDEX) == (150, 66, 42, 42)
    assert square_around((50, 4, 90, 100), INDEX) == (41, 0, 108, 108)
