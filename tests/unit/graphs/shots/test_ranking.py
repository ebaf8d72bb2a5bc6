"""Scores of shots: their bounds and their order."""

from dataclasses import replace

import numpy as np
import pytest

from graphs.shots.ranking import Criteria, rank
from graphs.shots.texts import EncodedQuery
from stores.shots import Catalogue, ShotLabels
from tests.tolerances import FP32


def catalogue(*cosines: float, tags: tuple[frozenset[str], ...] = (), clips: tuple[float, ...] = ()) -> Catalogue:
    """Shots whose vectors have these cosines to the first axis."""
    text, clip = np.zeros((len(cosines), 384), np.float32), np.zeros((len(cosines), 512), np.float32)
    text[:, 0], text[:, 1] = cosines, np.sqrt(1 - np.square(cosines))
    clip[: len(clips), 0] = clips
    names = tags or (frozenset[str](),) * len(cosines)
    labels = tuple(ShotLabels(str(place), None, None, each) for place, each in enumerate(names))
    return Catalogue(labels, text, np.ones(len(cosines), bool), clip, np.arange(len(cosines)) < len(clips))


def query(*, clip: bool = False) -> EncodedQuery:
    axis = np.eye(1, 384, dtype=np.float32)[0]
    return EncodedQuery(axis, "m@1", np.eye(1, 512, dtype=np.float32)[0] if clip else None, "c" if clip else None)


ANY = Criteria(None, None, ())


def test_scores_are_cosines_not_below_zero_and_far_ones_still_in_order() -> None:
    best, total = rank(catalogue(-0.5, 0.75, -0.25, 0.5), query(), ANY, 10)
    assert total == 4
    assert [(each.shot_id, each.score) for each in best] == [("1", 0.75), ("3", 0.5), ("2", 0), ("0", 0)]
    # The median is 0.25; the best has two thirds of what is possible above it.
    assert [each.ahead for each in best] == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=FP32)
    assert all(each.keyframe is None for each in best)


def test_boosts_take_their_share_of_what_is_missing() -> None:
    tags = (frozenset({"night", "tense"}), frozenset({"night", "rain"}), frozenset[str]())
    criteria = Criteria.of("Tense", None, ["Night", "rain"], strict=False)
    best, _ = rank(catalogue(0.5, 0.5, 0.5, tags=tags), query(), criteria, 10)
    assert [each.shot_id for each in best] == ["1", "0", "2"]
    assert [each.score for each in best] == pytest.approx([0.65, 0.625, 0.5])
    best, total = rank(catalogue(0.5, 0.5, 0.5, tags=tags), query(), replace(criteria, strict=True), 10)
    assert (best, total) == ([], 0)


def test_a_key_frame_counts_where_it_can_be_compared() -> None:
    best, _ = rank(catalogue(0.5, 0.5, 0.5, clips=(0.35, 0.2)), query(clip=True), ANY, 10)
    scores = {each.shot_id: (each.score, each.keyframe) for each in best}
    assert scores["0"] == pytest.approx((0.7, 1.0), abs=FP32)
    assert scores["1"] == pytest.approx((0.4, 0.25), abs=FP32)
    assert scores["2"] == (0.5, None)


def test_a_library_of_nothing() -> None:
    assert rank(catalogue(), query(), ANY, 10) == ([], 0)
