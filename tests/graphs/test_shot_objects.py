"""Objects that shots show, over HTTP: in answers, as a filter, in suggestions; whatever came first, index or shots."""

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from configs import settings as settings_module
from graphs.indexing.shot_tags import FilmObjects, tag_stored_shots
from graphs.shots.sheets import LINE
from graphs.web.context import Context
from stores.people import ObjectRecord, TraceBoxes, VideoIndex
from stores.records import Asset
from tests.dummies.objects import DummyDetector
from tests.graphs.harness import configured
from tests.graphs.indexing import IndexService, Shot, film, index_service, without_weights
from tests.graphs.samples import error_of
from tests.graphs.test_shot_analysis import analyzed
from tests.stores.test_people import index as stored_index
from tests.tolerances import decimals
from vision.errors import ModelNotLoaded

# A dog runs through the first shot; in the second one a car stands, and a dog comes in later; nothing in the third.
SCENE: tuple[Shot, ...] = (
    (60, {"dog": (0, 59, (10, 30), (100, 34))}),
    (50, {"car": (0, 49, (120, 70), (120, 70)), "dog": (25, 49, (10, 20), (40, 20))}),
    (40, {"cyd": (0, 39, (120, 40), (80, 30))}),
)
FRAME_S = 1 / 25


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IndexService]:
    async with index_service(configured(monkeypatch, tmp_path, request_timeout_s=30)) as made:
        yield made
    settings_module.settings.cache_clear()


async def store(service: IndexService, asset: Asset, shots: list[dict[str, Any]], **more: Any) -> list[str]:
    body = {"video_asset_id": asset.asset_id, "shots": shots, **more}
    answer = await service.client.post("/api/v1/store-shot-data", json=body)
    assert answer.status_code == 200, answer.text
    ids: list[str] = answer.json()["stored_shot_ids"]
    return ids


async def library(service: IndexService, **query: Any) -> list[dict[str, Any]]:
    answer = await service.client.get("/api/v1/shot-library", params=query)
    assert answer.status_code == 200, answer.text
    shots: list[dict[str, Any]] = answer.json()["shots"]
    assert answer.json()["pagination"]["total_shots"] == len(shots)
    return sorted(shots, key=lambda shot: shot["start_frame"])


async def suggested(service: IndexService, scene: str, **more: Any) -> dict[str, Any]:
    answer = await service.client.post("/api/v1/suggest-shots", json={"scene_description": scene, **more})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def labels(shots: list[dict[str, Any]]) -> list[list[str] | None]:
    return [None if shot["objects"] is None else [tag["label"] for tag in shot["objects"]] for shot in shots]


def given(start: int, end: int, **more: Any) -> dict[str, Any]:
    times = {"start_timestamp": start * FRAME_S, "end_timestamp": (end + 1) * FRAME_S}
    return {"start_frame": start, "end_frame": end, **times, **more}


SHOTS = [given(0, 59), given(60, 109), given(110, 149)]


@pytest.mark.parametrize("first", ["index", "shots"])
async def test_shots_have_the_objects_of_their_film_whatever_came_first(service: IndexService, first: str) -> None:
    asset = await service.add(film(SCENE))
    if first == "index":
        await service.index(asset)
    analysis = (await analyzed(service, asset))["shot_analyses"]
    await store(service, asset, analysis, manual_tags=["cat"])
    if first == "shots":
        assert labels(analysis) == labels(await library(service)) == [None] * 3
        assert await library(service, objects="dog") == []
        await service.index(asset)
        analysis = (await analyzed(service, asset))["shot_analyses"]
    shots = await library(service)
    assert labels(shots) == [["dog"], ["car", "dog"], []]
    assert [shot["objects"] for shot in analysis] == [shot["objects"] for shot in shots]
    (dog,), (car, late), _ = (shot["objects"] for shot in shots)
    assert (dog["confidence"], dog["at_once"], car["confidence"], late["confidence"]) == (0.95, 1, 0.6, 0.95)
    # Where an object was seen last is known to one look in 0.33 s.
    assert 2.0 <= dog["screen_time"] <= 2.4
    assert 1.6 <= car["screen_time"] <= 2.0
    assert 0.6 <= late["screen_time"] <= 1.0
    assert [shot["tags"] for shot in shots] == [["cat"]] * 3
    assert [shot["start_frame"] for shot in await library(service, objects="dog")] == [0, 60]
    assert [shot["start_frame"] for shot in await library(service, objects=" Dog,CAR ")] == [60]
    assert await library(service, objects="person") == []
    assert await library(service, objects="dog", tags="car") == []  # a tag is what people say


async def test_a_filter_says_what_it_was_and_refuses_what_there_is_not(service: IndexService) -> None:
    answer = await service.client.get("/api/v1/shot-library?objects=car,Dog,car")
    assert answer.json()["filters_applied"] == {"objects": ["car", "dog"]}
    answer = await service.client.get("/api/v1/shot-library?objects=dog,unicorn")
    assert error_of(answer, 400, "INVALID_INPUT")["message"] == (
        "There is no class 'unicorn'; there are car, dog, person."
    )
    answer = await service.client.get("/api/v1/shot-library?objects=,")
    assert error_of(answer, 400, "INVALID_INPUT")["message"].startswith("objects names no class")


async def test_any_stretch_has_what_is_seen_in_it(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    # Within a shot, across a cut, and before the dog comes in.
    await store(service, asset, [given(10, 19), given(50, 64), given(60, 70)])
    shots = await library(service)
    assert [set(each or ()) for each in labels(shots)] == [{"dog"}, {"dog", "car"}, {"car"}]
    assert shots[0]["objects"][0]["screen_time"] == pytest.approx(0.4, abs=decimals(3))
    assert shots[2]["objects"][0]["screen_time"] == pytest.approx(11 * FRAME_S, abs=decimals(3))


async def test_an_index_that_is_completed_or_made_anew_changes_the_shots(service: IndexService) -> None:
    asset = await service.add(film(SCENE))
    mend = without_weights(service, "objects/detector", ModelNotLoaded("It has no weights here."))
    await service.index(asset)
    await store(service, asset, SHOTS)
    assert labels(await library(service)) == [None] * 3
    mend()
    await service.index(asset)  # by the detector alone
    assert labels(await library(service)) == [["dog"], ["car", "dog"], []]
    DummyDetector.running.version = "dummy@00000009"
    DummyDetector.running.confidences["dog"] = 0.1  # not enough to begin a track
    await service.index(asset)
    assert labels(await library(service)) == [[], ["car"], []]
    DummyDetector.running.confidences["dog"] = 0.7
    service.faces.version, DummyDetector.running.version = "faces@00000009", "dummy@00000010"
    await service.index(asset)  # all of it
    assert labels(await library(service)) == [["dog"], ["car", "dog"], []]
    assert (await library(service))[0]["objects"][0]["confidence"] == 0.7


async def test_suggestions_use_objects_and_say_so(service: IndexService) -> None:
    without_weights(service, "embed/clip", ModelNotLoaded("Texts need another model."))
    asset = await service.indexed(film(SCENE))
    await store(service, asset, [shot | {"scene_description": "a quiet street"} for shot in SHOTS])
    answer = await suggested(service, "A quiet street, two dogs and an automobile")
    assert [round(shot["start_timestamp"], 2) for shot in answer["recommendations"]] == [2.4, 0.0, 4.4]
    assert answer["matched_by"][-1] == "objects: dog, car"
    assert not any(line.startswith("objects") for line in answer["not_matched_by"])
    both, dog, neither = ({reason["part"]: reason for reason in shot["reasons"]} for shot in answer["recommendations"])
    assert both["objects"] == {
        "part": "objects",
        "score": pytest.approx((0.95 + 0.6) / 2),
        "weight": 0.2,
        "matched": ["dog", "car"],
        "explanation": "It shows 2 of the 2 classes of objects that are named: "
        "dog (confidence 0.95), car (confidence 0.60).",
    }
    assert (dog["objects"]["matched"], dog["objects"]["score"]) == (["dog"], pytest.approx(0.475))
    assert "objects" not in neither
    for shot in answer["recommendations"]:
        parts = {reason["part"]: reason for reason in shot["reasons"]}
        earned = parts["objects"]["score"] * 0.2 if "objects" in parts else 0
        text = 1 - (1 - parts["text"]["score"]) * (1 - earned)
        assert shot["relevance_score"] == pytest.approx(text, abs=2 * decimals(4))
    assert labels(answer["recommendations"]) == [["car", "dog"], ["dog"], []]
    strict = await suggested(service, "A quiet street", desired_tags=["dogs", "car"], strict=True)
    assert [round(shot["start_timestamp"], 2) for shot in strict["recommendations"]] == [2.4]
    assert strict["total_found"] == 1
    parts = [reason["part"] for reason in strict["recommendations"][0]["reasons"]]
    assert parts == ["text", "objects"]
    plain = await suggested(service, "A quiet street")
    assert {line.split(":")[0] for line in plain["matched_by"]} == {"text"}


async def test_shots_that_nobody_looked_through_lose_nothing(service: IndexService) -> None:
    without_weights(service, "embed/clip", ModelNotLoaded("Texts need another model."))
    asset = await service.indexed(film(SCENE))
    other = await service.add(film(SCENE[:1]), "other.mp4")
    await store(service, asset, [shot | {"scene_description": "a quiet street"} for shot in SHOTS[2:]])
    await store(service, other, [shot | {"scene_description": "a quiet street"} for shot in SHOTS[:1]])
    answer = await suggested(service, "a dog in a quiet street")
    for shot in answer["recommendations"]:
        (text,) = shot["reasons"]
        assert (text["part"], text["score"]) == ("text", shot["relevance_score"])
    assert {str(each) for each in labels(answer["recommendations"])} == {"None", "[]"}
    assert "objects: 1 shots were not looked through; index their films to include them." in answer["not_matched_by"]
    await service.index(other)  # and the catalogue of the next search has it
    answer = await suggested(service, "a dog in a quiet street")
    assert labels(answer["recommendations"]) == [["dog"], []]


async def test_a_contact_sheet_has_a_line_of_objects(service: IndexService) -> None:
    asset = await service.add(film(SCENE))
    analysis = await analyzed(service, asset)

    async def sheet() -> tuple[int, str]:
        png = await service.client.get(analysis["contact_sheet_url"])
        html = await service.client.get(analysis["contact_sheet_url"].replace(".png", ".html"))
        return Image.open(io.BytesIO(png.content)).height, html.text

    height, page = await sheet()
    assert '<p class="tags">car' not in page
    await service.index(asset)
    taller, page = await sheet()
    assert taller == height + LINE
    assert '<p class="tags">dog<' in page
    assert '<p class="tags">car · dog<' in page


async def test_shots_stored_while_the_film_is_indexed_have_its_objects(service: IndexService) -> None:
    asset = await service.add(film(SCENE))

    async def keep_storing(name: str) -> None:
        for _ in range(12):
            await store(service, asset, SHOTS, manual_tags=[name])
            await asyncio.sleep(0.01)

    for version in ("dummy@1", "dummy@2"):
        DummyDetector.running.version = version
        await asyncio.gather(service.index(asset), keep_storing("a"), keep_storing("b"))
        assert labels(await library(service)) == [["dog"], ["car", "dog"], []]
        DummyDetector.running.confidences["car"] = 0.8
    assert (await library(service, objects="car"))[0]["objects"][0]["confidence"] == 0.8


def indexed(version: str, *seen: str) -> tuple[VideoIndex, list[tuple[ObjectRecord, TraceBoxes]]]:
    """An index whose objects are in sight for four seconds."""
    frames = np.arange(0, 100, 10)
    boxes = TraceBoxes(frames, np.zeros((10, 4), np.float32), np.ones(10, np.float32), np.ones(10, bool))
    records = [
        ObjectRecord("", place, label, 0, 99, 0.0, 3.96, 10, 0.5, 4.0, None) for place, label in enumerate(seen, 1)
    ]
    return replace(stored_index("", 0), objects=version, object_count=len(records)), [(each, boxes) for each in records]


async def put(context: Context, asset: Asset, version: str, *seen: str) -> None:
    index, objects = indexed(version, *seen)
    await context.people.put_index(
        replace(index, asset_id=asset.asset_id),
        [],
        [(replace(record, asset_id=asset.asset_id), boxes) for record, boxes in objects],
    )


async def test_older_tags_that_are_written_late_do_not_stay(
    service: IndexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = await service.add(film(SCENE))
    await put(service.context, asset, "old@1", "dog")
    await store(service, asset, [given(0, 49)])
    assert labels(await library(service)) == [["dog"]]
    read, pending = FilmObjects.of, ["new@1", "new@2"]

    async def read_and_be_overtaken(context: Context, asset_id: str) -> FilmObjects:
        film = await read(context, asset_id)
        if pending:
            version = pending.pop(0)
            await put(context, asset, version, "car", version[-1])
            await tag_stored_shots(context, asset_id)
        return film

    monkeypatch.setattr(FilmObjects, "of", read_and_be_overtaken)
    await tag_stored_shots(service.context, asset.asset_id)
    assert labels(await library(service)) == [["2", "car"]]
    pending.append("new@3")
    await store(service, asset, [given(0, 49)])
    assert labels(await library(service)) == [["3", "car"]]
    await service.context.people.delete_index(asset.asset_id)
    await tag_stored_shots(service.context, asset.asset_id)
    assert labels(await library(service)) == [None]


async def test_nothing_is_written_where_nothing_changed(service: IndexService) -> None:
    asset = await service.add(film(SCENE))
    await tag_stored_shots(service.context, asset.asset_id)
    await put(service.context, asset, "a@1", "dog", "dog")
    await store(service, asset, [given(0, 49), given(50, 109)])
    shots = await library(service)
    assert [shot["objects"] for shot in shots] == [
        [{"label": "dog", "confidence": 0.5, "at_once": 2, "screen_time": 2.0}],
        [{"label": "dog", "confidence": 0.5, "at_once": 2, "screen_time": 2.0}],
    ]
    before = await service.context.shots.revision()
    await tag_stored_shots(service.context, asset.asset_id)
    assert await service.context.shots.revision() == before
    await put(service.context, asset, "a@2", "dog", "dog")
    await tag_stored_shots(service.context, asset.asset_id)
    assert await service.context.shots.revision() == before
    await put(service.context, asset, "a@3")
    await tag_stored_shots(service.context, asset.asset_id)
    assert await service.context.shots.revision() != before
    assert labels(await library(service)) == [[], []]
