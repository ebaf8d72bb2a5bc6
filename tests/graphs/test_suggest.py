"""suggest-shots: what comes first, why, and by what."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stores.shots import ShotFilter
from tests.graphs.harness import settings_in
from tests.graphs.samples import error_of
from tests.graphs.shots import ShotService, given, serving_shots
from tests.tolerances import decimals


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ShotService]:
    with settings_in(tmp_path) as config:
        async with serving_shots(config) as made:
            yield made


def starts(answer: dict[str, Any]) -> list[int]:
    return [round(shot["start_timestamp"] * 25) for shot in answer["recommendations"]]


def reasons(shot: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {reason["part"]: reason for reason in shot["reasons"]}


async def test_the_nearest_description_comes_first_and_says_why(service: ShotService) -> None:
    chase, meal = "cars chase through wet streets", "family eats breakfast"
    await service.store(
        given(0, scene_description=meal), given(1, scene_description=chase, usage_situations=["climax"])
    )
    answer = await service.post("suggest-shots", scene_description="a car chase in the street")
    assert (answer["scene_description"], answer["emotional_tone"]) == ("a car chase in the street", None)
    assert (answer["desired_tags"], answer["total_found"]) == ([], 2)
    assert answer["matched_by"] == ["text: dummy@00000000"]
    assert answer["not_matched_by"] == [
        "keyframe: Texts need another model.",
        "objects: 2 shots were not looked through; index their films to include them.",
    ]
    assert answer["unavailable"] == {"keyframe": "Texts need another model."}
    assert starts(answer) == [10, 0]
    best, other = answer["recommendations"]
    assert set(reasons(best)) == {"text"}
    assert reasons(best)["text"]["matched"] == ["car", "chase", "street"]
    assert best["relevance_score"] == reasons(best)["text"]["score"] > other["relevance_score"] >= 0
    assert (best["scene_description"], best["usage_situations"], best["usage_source"]) == (chase, ["climax"], "given")
    assert (other["usage_situations"], other["usage_source"]) == ([], "none")
    assert best["relevance_percentage"] == pytest.approx(100 * best["relevance_score"], abs=2 * decimals(2))
    median = (best["relevance_score"] + other["relevance_score"]) / 2
    ahead = (best["relevance_score"] - median) / (1 - median)
    assert best["confidence"] == pytest.approx(ahead, abs=2 * decimals(4))
    assert other["confidence"] == 0
    assert (best["video_asset_id"], best["duration"]) == (service.film, pytest.approx(0.4))
    assert best["thumbnail_url"].endswith(f"/api/v1/shots/{best['shot_id']}/thumbnail")


async def test_uses_follow_of_what_was_measured_and_said(service: ShotService) -> None:
    await service.store(
        given(0, shot_size="wide", camera_movement="tracking", shot_angle="eye_level", emotional_tone="sad")
    )
    (shot,) = (await service.post("suggest-shots", scene_description="a street"))["recommendations"]
    assert shot["usage_source"] == "derived"
    assert shot["usage_situations"] == [
        "establishing shot: where it takes place, with people in it",
        "following somebody or something that moves",
        "a scene of this tone: sad",
    ]


async def test_tone_genre_and_tags_lift_a_shot_by_what_is_missing_to_one(service: ShotService) -> None:
    await service.store(
        given(0, scene_description="a long and empty street somewhere in the old town"),
        given(
            1,
            scene_description="a long and empty street somewhere in the old town",
            emotional_tone="Tense",
            genre="Film-Noir",
            manual_tags=["time:night"],
        ),
    )
    plain = await service.post("suggest-shots", scene_description="street in a town")
    wishes = {"emotional_tone": "tense", "genre_context": "film noir", "desired_tags": ["Night", "rain"]}
    answer = await service.post("suggest-shots", scene_description="street in a town", **wishes)
    assert (answer["genre_context"], answer["desired_tags"]) == ("film noir", ["Night", "rain"])
    best, other = answer["recommendations"]
    assert (starts(answer), answer["total_found"]) == ([10, 0], 2)
    parts = reasons(best)
    assert [(part, parts[part]["score"]) for part in ("emotional_tone", "genre", "tags")] == [
        ("emotional_tone", 1),
        ("genre", 1),
        ("tags", 0.5),
    ]
    assert parts["tags"]["matched"] == ["night"]
    share = sum(parts[part]["score"] * parts[part]["weight"] for part in ("emotional_tone", "genre", "tags"))
    text = parts["text"]["score"]
    assert best["relevance_score"] == pytest.approx(1 - (1 - text) * (1 - share), abs=2 * decimals(4))
    before = {shot["shot_id"]: shot["relevance_score"] for shot in plain["recommendations"]}
    assert other["relevance_score"] == before[other["shot_id"]]
    assert set(reasons(other)) == {"text"}


async def test_strict_leaves_out_what_lacks_something(service: ShotService) -> None:
    await service.store(
        given(0, scene_description="a street at night", emotional_tone="calm", manual_tags=["night", "city"]),
        given(1, scene_description="a meal", emotional_tone="tense", manual_tags=["night"]),
        given(2, scene_description="a meal", manual_tags=["night", "city", "tense"]),
    )
    wanted = {"scene_description": "a street at night", "strict": True}
    answer = await service.post("suggest-shots", **wanted, emotional_tone="tense")
    assert (set(starts(answer)), answer["total_found"]) == ({10, 20}, 2)
    answer = await service.post("suggest-shots", **wanted, emotional_tone="tense", desired_tags=["city", "night"])
    assert (starts(answer), answer["total_found"]) == ([20], 1)
    answer = await service.post("suggest-shots", **wanted, genre_context="western")
    assert (starts(answer), answer["total_found"]) == ([], 0)
    assert starts(await service.post("suggest-shots", **wanted))[0] == 0


async def test_where_clip_takes_texts_the_key_frame_counts(tmp_path: Path) -> None:
    with settings_in(tmp_path) as config:
        async with serving_shots(config, looks=True) as service:
            await service.analyse("red", "green")
            frames = [{"start_frame": 10 * place, "end_frame": 10 * place + 9} for place in range(2)]
            await service.store(*frames, given(4), scene_context="a door")
            answer = await service.post("suggest-shots", scene_description="something green")
            assert answer["matched_by"] == ["text: dummy@00000000", "keyframe: dummy/clip"]
            assert (answer["not_matched_by"], "unavailable" in answer) == ([], False)
            assert starts(answer)[0] == 10
            best = answer["recommendations"][0]
            parts = reasons(best)
            assert (parts["keyframe"]["score"], parts["keyframe"]["weight"], parts["text"]["weight"]) == (1, 0.4, 0.6)
            assert best["relevance_score"] == pytest.approx(0.4 + 0.6 * parts["text"]["score"], abs=2 * decimals(4))
            by_start = dict(zip(starts(answer), answer["recommendations"], strict=True))
            assert reasons(by_start[0])["keyframe"]["score"] == 0
            assert set(reasons(by_start[40])) == {"text"}


async def test_the_next_search_sees_what_was_just_changed(service: ShotService) -> None:
    first, second = await service.store(given(0, scene_description="a lamp"), given(1, scene_description="a boat"))
    assert (await service.post("suggest-shots", scene_description="a boat"))["recommendations"][0]["shot_id"] == second
    await service.store(given(0, scene_description="a boat"), given(1, scene_description="a lamp"))
    assert (await service.post("suggest-shots", scene_description="a boat"))["recommendations"][0]["shot_id"] == first
    await service.client.delete(f"/api/v1/shots/{first}")
    assert starts(await service.post("suggest-shots", scene_description="a boat")) == [10]


async def test_shots_of_another_model_are_not_compared(service: ShotService) -> None:
    await service.store(given(0, scene_description="a lamp"))
    service.sentence.version = "dummy@00000001"
    await service.store(given(1, scene_description="a boat"))
    answer = await service.post("suggest-shots", scene_description="a lamp")
    assert (starts(answer), answer["total_found"]) == ([10], 1)
    assert answer["not_matched_by"][1].startswith("text: 1 shots have vectors of another model")
    assert await service.context.shots.count_shots(ShotFilter()) == 2


async def test_as_many_as_wanted(service: ShotService) -> None:
    empty = await service.post("suggest-shots", scene_description="anything")
    assert (empty["recommendations"], empty["total_found"]) == ([], 0)
    await service.store(*(given(place) for place in range(5)))
    answer = await service.post("suggest-shots", scene_description="anything", limit=2)
    assert (len(answer["recommendations"]), answer["total_found"]) == (2, 5)
    for body in (
        {"scene_description": "x", "limit": 101},
        {"scene_description": "x", "limit": 0},
        {"scene_description": "  "},
        {"scene_description": "x" * 4001},
        {"scene_description": "x", "desired_tags": ["y"] * 51},
        {},
    ):
        error_of(await service.client.post("/api/v1/suggest-shots", json=body), 422, "VALIDATION_ERROR")
