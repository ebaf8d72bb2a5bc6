"""Boxes and labels: where they are, that they can be read, that they stay inside the frame."""

import av
import numpy as np
import pytest

from vision.images import Pixels
from vision.media.encoder import planes_of
from vision.media.overlay import BACKING, PALETTE, Overlay, timecode
from vision.media.plan import Box


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (320, 180), (180, 320), (96, 64)])
@pytest.mark.parametrize("corner", [(0.3, 0.4), (0.0, 0.0), (0.9, 0.9), (-0.2, -0.3)])
def test_a_box_is_outlined_and_named(width: int, height: int, corner: tuple[float, float]) -> None:
    frame = np.full((height, width, 3), 128, np.uint8)
    x, y = corner[0] * width, corner[1] * height
    Overlay(width, height).draw(frame, [Box(x, y, width * 0.4, height * 0.5, "Ada", 1)])
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
    Overlay(400, 300).draw(frame, [Box(100, 120, 50, 60, "", 0)])
    rows, columns = np.nonzero((frame == PALETTE[0]).all(2))
    assert rows.min() == pytest.approx(120, abs=1)
    assert rows.max() == pytest.approx(179, abs=1)
    assert columns.min() == pytest.approx(100, abs=1)
    assert columns.max() == pytest.approx(149, abs=1)
    assert not frame[125:175, 105:145].any()


def test_other_alphabets_are_not_question_marks() -> None:
    def drawn(label: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        frame = np.zeros((200, 400, 3), np.uint8)
        Overlay(400, 200).draw(frame, [Box(20, 60, 100, 100, label, 0)])
        return frame

    pictures = [drawn(label) for label in ("??", "Жя", "格兰", "é€")]
    for place, picture in enumerate(pictures):
        for other in pictures[place + 1 :]:
            assert not np.array_equal(picture, other)


def test_colours_repeat() -> None:
    first, again = np.zeros((2, 100, 100, 3), np.uint8)
    overlay = Overlay(100, 100)
    overlay.draw(first, [Box(10, 10, 50, 50, "x", 2)])
    overlay.draw(again, [Box(10, 10, 50, 50, "x", 2 + len(PALETTE))])
    assert np.array_equal(first, again)


def shown_of_yuv(width: int, height: int, matrix: int, boxes: list[Box]) -> Pixels:
    """RGB of boxes that were drawn into a grey picture of YUV."""
    frame = av.VideoFrame(width, height, "yuv420p")
    planes = planes_of(frame)
    for plane in planes:
        plane[:] = 126 if plane is planes[0] else 128
    Overlay(width, height, matrix).draw(planes, boxes)
    pixels: Pixels = frame.reformat(format="rgb24", src_colorspace=matrix, dst_colorspace=5).to_ndarray()
    return pixels


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (320, 180), (182, 322)])
@pytest.mark.parametrize("matrix", [1, 5, 7, 9])
def test_yuv_looks_as_rgb(width: int, height: int, matrix: int) -> None:
    corners = [(0.1, 0.2), (0.5, 0.55), (-0.1, 0.9), (0.7, -0.1)]
    boxes = [
        Box(x * width, y * height, width * 0.3, height * 0.3, "Ada", colour) for colour, (x, y) in enumerate(corners)
    ]
    expected = np.full((height, width, 3), 128, np.uint8)
    Overlay(width, height).draw(expected, boxes)
    difference = np.abs(shown_of_yuv(width, height, matrix, boxes).astype(int) - expected).max(2)
    # Colours of 4:2:0 are off by a pixel beside a line.
    assert (difference > 8).mean() < (0.15 if height < 400 else 0.02)
    # Three components, each rounded twice.
    assert np.median(difference[(expected == BACKING).all(2)]) <= 3


@pytest.mark.parametrize("colour", range(len(PALETTE)))
@pytest.mark.parametrize("matrix", [1, 5, 9])
def test_colours_of_yuv_are_those_of_the_palette(colour: int, matrix: int) -> None:
    drawn = shown_of_yuv(800, 600, matrix, [Box(200, 200, 300, 300, "", colour)])
    line = drawn[300:400, 200].astype(int)
    assert np.abs(line - PALETTE[colour]).max() <= 4  # 8 bits of each component, whose sums round once more


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00.000"), (49.36, "00:00:49.360"), (3599.9996, "01:00:00.000"), (7325.5, "02:02:05.500")],
)
def test_timecodes(seconds: float, text: str) -> None:
    assert timecode(seconds) == text
