"""Which frames of a video are judged, by either backend."""

from pathlib import Path

import numpy as np
import pytest

from graphs.authenticity.video import Footage, calm, evenly, middle_frames
from tests.unit.vision.media.samples import X264, Recipe, number_in, write
from vision.media.decord_reader import Backend


def test_frames_are_spread_over_the_video() -> None:
    assert evenly(100, 4) == [12, 37, 62, 87]
    assert evenly(915, 16)[:2] == [28, 85]
    assert evenly(3, 16) == [0, 1, 2]
    assert evenly(7, 1) == [3]
    assert len(set(evenly(300, 256))) == 256


@pytest.mark.parametrize(
    ("changes", "middle", "expected"),
    [
        ([0, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01], 3, 3),
        ([0, 0.01, 0.01, 0.5, 0.01, 0.01, 0.01], 3, 4),  # 3 is the first frame of a shot, 2 the last one
        ([0, 0.01, 0.01, 0.01, 0.5, 0.01, 0.01], 3, 2),
        ([0, 0.2, 0.2, 0.25, 0.2, 0.2, 0.2], 3, 3),  # everything moves, nothing is cut
        ([0], 0, 0),
        ([0, 0.9], 1, 1),
    ],
)
def test_a_cut_is_avoided(changes: list[float], middle: int, expected: int) -> None:
    assert calm(np.array(changes), middle) == expected


def test_a_face_is_tracked_in_the_middle() -> None:
    times = np.arange(900) / 30
    first, behind, step = middle_frames(times)
    assert (times[first], step) == (pytest.approx(10, abs=0.05), 3)
    assert times[behind - 1] - times[first] == pytest.approx(10, abs=0.05)
    assert middle_frames(np.arange(20) / 10) == (0, 20, 1)
    assert middle_frames(np.array([0.0])) == (0, 1, 1)


@pytest.mark.parametrize("backend", ["pyav", "decord"])
async def test_both_backends_give_the_frames_that_are_judged(backend: Backend, tmp_path: Path) -> None:
    path = write(Recipe(frames=50, encoder={**X264, "g": "20", "bf": "2"}), tmp_path / "film.mp4")
    async with Footage.opened(path, backend) as footage:
        near = [await footage.frame_near(number) for number in (30, 4, 49)]
        assert [(frame[0], number_in(frame[1])) for frame in near if frame] == [(30, 30), (4, 4), (49, 49)]
        tracked = [(round(time * 25), number_in(pixels)) async for time, pixels in footage.face_frames()]
    assert tracked == [(number, number) for number in range(0, 50, 2)]
