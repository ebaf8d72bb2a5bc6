"""Windows of TransNetV2 wherever a caller begins, and transitions and shots from probabilities."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from vision.errors import InvalidInput
from vision.shots.hard_cuts import cuts
from vision.shots.transitions import (
    Probabilities,
    Shot,
    Transition,
    Window,
    Windows,
    frames_needed,
    is_decided,
    joined,
    shots,
    transitions,
)

Film = NDArray[np.uint8]
"""uint8[n, 27, 48, 3]."""


def film(frames: int) -> Film:
    """Thumbnails that are all different: the first two pixels count them."""
    thumbnails = np.zeros((frames, 27, 48, 3), np.uint8)
    thumbnails[:, 0, 0, 0], thumbnails[:, 0, 0, 1] = np.divmod(np.arange(frames), 256)
    return thumbnails


def numbers(window: Window) -> list[int]:
    """Which frames of ``film`` a window shows."""
    high, low = window.thumbnails[:, 0, 0, 0].astype(int), window.thumbnails[:, 0, 0, 1].astype(int)
    return (256 * high + low).tolist()  # type: ignore[no-any-return]


def windows(thumbnails: Film, frames: Iterable[int], start: int = 0, *, to_the_end: bool = True) -> list[Window]:
    cutter = Windows(start)
    made = [window for frame in frames for window in cutter.add(frame, thumbnails[frame])]
    return made + list(cutter.flush() if to_the_end else ())


def reference_windows(thumbnails: Film) -> Film:
    """As the paper's code makes them: padded by copies of the first and the last frame, a window every 50 frames."""
    behind = 25 + 50 - (len(thumbnails) % 50 or 50)
    padded = np.concatenate([thumbnails[:1].repeat(25, 0), thumbnails, thumbnails[-1:].repeat(behind, 0)])
    return np.stack([padded[place : place + 100] for place in range(0, len(padded) - 99, 50)])


@pytest.mark.parametrize("frames", [1, 2, 49, 50, 51, 74, 75, 76, 99, 100, 101, 125, 149, 150, 151, 333])
def test_windows_are_those_of_the_reference(frames: int) -> None:
    thumbnails = film(frames)
    cuts = windows(thumbnails, range(frames))
    assert [window.start for window in cuts] == list(range(0, frames, 50))
    np.testing.assert_array_equal(np.stack([window.thumbnails for window in cuts]), reference_windows(thumbnails))


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 10), (49, 51), (50, 100), (120, 121), (130, 260), (290, 333), (7, 333)]
)
def test_windows_do_not_depend_on_where_a_caller_begins(start: int, stop: int) -> None:
    thumbnails = film(333)
    whole = {window.start: numbers(window) for window in windows(thumbnails, range(333))}
    begin, end = frames_needed(start, stop, 333)
    assert start - begin <= 74
    assert end - stop <= 74
    cuts = windows(thumbnails, range(begin, end), start, to_the_end=end == 333)
    assert [window.start for window in cuts] == list(range(start // 50 * 50, stop, 50))
    assert all(numbers(window) == whole[window.start] for window in cuts)


def test_a_window_comes_as_soon_as_it_is_whole() -> None:
    thumbnails, cutter = film(130), Windows()
    came = [frame for frame in range(130) if cutter.add(frame, thumbnails[frame])]
    assert came == [74, 124]


def test_thumbnails_may_be_reused_by_the_caller() -> None:
    cutter, buffer = Windows(), np.empty((27, 48, 3), np.uint8)
    for frame, thumbnail in enumerate(film(60)):
        buffer[:] = thumbnail
        assert cutter.add(frame, buffer) == ()
    assert numbers(cutter.flush()[0]) == [0] * 25 + list(range(60)) + [59] * 15


def test_a_missing_frame_is_as_the_next_one() -> None:
    thumbnails = film(120)
    frames = [frame for frame in range(120) if frame not in (0, 1, 30, 31, 119)]
    first, second, last = windows(thumbnails, frames)
    assert numbers(first)[:30] == [2] * 28 + [3, 4]
    assert numbers(first)[54:58] == [29, 32, 32, 32]
    assert numbers(second)[5:8] == [32, 32, 32]
    assert numbers(last)[40:] == [115, 116, 117] + [118] * 57


def test_a_long_gap_costs_no_windows_and_begins_the_same_anywhere() -> None:
    thumbnails = film(1000)
    frames = [*range(80), *range(905, 1000)]
    whole = {window.start: numbers(window) for window in windows(thumbnails, frames)}
    assert sorted(whole) == [0, 50, 100, 850, 900, 950]
    begin, _ = frames_needed(860, 1000, 1000)
    later = windows(thumbnails, [frame for frame in frames if frame >= begin], 860)
    assert {window.start: numbers(window) for window in later} == {start: whole[start] for start in (850, 900, 950)}


def picture(seed: int, contrast: float = 60.0) -> Film:
    return np.random.default_rng(seed).normal(100, contrast, (27, 48, 3))


def shown(frames: Film, noise: float = 0.0) -> Film:
    return np.clip(np.round(frames + np.random.default_rng(0).normal(0, noise or 1e-9, frames.shape)), 0, 255).astype(
        np.uint8
    )


def kept(thumbnails: Film) -> list[int]:
    cutter = Windows(skip_still=True)
    made = [window for frame, each in enumerate(thumbnails) for window in cutter.add(frame, each)]
    return [window.start for window in [*made, *cutter.flush()]]


@pytest.mark.parametrize("noise", [0.0, 0.4, 0.8])
def test_still_shots_have_no_windows(noise: float) -> None:
    assert kept(shown(np.repeat(picture(1)[None], 230, 0), noise)) == []
    assert kept(np.full((130, 27, 48, 3), 16, np.uint8)) == []


def test_a_change_has_the_windows_that_have_it_within_ten_frames_of_their_middle() -> None:
    for cut, starts in ((110, [100]), (139, [100]), (141, [100, 150]), (159, [100, 150]), (161, [150])):
        film = np.stack([picture(1 if frame < cut else 2) for frame in range(300)])
        assert kept(shown(film)) == starts, cut


@pytest.mark.parametrize("length", [5, 25, 60, 120])
def test_slow_dissolves_and_fades_are_changes(length: int) -> None:
    share = np.clip((np.arange(300) - 100) / length, 0, 1)[:, None, None, None]
    windows_of_it = {start for start in range(0, 300, 50) if start < 100 + length and start + 50 > 100}
    for first, second in ((picture(1), picture(2)), (np.zeros(1), picture(1)), (picture(1, 8), picture(2, 8))):
        assert windows_of_it <= set(kept(shown(first * (1 - share) + second * share, 0.3)))


def test_a_cut_between_dark_pictures_and_a_change_in_a_part_are_changes() -> None:
    dark = np.stack([picture(1 if frame < 120 else 2) * 0.05 for frame in range(250)])
    assert 100 in kept(shown(dark))
    part = np.repeat(picture(1)[None], 250, 0)
    part[120:, 9:18, 16:24] = picture(3)[9:18, 16:24]
    assert kept(shown(part)) == [100]


def test_noise_that_hides_the_picture_is_not_still() -> None:
    assert kept(shown(np.full((130, 27, 48, 3), 20.0), 3)) == [0, 50, 100]


def test_an_answer_is_written_to_the_middle() -> None:
    probabilities = np.zeros((70, 2), np.float32)
    answer = np.stack([np.arange(100), np.arange(100) / 2], 1).astype(np.float32)
    Window(50, film(100)).write(answer, probabilities)
    assert not probabilities[:50].any()
    np.testing.assert_array_equal(probabilities[50:], answer[25:45])


def rated(frames: int, middles: dict[int, float], extents: Iterable[tuple[int, int]] = ()) -> Probabilities:
    probabilities = np.full((frames, 2), 0.01, np.float32)
    for frame, probability in middles.items():
        probabilities[frame, 0] = probability
    for first, last in extents:
        probabilities[first : last + 1, 1] = 0.9
    return probabilities


def test_a_cut_is_between_two_frames() -> None:
    (change,) = transitions(rated(100, {39: 0.75}, [(39, 39)]))
    assert change == Transition(first_frame=39, last_frame=40, shot_start=40, kind="cut", probability=0.75)


def test_a_cut_needs_no_second_head() -> None:
    assert transitions(rated(100, {39: 0.75})) == transitions(rated(100, {39: 0.75}, [(39, 39)]))


def test_a_dissolve_has_the_extent_of_the_second_head() -> None:
    (change,) = transitions(rated(100, {50: 0.75, 51: 0.5625}, [(40, 61)]))
    assert change == Transition(first_frame=40, last_frame=62, shot_start=51, kind="gradual", probability=0.75)


def test_the_second_head_alone_is_no_transition() -> None:
    assert transitions(rated(100, {50: 0.4}, [(40, 61)])) == []


def test_two_middles_share_one_extent() -> None:
    first, second = transitions(rated(100, {40: 0.75, 51: 0.75}, [(30, 60)]))
    assert (first.first_frame, first.last_frame, first.shot_start) == (30, 46, 41)
    assert (second.first_frame, second.last_frame, second.shot_start) == (46, 61, 52)


def test_the_threshold_decides() -> None:
    probabilities = rated(100, {20: 0.3, 60: 0.8})
    assert [change.shot_start for change in transitions(probabilities, 0.25)] == [21, 61]
    assert [change.shot_start for change in transitions(probabilities, 0.5)] == [61]
    assert transitions(probabilities, 0.9) == []


def test_a_trace_confirms_a_sudden_change() -> None:
    probabilities = rated(100, {30: 0.05, 60: 0.8})
    assert [change.shot_start for change in transitions(probabilities)] == [61]
    cuts = transitions(probabilities, sudden=[31, 61, 62])
    assert [(change.shot_start, change.kind) for change in cuts] == [(31, "cut"), (61, "cut")]
    assert cuts[0].probability == pytest.approx(0.05)


def test_a_sudden_change_without_a_trace_is_no_cut() -> None:
    assert transitions(rated(100, {30: 0.015}), sudden=[31, 61, 0, 99]) == []
    assert len(transitions(rated(100, {30: 0.015}), 0.3, sudden=[31])) == 1


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, 7.0, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(threshold: float) -> None:
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        transitions(rated(10, {}), threshold)


def test_what_changes_at_the_last_frame_begins_no_shot() -> None:
    assert transitions(rated(100, {99: 0.9})) == []
    (change,) = transitions(rated(100, {95: 0.9}, [(90, 99)]))
    assert (change.last_frame, change.shot_start) == (99, 96)


def test_shots_have_no_gaps_and_know_their_steady_frames() -> None:
    changes = transitions(rated(200, {39: 0.9, 100: 0.9}, [(39, 39), (90, 112)]))
    assert shots(changes, 200) == [Shot(0, 39, 0, 39), Shot(40, 100, 40, 90), Shot(101, 199, 113, 199)]


def test_a_shot_of_transitions_alone_has_its_middle_frame() -> None:
    changes = transitions(rated(100, {40: 0.9, 51: 0.9}, [(30, 60)]))
    assert [shot.steady_start for shot in shots(changes, 100)] == [0, 46, 61]
    assert [shot.steady_end for shot in shots(changes, 100)] == [30, 46, 99]
    early = transitions(rated(100, {2: 0.9}, [(0, 9)]))
    assert shots(early, 100)[0] == Shot(0, 2, 0, 0)


def test_a_video_without_transitions_is_one_shot() -> None:
    assert shots(transitions(rated(10, {})), 10) == [Shot(0, 9, 0, 9)]
    assert shots(transitions(rated(1, {})), 1) == [Shot(0, 0, 0, 0)]


@pytest.mark.parametrize("threshold", [5e-324, 1e-9, 1e-3, 0.1, 0.5, 0.9, 1 - 2**-53])
def test_shots_cover_the_film_whatever_the_threshold(threshold: float) -> None:
    rng = np.random.default_rng(14)
    for _ in range(300):
        frames = int(rng.choice([1, 2, 3, 7, 30, 90]))
        probabilities = (rng.random((frames, 2)) ** rng.choice([1, 8, 60])).astype(np.float32)
        probabilities *= rng.random((frames, 1)) < rng.choice([0.1, 0.7, 1])  # runs of every length
        sudden = cuts(rng.random((frames, 2)).astype(np.float32) ** 4)
        more = rng.integers(1, frames + 1, rng.integers(0, frames + 1)).tolist()
        changes = transitions(probabilities, threshold, sorted({*sudden, *more}))
        result = shots(changes, frames)
        bounds = [(shot.start_frame, shot.end_frame) for shot in result]
        assert [frame for start, end in bounds for frame in range(start, end + 1)] == list(range(frames))
        assert all(start <= end for start, end in bounds)
        assert all(s.start_frame <= s.steady_start <= s.steady_end <= s.end_frame for s in result)
        assert all(0 <= c.first_frame < c.shot_start <= c.last_frame < frames for c in changes)
        assert all(one.last_frame <= other.first_frame + 1 for one, other in pairwise(changes))


def test_cuts_inside_a_run_above_a_low_threshold_divide_it() -> None:
    probabilities = rated(50, {30: 0.6})
    assert [change.shot_start for change in transitions(probabilities, 1e-3, (12, 20))] == [12, 20, 31]
    assert [change.shot_start for change in transitions(probabilities, 1e-3, (29,))] == [29]


MARGIN_OF_ERROR = 1.2


def logits_of(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Logits, float64[frames, 2], of frames with a few cuts and slow transitions, some of them unclear."""
    logits = rng.normal(-7, 1, (frames, 2))
    for place in rng.integers(0, frames, rng.integers(0, 5)):
        length = int(rng.choice([1, 2, 8, 30]))
        around = np.exp(-(((np.arange(frames) - place) / length) ** 2))
        height = rng.choice([3.0, 7.0, 9.0, 12.0])
        logits += np.stack([height * around ** rng.uniform(1, 6), height * around], 1)
    return logits


def changes_of(logits: NDArray[np.float64], sudden: list[int]) -> list[tuple[int, int, int, str]]:
    found = transitions((1 / (1 + np.exp(-logits))).astype(np.float32), sudden=sudden)
    return [(change.first_frame, change.last_frame, change.shot_start, change.kind) for change in found]


def test_what_is_decided_is_the_same_whatever_the_error() -> None:
    rng = np.random.default_rng(7)
    seen, decided, spoilt = 0, 0, 0
    for _ in range(600):
        exact = logits_of(rng, 200)
        sudden = sorted(rng.choice(200, rng.integers(0, 4), replace=False).tolist())
        rough = exact + rng.uniform(-MARGIN_OF_ERROR, MARGIN_OF_ERROR, exact.shape)
        mixed = exact.copy()
        for start in range(0, 200, 50):
            part = slice(start, start + 50)
            if any(start <= frame < start + 50 for frame in sudden):
                continue
            seen += 1
            if is_decided((1 / (1 + np.exp(-rough[part]))).astype(np.float32), MARGIN_OF_ERROR):
                mixed[part] = rough[part]
                decided += 1
        assert changes_of(mixed, sudden) == changes_of(exact, sudden)
        spoilt += changes_of(rough, sudden) != changes_of(exact, sudden)
    # The errors are large enough to change what is found, and still most of it needs no second look.
    assert spoilt >= 100
    assert decided >= seen / 3


@pytest.mark.parametrize(
    ("frame", "logit", "column", "decided"),
    [
        (20, 4.0, 0, True),  # a clear cut
        (20, 1.0, 0, False),  # near one half
        (20, -4.0, 0, True),  # near the trace of a cut, where nothing else sees one
        (49, -4.0, 0, False),  # where the next frame may be seen to start a shot
        (49, 4.0, 0, False),  # the next frame may be a better middle of it
        (20, 0.5, 1, True),  # part of no transition
        (0, 0.5, 1, False),  # part of one before these frames, perhaps
        (21, 0.5, 1, False),  # part of the clear one at frame 22
    ],
)
def test_what_is_near_a_decision_is_not_decided(frame: int, logit: float, column: int, decided: bool) -> None:
    logits = np.full((50, 2), -8.0)
    if frame == 21:
        logits[22] = 4.0
    logits[frame, column] = logit
    assert is_decided((1 / (1 + np.exp(-logits))).astype(np.float32), MARGIN_OF_ERROR) is decided


def cut(start: int) -> Transition:
    """A cut before this frame."""
    return Transition(first_frame=start - 1, last_frame=start, shot_start=start, kind="cut", probability=start / 100)


@pytest.mark.parametrize(
    ("starts", "left_out", "first_frames"),
    [
        ((1, 30), {0}, [0, 30]),  # a black leader
        ((30, 59), {2}, [0, 30]),  # black at the end
        ((30, 31), {1}, [0, 31]),  # black in the middle
        ((30, 31, 32), {1, 2}, [0, 32]),
        ((1, 2, 30), {0, 1}, [0, 30]),
        ((30,), set(), [0, 30]),
        ((1,), {0, 1}, [0, 1]),  # all of it is black: then the black is what it shows
    ],
)
def test_a_shot_that_is_none_goes_to_its_neighbour(
    starts: tuple[int, ...], left_out: set[int], first_frames: list[int]
) -> None:
    spans = shots(joined([cut(start) for start in starts], left_out), 60)
    assert [span.start_frame for span in spans] == first_frames
    assert [span.end_frame for span in spans] == [*(start - 1 for start in first_frames[1:]), 59]


def test_black_between_two_shots_is_a_part_of_their_transition() -> None:
    (one,) = joined([cut(30), cut(31)], {1})
    assert one == Transition(first_frame=29, last_frame=31, shot_start=31, kind="cut", probability=0.31)
    (three,) = joined([cut(30), cut(33)], {1})
    assert (three.first_frame, three.last_frame, three.shot_start, three.kind) == (29, 33, 33, "gradual")
    first, second = shots([three], 60)
    assert (first.steady_end, second.steady_start) == (29, 33)
