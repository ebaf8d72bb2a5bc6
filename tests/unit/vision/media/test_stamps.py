"""Stamps that are missing, repeated or far off, in streams of many packets."""

import time
from fractions import Fraction

import numpy as np

from vision.media.stamps import MISSING, mended

MS = Fraction(1, 1000)


def regular(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) * 40


def test_right_stamps_stay() -> None:
    stamps = mended(regular(50), regular(50), MS)
    assert stamps is not None
    assert not stamps.mended.any()
    assert not len(stamps.suspects)
    assert np.array_equal(stamps.pts, regular(50))


def test_one_that_is_missing_or_far_off_is_put_into_its_gap() -> None:
    for wrong in (MISSING, 10_000_000, -10_000_000):
        pts = regular(50)
        pts[20] = wrong
        stamps = mended(pts, regular(50), MS)
        assert stamps is not None
        assert np.flatnonzero(stamps.mended).tolist() == [20]
        assert stamps.suspects.tolist() == [wrong]
        assert np.array_equal(stamps.pts, regular(50))


def test_of_two_with_one_stamp_the_one_beside_the_gap_is_moved() -> None:
    before, behind = regular(50), regular(50)
    before[20], behind[20] = before[19], behind[21]
    for pts in (before, behind):
        stamps = mended(pts, regular(50), MS)
        assert stamps is not None
        assert np.flatnonzero(stamps.mended).tolist() == [20]
        assert np.array_equal(stamps.pts, regular(50))


def test_many_repeated_stamps_take_little_time() -> None:
    pts = regular(300_000)
    pts[10::11] = pts[9:-1:11][: len(pts[10::11])]
    begun = time.process_time()
    stamps = mended(pts, regular(len(pts)), MS)
    assert time.process_time() - begun < 2
    assert stamps is not None
    assert stamps.mended.sum() == len(pts[10::11])
    assert np.array_equal(stamps.pts, regular(len(pts)))


def test_too_many_wrong_ones_leave_nothing_to_go_by() -> None:
    pts = regular(50)
    pts[::4] = MISSING
    assert mended(pts, regular(50), MS) is None
    assert mended(np.full(5, MISSING), regular(5), MS) is None
