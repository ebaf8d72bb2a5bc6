"""Colours of people: one for each, and of those who are seen together another one."""

import numpy as np
import pytest

from graphs.media.boxes import _colours
from stores.people import TraceRecord
from vision.media.overlay import PALETTE


def record(trace_id: int, first: int, last: int, identity: str | None = None) -> TraceRecord:
    vector = np.zeros(128, np.float32)
    return TraceRecord("a" * 32, trace_id, first, last, first / 25, last / 25, last - first + 1, identity, vector)


def test_people_have_colours_in_the_order_in_which_they_appear() -> None:
    traces = [record(0, 0, 50, "ada"), record(1, 10, 60), record(2, 200, 300, "ada"), record(3, 250, 260, "bob")]
    assert _colours(traces) == {"ada": 0, 1: 1, "bob": 2}
    assert _colours(list(reversed(traces))) == _colours(traces)


@pytest.mark.parametrize("together", [2, 5, len(PALETTE)])
def test_nobody_has_the_colour_of_somebody_beside_them(together: int) -> None:
    """People come one after the other, and each is seen with those who came last; somebody stays all the time."""
    stays = record(0, 0, 10_000)
    others = [record(number, 10 * number, 10 * number + 10 * (together - 1) - 1) for number in range(1, 60)]
    colours = _colours([stays, *others])
    assert set(colours.values()) == set(range(len(PALETTE)))
    for frame in range(0, 600, 5):
        seen = [colours[each.trace_id] for each in (stays, *others) if each.first_frame <= frame <= each.last_frame]
        assert len(seen) == len(set(seen))


def test_more_people_at_once_than_colours_share_them_evenly() -> None:
    colours = _colours([record(number, 0, 10) for number in range(3 * len(PALETTE))])
    assert np.bincount(list(colours.values())).tolist() == [3] * len(PALETTE)
