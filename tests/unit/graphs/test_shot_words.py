"""A shot in words, words in common, and scores: their bounds and their order."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from graphs.shots.encoders import Query
from graphs.shots.ranking import Wishes, ranked
from graphs.shots.words import NOTHING_SAID, in_words, parts_of, shared_words
from stores.shot_rows import tag_forms
from stores.shots import Catalogue, Shot, ShotLabels

BARE = Shot(
    video_asset_id="a" * 32,
    shot_index=0,
    start_frame=0,
    end_frame=9,
    start_timestamp=0,
    end_timestamp=0.4,
    keyframe_frame=5,
    keyframe_time=0.2,
    camera_movement="undetermined",
    movement_intensity=0,
    shot_size="undetermined",
    shot_angle="undetermined",
    framing="centered",
    analysis_timestamp=datetime(2026, 5, 4, tzinfo=UTC),
)


def test_a_shot_in_words() -> None:
    shot = replace(
        BARE,
        scene_context="A car races off. ",
        usage_situations=("climax",),
        emotional_tone="tense",
        genre="thriller",
        auto_tags=("movement:pan_left", "size:wide", "night"),
        camera_movement="pan_left",
        shot_size="close_up",
        shot_angle="low_angle",
    )
    assert [text for text, _ in parts_of(shot)] == [
        "A car races off. climax",
        "tense thriller",
        "pan left, wide, night",
        "close up shot, low angle, pan left camera",
    ]
    assert in_words(replace(shot, manual_tags=("time:dawn",))).count("night") == 0
    assert "dawn" in in_words(replace(shot, manual_tags=("time:dawn",)))


def test_of_a_shot_of_which_nothing_is_said_there_is_still_a_text() -> None:
    assert parts_of(BARE) == [(NOTHING_SAID, 1.0)]


@pytest.mark.parametrize(
    ("wanted", "text", "expected"),
    [
        ("The cars are racing", "a car in a race", ["cars", "racing"]),
        ("a man and the sea", "the sea of a man", ["man", "sea"]),
        ("Dancers, dancing!", "a dance", ["dancing"]),
        ("Éclairs at night", "éclair; Night.", ["éclairs", "night"]),
        ("nothing of it", "something else", []),
    ],
)
def test_words_in_common(wanted: str, text: str, expected: list[str]) -> None:
    assert shared_words(wanted, text) == expected


def test_tags_are_found_with_and_without_their_category() -> None:
    assert tag_forms("Movement:pan_left") == {"movement:pan left", "pan left"}
    assert tag_forms("Film-Noir") == {"film noir"}
    assert tag_forms("odd:") == {"odd:"}


def catalogue(*cosines: float, tags: tuple[frozenset[str], ...] = (), clips: tuple[float, ...] = ()) -> Catalogue:
    """Shots whose vectors have these cosines to the first axis."""
    text, clip = np.zeros((len(cosines), 384), np.float32), np.zeros((len(cosines), 512), np.float32)
    text[:, 0], text[:, 1] = cosines, np.sqrt(1 - np.square(cosines))
    clip[: len(clips), 0] = clips
    names = tags or (frozenset[str](),) * len(cosines)
    labels = tuple(ShotLabels(str(place), None, None, each) for place, each in enumerate(names))
    return Catalogue(labels, text, np.ones(len(cosines), bool), clip, np.arange(len(cosines)) < len(clips))


def query(*, clip: bool = False) -> Query:
    axis = np.eye(1, 384, dtype=np.float32)[0]
    return Query(axis, "m@1", np.eye(1, 512, dtype=np.float32)[0] if clip else None, "c" if clip else None, None)


NO_WISHES = Wishes(None, None, ())


def test_scores_are_cosines_not_below_zero_and_far_ones_still_in_order() -> None:
    found, total = ranked(catalogue(-0.5, 0.75, -0.25, 0.5), query(), NO_WISHES, 10)
    assert total == 4
    assert [(each.shot_id, each.score) for each in found] == [("1", 0.75), ("3", 0.5), ("2", 0), ("0", 0)]
    assert all(each.keyframe is None for each in found)


def test_boosts_take_their_share_of_what_is_missing() -> None:
    tags = (frozenset({"night", "tense"}), frozenset({"night", "rain"}), frozenset[str]())
    wishes = Wishes.of("Tense", None, ["Night", "rain"], strict=False)
    found, _ = ranked(catalogue(0.5, 0.5, 0.5, tags=tags), query(), wishes, 10)
    assert [each.shot_id for each in found] == ["1", "0", "2"]
    assert [each.score for each in found] == pytest.approx([0.65, 0.625, 0.5])
    found, total = ranked(catalogue(0.5, 0.5, 0.5, tags=tags), query(), replace(wishes, strict=True), 10)
    assert (found, total) == ([], 0)


def test_a_key_frame_counts_where_it_can_be_compared() -> None:
    found, _ = ranked(catalogue(0.5, 0.5, 0.5, clips=(0.35, 0.2)), query(clip=True), NO_WISHES, 10)
    scores = {each.shot_id: (each.score, each.keyframe) for each in found}
    assert scores["0"] == pytest.approx((0.7, 1.0), abs=1e-6)
    assert scores["1"] == pytest.approx((0.4, 0.25), abs=1e-6)
    assert scores["2"] == (0.5, None)


def test_a_library_of_nothing() -> None:
    assert ranked(catalogue(), query(), NO_WISHES, 10) == ([], 0)
