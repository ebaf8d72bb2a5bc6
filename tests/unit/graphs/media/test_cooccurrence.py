"""Which frames two sides share: nobody co-occurs with themselves, whatever they are found by."""

from collections.abc import Sequence

import numpy as np
import pytest

from graphs.media.boxes import Key
from graphs.media.cooccurrence import Appearance, pair_at, shared_frames
from stores.people import ObjectRecord, TraceRecord

FRAMES = 200


def trace(key: Key, *frames: int) -> Appearance:
    vector = np.zeros(128, np.float32)
    record = TraceRecord("a" * 32, 1, frames[0], frames[-1], 0.0, 1.0, len(frames), None, vector)
    return Appearance(key, record, np.array(frames, np.int64))


def track(key: Key, first: int, last: int) -> Appearance:
    record = ObjectRecord("a" * 32, 1, "person", first, last, 0.0, 1.0, 2, 0.9, 1.0, None)
    return Appearance(key, record, np.arange(first, last + 1))


def shared(ours: Sequence[Appearance], theirs: Sequence[Appearance]) -> list[int]:
    return shared_frames(ours, theirs, FRAMES).tolist()


def test_two_share_the_frames_that_both_are_in() -> None:
    assert shared([trace("ada", 1, 2, 3, 7)], [trace("bob", 2, 3, 4, 7, 9)]) == [2, 3, 7]
    assert shared([trace("ada", 1, 2)], [track(("object", 1), 3, 9)]) == []
    assert shared([], [trace("bob", 1)]) == []


def test_a_face_and_the_body_around_it_are_one() -> None:
    ada = [trace("ada", *range(5)), track("ada", 0, 9)]
    assert shared(ada, [track("ada", 0, 9)]) == []
    assert shared(ada, [track("ada", 0, 9), track(("object", 2), 8, 12)]) == [8, 9]


def test_a_class_is_with_itself_where_there_are_two_of_it() -> None:
    dogs = [track(("object", 1), 0, 10), track(("object", 2), 8, 20), track(("object", 3), 30, 31)]
    assert shared(dogs, dogs) == [8, 9, 10]


def test_faces_are_shown_rather_than_bodies() -> None:
    face, body, other = trace("ada", 3, 4), track("ada", 0, 9), track(("object", 7), 0, 9)
    assert pair_at([body, face], [other, body], 3) == (face, other)
    assert pair_at([body, face], [other, body], 8) == (body, other)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_comparing_every_pair_in_every_frame_finds(seed: int) -> None:
    random = np.random.default_rng(seed)

    def side() -> list[Appearance]:
        found = []
        for _ in range(random.integers(0, 8)):
            first = int(random.integers(0, 150))
            found.append(track(int(random.integers(0, 5)), first, first + int(random.integers(0, 40))))
        return found

    ours, theirs = side(), side()
    expected = [
        frame
        for frame in range(FRAMES)
        if any(
            one.key != other.key and frame in one.frames and frame in other.frames for one in ours for other in theirs
        )
    ]
    assert shared(ours, theirs) == expected
    if expected:
        one, other = pair_at(ours, theirs, expected[0])
        assert one.key != other.key
