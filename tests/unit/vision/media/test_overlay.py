"""Boxes and labels: where they are, that they can be read, that they stay inside the frame."""

import numpy as np
import pytest

from vision.media.overlay import BACKING, PALETTE, Overlay, timecode
from vision.media.plan import Box


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (320, 180), (180, 320), (96, 64)])
@pytest.mark.parametrize("corner", [(0.3, 0.4), (0.0, 0.0), (0.9, 0.9), (-0.2, -0.3)])
def test_a_box_is_outlined_and_named(width: int, height: int, corner: tuple[float, float]) -> None:
    frame = np.full((height, width, 3), 128, np.uint8)
    x, y = corner[0] * width, corner[1] * height
    Overlay(width, height).boxes(frame, [Box(x, y, width * 0.4, height * 0.5, "Ada", 1)])
    colour = (frame == PALETTE[1]).all(2)
    dark = (frame == BACKING).all(2)
    light = (frame > 230).all(2)
    assert colour.any()
    assert dark.sum() > 8 * 16  # the backing of the label
    rows, columns = np.nonzero(dark)
    label = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    assert light[label].sum() > 20  # its letters
    assert not light.sum() - light[label].sum()
    # Only lines and labels are drawn: the middle of the box is as it was.
    assert (frame == 128).all(2).mean() > (0.3 if width < 100 else 0.6)


def test_coordinates_are_those_of_the_picture() -> None:
    frame = np.zeros((300, 400, 3), np.uint8)
    Overlay(400, 300).boxes(frame, [Box(100, 120, 50, 60, "", 0)])
    rows, columns = np.nonzero((frame == PALETTE[0]).all(2))
    assert rows.min() == pytest.approx(120, abs=1)
    assert rows.max() == pytest.approx(179, abs=1)
    assert columns.min() == pytest.approx(100, abs=1)
    assert columns.max() == pytest.approx(149, abs=1)
    assert not frame[125:175, 105:145].any()


def test_other_alphabets_are_not_question_marks() -> None:
    def drawn(label: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        frame = np.zeros((200, 400, 3), np.uint8)
        Overlay(400, 200).boxes(frame, [Box(20, 60, 100, 100, label, 0)])
        return frame

    pictures = [drawn(label) for label in ("??", "Жя", "格兰", "é€")]
    for place, picture in enumerate(pictures):
        for other in pictures[place + 1 :]:
            assert not np.array_equal(picture, other)


def test_colours_repeat() -> None:
    first, again = np.zeros((2, 100, 100, 3), np.uint8)
    overlay = Overlay(100, 100)
    overlay.boxes(first, [Box(10, 10, 50, 50, "x", 2)])
    overlay.boxes(again, [Box(10, 10, 50, 50, "x", 2 + len(PALETTE))])
    assert np.array_equal(first, again)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00.000"), (49.36, "00:00:49.360"), (3599.9996, "01:00:00.000"), (7325.5, "02:02:05.500")],
)
def test_timecodes(seconds: float, text: str) -> None:
    assert timecode(seconds) == text
