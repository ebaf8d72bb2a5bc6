"""Scores of shots: their bounds and their order."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphs.shots.ranking import Criteria, rank
from graphs.shots.schemas import SuggestRequest
from graphs.shots.texts import EncodedQuery
from stores.shots import Catalogue, ShotLabels, Showing
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


def wanted(scene: str = "a street", **more: Any) -> SuggestRequest:
    return SuggestRequest(scene_description=scene, **more)


def test_scores_are_cosines_not_below_zero_and_far_ones_still_in_order() -> None:
    best, total = rank(catalogue(-0.5, 0.75, -0.25, 0.5), query(), ANY, 10)
    assert total == 4
    assert [(each.shot_id, each.score) for each in best] == [("1", 0.75), ("3", 0.5), ("2", 0), ("0", 0)]
    # The median is 0.25; the best has two thirds of what is possible above it.
    assert [each.ahead for each in best] == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=FP32)
    assert all(each.keyframe is None for each in best)


def test_boosts_take_their_share_of_what_is_missing() -> None:
    tags = (frozenset({"night", "tense"}), frozenset({"night", "rain"}), frozenset[str]())
    criteria = Criteria.of(wanted(emotional_tone="Tense", desired_tags=["Night", "rain"]), ())
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


def showing(shots: Catalogue, **confidences: dict[int, float]) -> Catalogue:
    """The same shots, which show classes of objects by place with a confidence."""
    seen = {
        label: Showing(np.array(list(each), np.int64), np.array(list(each.values())))
        for label, each in confidences.items()
    }
    return replace(shots, objects=seen)


def test_what_the_texts_name_comes_from_tags_and_description_once() -> None:
    criteria = Criteria.of(
        wanted("A man walks two dogs past a tram", desired_tags=["Dogs", "red car", "night"]), ["tram"]
    )
    assert criteria.objects == ("dog", "car", "person", "tram")
    assert criteria.tag_classes == {"dogs": "dog"}
    assert (criteria.tags, criteria.strict) == (("dogs", "red car", "night"), False)
    assert Criteria.of(wanted("A man walks past a tram"), ()).objects == ("person",)


def test_objects_that_are_named_take_their_share_by_confidence() -> None:
    shots = showing(catalogue(0.5, 0.5, 0.5, 0.5), dog={0: 0.9, 1: 0.5}, car={0: 0.3, 2: 1.0}, cat={3: 1.0})
    best, total = rank(shots, query(), Criteria.of(wanted("a dog on a road"), shots.objects), 10)
    assert [(each.shot_id, each.objects) for each in best] == [("0", 0.9), ("1", 0.5), ("2", 0), ("3", 0)]
    assert [each.score for each in best] == pytest.approx([0.59, 0.55, 0.5, 0.5])
    assert total == 4
    best, _ = rank(shots, query(), Criteria.of(wanted("a dog beside a car"), shots.objects), 10)
    assert {each.shot_id: each.objects for each in best} == pytest.approx({"0": 0.6, "2": 0.5, "1": 0.25, "3": 0})
    # Nobody has a zebra, and the dog is only half of what is named.
    best, _ = rank(shots, query(), Criteria.of(wanted("a dog and a zebra"), shots.objects), 1)
    assert (best[0].shot_id, best[0].objects) == ("0", 0.45)


def test_all_parts_together_are_at_most_one_and_each_counts() -> None:
    tags = (frozenset({"tense", "noir", "dog"}),) * 2
    scene = wanted("a dog", emotional_tone="tense", genre_context="noir", desired_tags=["dog"])
    shots = showing(catalogue(0.5, 0.5, tags=tags), dog={1: 1.0})
    best, _ = rank(shots, query(), Criteria.of(scene, shots.objects), 10)
    assert {each.shot_id: each.score for each in best} == pytest.approx({"1": 0.85, "0": 0.75})
    perfect = showing(catalogue(1.0, tags=tags[:1]), dog={0: 1.0})
    assert rank(perfect, query(), Criteria.of(scene, perfect.objects), 1)[0][0].score == 1


def test_strict_takes_a_tag_or_the_object_that_it_names() -> None:
    tags = (frozenset({"dog", "night"}), frozenset({"night"}), frozenset({"dog"}), frozenset({"night"}))
    shots = showing(catalogue(0.5, 0.5, 0.5, 0.5, tags=tags), dog={1: 0.4, 2: 0.9}, person={3: 0.9})

    def fitting(scene: str, *desired: str) -> set[str]:
        criteria = Criteria.of(wanted(scene, desired_tags=list(desired), strict=True), shots.objects)
        best, total = rank(shots, query(), criteria, 10)
        assert len(best) == total
        return {each.shot_id for each in best}

    assert fitting("a street", "night", "dog") == {"0", "1"}
    assert fitting("a street", "Dogs") == {"1", "2"}  # nobody has the tag "dogs"
    assert fitting("a street", "object:dog") == {"1", "2"}
    assert fitting("a street", "red dog") == set()  # a red dog is more than a dog
    assert fitting("a street", "zebra") == set()
    assert fitting("a man and his dog", "night") == {"0", "1", "3"}  # a description leaves out nothing
    assert fitting("a man and his dog") == {"0", "1", "2", "3"}
