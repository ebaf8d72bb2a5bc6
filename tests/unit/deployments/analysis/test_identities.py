"""Traces are put together by person: the linkage against a plain one, the constraints, and who is known."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.analysis.identities import Config, IdentityMatcher
from tests.tolerances import FP32_DOT
from vision.errors import InvalidInput
from vision.faces.identities import Assignment, IdentityRequest, group_traces, overlapping

pytestmark = pytest.mark.numeric

Vectors = NDArray[np.float32]
NOBODY = np.zeros((0, 128), np.float32)


def unit(vectors: NDArray[np.float64]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def people(count: int, each: int, noise: float = 0.06, seed: int = 0) -> Vectors:
    """Unit vectors of ``count`` people in turn: 0, 1, 2, 0, 1, 2 …"""
    rng = np.random.default_rng(seed)
    faces = unit(rng.normal(size=(count, 128)))
    return unit(np.tile(faces, (each, 1)) + rng.normal(0, noise, (count * each, 128)))


def after_one_another(count: int) -> NDArray[np.int64]:
    """Spans of ten frames each."""
    return np.stack([np.arange(count) * 10, np.arange(count) * 10 + 9], 1)


def run(
    vectors: Vectors,
    spans: NDArray[np.int64] | None = None,
    known: tuple[str, ...] = (),
    known_vectors: Vectors = NOBODY,
    counts: NDArray[np.int64] | None = None,
) -> tuple[Assignment, ...]:
    stage = IdentityMatcher(Config())
    spans = after_one_another(len(vectors)) if spans is None else spans
    counts = np.full(len(vectors), 20) if counts is None else counts
    (result,) = stage.predict_batch([IdentityRequest(vectors, spans, counts, known, known_vectors)])
    assert isinstance(result, tuple)
    return result


def plain_linkage(vectors: Vectors, apart: NDArray[np.bool_], least: float) -> list[list[int]]:
    """The same by its definition: all pairs of groups are compared at every merge."""
    groups = [[index] for index in range(len(vectors))]
    cosines = (vectors @ vectors.T).astype(np.float64)
    while True:
        scores = {
            (a, b): cosines[np.ix_(groups[a], groups[b])].mean()
            for a, b in itertools.combinations(range(len(groups)), 2)
            if not apart[np.ix_(groups[a], groups[b])].any()
        }
        if not scores or max(scores.values()) < least:
            return sorted(groups)
        a, b = max(scores, key=lambda pair: scores[pair])
        groups[a] = sorted(groups[a] + groups.pop(b))


@pytest.mark.parametrize("seed", range(20))
def test_the_linkage_is_the_plain_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = people(4, 6, noise=0.11, seed=seed)
    starts = rng.integers(0, 400, 24)
    apart = overlapping(np.stack([starts, starts + rng.integers(5, 60, 24)], 1))
    groups = sorted(group_traces(vectors, apart, 0.4))
    assert groups == plain_linkage(vectors, apart, 0.4)
    assert 4 <= len(groups) < 24
    assert all(not apart[np.ix_(group, group)].any() for group in groups)


def test_each_person_is_one_group_numbered_by_first_appearance() -> None:
    assigned = run(people(5, 8))
    assert [each.group for each in assigned] == [0, 1, 2, 3, 4] * 8
    assert {each.known for each in assigned} == {None}
    assert min(each.cosine for each in assigned) > 0.6


def test_groups_are_numbered_by_first_frame_and_not_by_place() -> None:
    vectors = people(2, 1)
    assert [each.group for each in run(vectors, np.array([[50, 60], [0, 9]]))] == [1, 0]


def test_traces_that_share_one_frame_are_never_one_person() -> None:
    twins = unit(np.tile(np.random.default_rng(1).normal(size=(1, 128)), (3, 1)))
    shared, other, later = run(twins, np.array([[0, 10], [10, 20], [21, 30]]))
    assert shared.group != other.group
    assert later.group in (shared.group, other.group)


def test_a_constraint_holds_for_all_that_a_trace_is_grouped_with() -> None:
    # 0 and 1 are alike and merged first; 2 is as alike to 0, but beside 1.
    base = np.random.default_rng(2).normal(size=128)
    vectors = unit(np.stack([base, base, base + np.random.default_rng(3).normal(0, 0.3, 128)]))
    groups = [each.group for each in run(vectors, np.array([[0, 9], [20, 29], [25, 34]]))]
    assert groups[0] == groups[1]
    assert groups[2] != groups[0]


def test_known_people_are_found_and_others_are_new() -> None:
    vectors = people(3, 4)
    references = unit(vectors[:2].astype(np.float64) + np.random.default_rng(4).normal(0, 0.08, (2, 128)))
    assigned = run(vectors, known=("ada", "bob"), known_vectors=references)
    assert [each.known for each in assigned] == ["ada", "bob", None] * 4
    for index, each in enumerate(assigned[:2]):
        assert each.cosine == pytest.approx(float(vectors[index] @ references[index]), rel=FP32_DOT)


def test_two_who_share_a_moment_are_not_both_the_same_known_person() -> None:
    base = np.random.default_rng(5).normal(size=128)
    near, nearer = (
        base + np.random.default_rng(6).normal(0, 0.6, 128),
        base + np.random.default_rng(7).normal(0, 0.2, 128),
    )
    vectors, ada = unit(np.stack([near, nearer])), unit(base[None])
    assert (vectors @ ada.T).min() > 0.6
    beside = run(vectors, np.array([[0, 20], [10, 30]]), ("ada",), ada)
    assert [each.known for each in beside] == [None, "ada"]


def test_two_groups_at_different_times_may_be_the_same_known_person() -> None:
    # Seen from the left and from the right: too unlike each other, both like the known face.
    rng = np.random.default_rng(8)
    base, side = unit(rng.normal(size=(2, 128))).astype(np.float64)
    side -= (side @ base) * base
    side /= np.linalg.norm(side)
    vectors = unit(np.stack([0.55 * base + 0.83 * side, 0.55 * base - 0.83 * side]))
    assert vectors[0] @ vectors[1] < 0
    assigned = run(vectors, known=("ada",), known_vectors=unit(base[None]))
    assert [(each.known, each.group) for each in assigned] == [("ada", 0), ("ada", 1)]


def test_the_most_alike_of_several_known_identities_wins() -> None:
    vectors = people(1, 3)
    rng = np.random.default_rng(9)
    known = unit(vectors[:1] + rng.normal(0, 1, (2, 128)) * [[0.08], [0.03]])
    assert {each.known for each in run(vectors, known=("further", "nearer"), known_vectors=known)} == {"nearer"}


def test_a_trace_of_many_detections_weighs_more_in_its_group() -> None:
    vectors = people(1, 2, noise=0.08)
    even = run(vectors)
    uneven = run(vectors, counts=np.array([1000, 1]))
    assert uneven[0].cosine > 0.999 > even[0].cosine
    assert uneven[1].cosine < even[1].cosine


def test_a_video_without_faces_has_nobody() -> None:
    assert run(NOBODY, np.zeros((0, 2), np.int64), counts=np.zeros(0, np.int64)) == ()


@pytest.mark.parametrize(
    ("spans", "counts", "known"), [(2, 3, ()), (3, 2, ()), (3, 3, ("ada",))], ids=["spans", "counts", "known"]
)
def test_arrays_that_do_not_belong_together_are_refused(spans: int, counts: int, known: tuple[str, ...]) -> None:
    request = IdentityRequest(people(3, 1), after_one_another(spans), np.ones(counts, np.int64), known, NOBODY)
    (result,) = IdentityMatcher(Config()).predict_batch([request])
    assert isinstance(result, InvalidInput)


def test_thresholds_are_in_the_info() -> None:
    info = IdentityMatcher(Config(same_cosine=0.5)).info()
    assert (info["same_cosine"], info["known_cosine"]) == (0.5, 0.40)


def test_traces_of_blurred_faces_have_to_be_more_alike() -> None:
    first, second = np.zeros(128), np.zeros(128)
    first[0], second[:2] = 1, (0.45, np.sqrt(1 - 0.45**2))
    pair = unit(np.stack([first, second]))
    assert len({each.group for each in run(pair)}) == 1
    for trusted in ((0.9, 0.9), (0.8, 1.0)):
        shorter = (pair * np.array(trusted)[:, None]).astype(np.float32)
        assert len({each.group for each in run(shorter)}) == 2
        # Somebody known, from clear faces, is told from one blurred trace by its own quality alone.
        (found,) = run(shorter[1:], known=("ada",), known_vectors=pair[:1])
        assert found.known == ("ada" if trusted[1] * 0.45 >= Config().known_cosine else None)
