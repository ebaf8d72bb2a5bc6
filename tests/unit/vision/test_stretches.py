"""Stretches of time that are joined and shared."""

import numpy as np
import pytest

from vision.stretches import Stretch, joined, together


def test_stretches_that_touch_are_one() -> None:
    assert joined([(3, 4), (0, 1), (1, 2), (3.5, 5), (3, 3.25)]) == [(0, 2), (3, 5)]
    assert joined([]) == []


@pytest.mark.parametrize(
    ("lists", "shared"),
    [
        ([], []),
        ([[(0, 1), (1, 3)]], [(0, 3)]),
        ([[(0, 4)], [(1, 2), (3, 9)]], [(1, 2), (3, 4)]),
        ([[(0, 1)], [(1, 2)]], []),
        ([[(0, 9)], [(1, 5), (6, 7)], [(2, 6.5)]], [(2, 5), (6, 6.5)]),
        ([[(0, 9)], []], []),
    ],
)
def test_what_is_in_all_lists(lists: list[list[Stretch]], shared: list[Stretch]) -> None:
    assert together(lists) == shared
    assert together(lists[::-1]) == shared


def test_it_is_as_counted_in_steps() -> None:
    random = np.random.default_rng(5)
    lists = [[(int(start), int(start + length)) for start, length in random.integers(1, 30, (12, 2))] for _ in range(3)]
    inside = [{step for start, end in each for step in range(start, end)} for each in lists]
    steps = {step for start, end in together(lists) for step in range(int(start), int(end))}
    assert steps == set.intersection(*inside)
    assert steps
