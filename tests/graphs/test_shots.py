"""The library of shots by HTTP: storing, browsing, pictures, deleting."""

import io
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from graphs.web.uploads.library import Library
from stores.shots import Shot, ShotFilter
from stores.uploads import ANYONE, Upload
from tests.graphs.harness import settings_in
from tests.graphs.samples import error_of
from tests.graphs.shots import NOW, ShotService, given, ok, serving_shots
from tests.unit.vision.media.samples import number_in
from vision.errors import ModelNotLoaded


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ShotService]:
    with settings_in(tmp_path) as config:
        async with serving_shots(config) as made:
            yield made


async def only(service: ShotService) -> dict[str, Any]:
    (shot,) = (await service.get("shot-library"))["shots"]
    result: dict[str, Any] = shot
    return result


async def refused(service: ShotService, status: int, code: str, **body: Any) -> str:
    answer = await service.client.post("/api/v1/store-shot-data", json={"video_asset_id": service.film, **body})
    assert await service.context.shots.count_shots(ShotFilter()) == 0
    message: str = error_of(answer, status, code)["message"]
    return message


@pytest.mark.parametrize("others", [True, False])
async def test_shots_stay_for_other_clients_while_they_have_the_video(
    service: ShotService, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    documents, put = service.context.documents, service.context.shots.put_shots
    if others:
        await documents.add_upload(service.film, Upload("bob", "his.mp4", NOW))

    async def late(shots: list[Shot]) -> None:
        assert await documents.withdraw(service.film, ANYONE, {ANYONE, "bob"}) == ("withdrawn" if others else "last")
        await put(shots)

    monkeypatch.setattr(service.context.shots, "put_shots", late)
    body = {"video_asset_id": service.film, "shots": [given(0)]}
    answer = await service.client.post("/api/v1/store-shot-data", json=body)
    assert answer.status_code == (200 if others else 404)
    assert await service.context.shots.count_shots(ShotFilter()) == others


async def test_what_is_stored_is_listed(service: ShotService) -> None:
    shot = given(
        1,
        shot_index=4,
        camera_movement="tilt_up",
        movement_intensity=0.5,
        shot_size="close_up",
        shot_angle="low_angle",
        framing="left_third",
        features=[0.5] * 384,
        features_version="dino@9",
        auto_tags=["movement:tilt_up"],
        keyframe_time=0.48,
        keyframe_frame=12,
        transition_in={"kind": "dissolve", "first_frame": 10, "last_frame": 13, "probability": 0.75},
        scene_description="A woman reads a letter",
        usage_situations=["a turning point"],
        thumbnail_url="http://elsewhere/that is not kept",
        duration=0.4,
    )
    context = {"description": "The letter", "emotional_tone": "sad", "genre": "drama", "usage_situations": ["endings"]}
    answer = await service.post(
        "store-shot-data", video_asset_id=service.film, shots=[shot], scene_context=context, manual_tags=["letter"]
    )
    assert answer["video_asset_id"] == service.film
    assert (answer["shots_stored"], len(answer["stored_shot_ids"])) == (1, 1)
    assert answer["scene_context"] == context
    listed = await only(service)
    (shot_id,) = answer["stored_shot_ids"]
    stored_at = datetime.fromisoformat(listed.pop("stored_timestamp"))
    assert stored_at == datetime.fromisoformat(listed.pop("analysis_timestamp"))
    assert listed == {
        **{name: value for name, value in shot.items() if name != "thumbnail_url"},
        "shot_id": shot_id,
        "video_asset_id": service.film,
        "duration": pytest.approx(0.4),
        "tags": ["letter"],
        "manual_tags": ["letter"],
        "objects": None,
        "emotional_tone": "sad",
        "genre": "drama",
        "scene_description": "A woman reads a letter\nThe letter",
        "usage_situations": ["a turning point"],
        "thumbnail_url": f"http://test/api/v1/shots/{shot_id}/thumbnail",
    }


async def test_a_scene_may_be_one_string(service: ShotService) -> None:
    answer = await service.post(
        "store-shot-data", video_asset_id=service.film, shots=[given(0)], scene_context="A quiet morning"
    )
    assert answer["scene_context"] == "A quiet morning"
    listed = await only(service)
    assert (listed["scene_description"], listed["emotional_tone"], listed["tags"]) == ("A quiet morning", None, [])
    assert service.sentence.texts == ["A quiet morning"]


async def test_storing_twice_updates(service: ShotService) -> None:
    first = await service.store(given(0), given(1), manual_tags=["old"])
    again = await service.store(given(0, shot_size="wide"), manual_tags=["new"])
    assert again == first[:1]
    shots = (await service.get("shot-library"))["shots"]
    assert [(shot["shot_id"], shot["tags"]) for shot in shots] == [(first[0], ["new"]), (first[1], ["old"])]
    assert shots[0]["shot_size"] == "wide"
    assert await service.store(given(2, shot_size="wide"), given(2, shot_size="full")) == await service.store(given(2))


@pytest.mark.parametrize(
    ("times", "frames"),
    [((0.4, 0.8), (10, 19)), ((0.0, 0.04), (0, 0)), ((0.41, 0.79), (10, 19)), ((0.4, 0.41), (10, 10))],
)
async def test_frames_follow_of_the_times(
    service: ShotService, times: tuple[float, float], frames: tuple[int, int]
) -> None:
    await service.store({"start_timestamp": times[0], "end_timestamp": times[1]})
    listed = await only(service)
    assert (listed["start_frame"], listed["end_frame"]) == frames  # 25 frames a second
    assert (listed["start_timestamp"], listed["end_timestamp"]) == times


async def test_times_of_an_analysis_are_its_frames(service: ShotService) -> None:
    (await service.analyse("red", "green"))
    await service.store({"start_timestamp": 0.4, "end_timestamp": 0.8})
    listed = await only(service)
    assert (listed["start_frame"], listed["end_frame"], listed["shot_size"]) == (10, 19, "wide")


async def test_an_analysis_gives_what_the_request_leaves_out(service: ShotService) -> None:
    measured = (await service.analyse("red", "green"))[1]
    await service.store({"start_frame": 10, "end_frame": 19, "camera_movement": "static"})
    listed = await only(service)
    assert (listed["camera_movement"], listed["shot_size"], listed["movement_intensity"]) == ("static", "wide", 0.25)
    assert (listed["start_timestamp"], listed["keyframe_frame"]) == (0.4, 13)
    assert listed["features"] == [0.125] * 384
    assert (listed["features_version"], listed["auto_tags"]) == ("dino@1", ["movement:pan_left", "size:wide"])
    assert datetime.fromisoformat(listed["analysis_timestamp"]) == NOW
    (stored,) = await service.context.shots.list_shots(ShotFilter())
    assert measured.clip is not None
    np.testing.assert_array_equal(stored.clip, measured.clip)
    # Of another key frame, the vector would show something else.
    await service.store({"start_frame": 10, "end_frame": 19, "keyframe_frame": 18})
    (stored,) = await service.context.shots.list_shots(ShotFilter())
    assert (stored.clip, stored.keyframe_frame, stored.keyframe_time) == (None, 18, pytest.approx(0.72))


async def test_the_answer_of_an_analysis_can_be_stored_as_it_is(service: ShotService) -> None:
    measured = (await service.analyse("red"))[0]
    assert measured.features is not None
    sent = given(0, features=measured.features.tolist(), keyframe_time=measured.keyframe_time, auto_tags=["x"])
    await service.store(sent)
    (stored,) = await service.context.shots.list_shots(ShotFilter())
    assert (stored.features_version, stored.clip_version, stored.keyframe_frame) == ("dino@1", "dummy/clip", 3)
    assert stored.auto_tags == ("x",)


async def test_a_whole_film_may_be_stored_at_once(service: ShotService) -> None:
    features = np.random.default_rng(0).normal(size=384).tolist()
    shots = [
        {**given(0), "start_frame": place % 60, "end_frame": place % 60, "features": features} for place in range(300)
    ]
    assert len(await service.store(*shots)) == 60  # 2.5 MB; of shots with the same frames the last one counts
    too_much = {"video_asset_id": service.film, "shots": [given(0, scene_description="x" * 4000)], "more": "x" * 2**24}
    error_of(await service.client.post("/api/v1/store-shot-data", json=too_much), 413, "FILE_TOO_LARGE")


async def test_manual_tags_override_automatic_ones(service: ShotService) -> None:
    await service.analyse("red", "red", "red")
    await service.store({"start_frame": 20, "end_frame": 29}, manual_tags=["Close-up", "static", "high angle", "red"])
    plain = await only(service)
    assert (plain["shot_size"], plain["camera_movement"], plain["shot_angle"]) == ("close_up", "static", "high_angle")
    assert ok(await service.client.delete(f"/api/v1/shots/{plain['shot_id']}"))["deleted"]
    await service.store(
        {"start_frame": 0, "end_frame": 9},
        {"start_frame": 10, "end_frame": 19, "manual_tags": ["movement:Zoom In", "tone:calm", "dawn"]},
        manual_tags=["night"],
    )
    later, earlier = (await service.get("shot-library"))["shots"][::-1]
    assert (earlier["tags"], earlier["auto_tags"]) == (["night"], ["movement:pan_left", "size:wide"])
    assert (later["tags"], later["manual_tags"]) == (["movement:Zoom In", "tone:calm", "dawn"],) * 2
    assert (later["camera_movement"], later["emotional_tone"]) == ("zoom_in", "calm")
    assert (await service.get("shot-library", movement_type="zoom"))["pagination"]["total_shots"] == 1


async def test_impossible_shots_are_refused(service: ShotService) -> None:
    message = await refused(service, 400, "INVALID_INPUT", shots=[given(0), given(0, start_frame=9, end_frame=8)])
    assert message == "Shot 1 of the request (frames 9 to 8) ends before it starts."
    message = await refused(service, 400, "INVALID_INPUT", shots=[given(0, end_frame=60)])
    assert "whose last frame is 59" in message
    message = await refused(service, 400, "INVALID_INPUT", shots=[given(0, end_timestamp=9)])
    assert "ends at 9 s; the video has 2.4 s" in message
    message = await refused(service, 400, "INVALID_INPUT", shots=[given(0, start_timestamp=1)])
    assert "before it starts at 1 s" in message
    message = await refused(service, 400, "INVALID_INPUT", shots=[given(0, keyframe_frame=10)])
    assert "has frame 10 as its key frame" in message
    message = await refused(service, 400, "INVALID_INPUT", shots=[given(0, keyframe_time=0.9)])
    assert "key frame at 0.9 s" in message
    message = await refused(service, 400, "INVALID_INPUT", shots=[{"start_frame": 0, "end_frame": 9}])
    assert "needs start_timestamp and end_timestamp" in message
    message = await refused(service, 400, "INVALID_INPUT", shots=[{}])
    assert "needs start_frame, or start_timestamp" in message
    message = await refused(service, 400, "INVALID_INPUT", shots=[{"start_timestamp": 0.4}])
    assert "needs end_frame, or end_timestamp" in message


@pytest.mark.parametrize(
    "change",
    [
        {"shots": []},
        {"shots": [given(0, features=[0.5] * 383)]},
        {"shots": [given(0, start_frame=-1)]},
        {"shots": [given(0, movement_intensity=-0.5)]},
        {"shots": [given(0)] * 1001},
        {"shots": [given(0)], "manual_tags": ["x"] * 51},
        {"shots": [given(0)], "manual_tags": [" "]},
        {"shots": [given(0)], "scene_context": "x" * 4001},
        {"shots": [given(0)], "scene_context": {"mood": "sad"}},
    ],
)
async def test_malformed_requests_are_refused(refusing: ShotService, change: dict[str, Any]) -> None:
    await refused(refusing, 422, "VALIDATION_ERROR", **change)


@pytest.fixture(scope="module")
async def refusing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ShotService]:
    """One service for all requests that must change nothing."""
    with settings_in(tmp_path_factory.mktemp("refusing")) as config:
        async with serving_shots(config) as made:
            yield made


async def test_shots_are_of_a_video_that_is_there(refusing: ShotService) -> None:
    message = await refused(refusing, 404, "ASSET_NOT_FOUND", video_asset_id="f" * 32, shots=[given(0)])
    assert "f" * 32 in message
    message = await refused(refusing, 400, "INVALID_INPUT", video_asset_id=refusing.picture, shots=[given(0)])
    assert "takes videos only" in message


async def test_without_its_model_nothing_is_stored(service: ShotService) -> None:
    service.sentence.failing = ModelNotLoaded("No weights for all-minilm-l6-v2; get them.")
    message = await refused(service, 503, "MODEL_NOT_LOADED", shots=[given(0)])
    assert "get them" in message


async def test_filters_and_pages(service: ShotService) -> None:
    await service.store(
        *(given(place, emotional_tone="tense" if place % 2 else "calm", genre="noir") for place in range(4)),
        manual_tags=["Night", "city"],
    )
    await service.store(given(4, camera_movement="pan_left", manual_tags=["night"]))
    whole = await service.get("shot-library")
    assert whole["pagination"] == {"page": 1, "page_size": 20, "total_shots": 5, "total_pages": 1}
    assert whole["filters_applied"] == {}
    assert [shot["start_frame"] for shot in whole["shots"]] == [40, 0, 10, 20, 30]
    second = await service.get("shot-library", page=2, page_size=2)
    assert second["pagination"] == {"page": 2, "page_size": 2, "total_shots": 5, "total_pages": 3}
    assert [shot["start_frame"] for shot in second["shots"]] == [10, 20]
    assert (await service.get("shot-library", page=4, page_size=2))["shots"] == []
    some = await service.get("shot-library", emotional_tone="TENSE", genre="Noir", tags="night, city,")
    assert some["filters_applied"] == {"emotional_tone": "TENSE", "genre": "Noir", "tags": ["night", "city"]}
    assert [shot["start_frame"] for shot in some["shots"]] == [10, 30]
    panned = await service.get("shot-library", movement_type="pan")
    assert [shot["start_frame"] for shot in panned["shots"]] == [40]
    none = await service.get("shot-library", tags="day")
    assert none["pagination"] == {"page": 1, "page_size": 20, "total_shots": 0, "total_pages": 0}
    for query in ({"page": 0}, {"page_size": 101}, {"page_size": 0}, {"page": 1_000_001}, {"genre": " "}):
        error_of(await service.client.get("/api/v1/shot-library", params=query), 422, "VALIDATION_ERROR")


async def test_a_shot_has_its_key_frame_as_a_picture(service: ShotService) -> None:
    (shot_id,) = await service.store(given(3, keyframe_frame=34))
    url = (await only(service))["thumbnail_url"]
    first = await service.client.get(url)
    assert (first.status_code, first.headers["content-type"]) == (200, "image/jpeg")
    assert first.headers["cache-control"] == "public, max-age=86400"
    assert number_in(np.asarray(Image.open(io.BytesIO(first.content)).convert("RGB"))) == 34
    key = f"{service.film}/shots/{shot_id}-34.jpg"
    assert await service.context.objects.get(key) == first.content
    assert (await service.client.get(url)).content == first.content
    known = await service.client.get(url, headers={"if-none-match": f"W/{first.headers['etag']}"})
    assert (known.status_code, known.content) == (304, b"")
    head = await service.client.head(url)
    assert (head.status_code, head.headers["etag"]) == (200, first.headers["etag"])
    # Another key frame is another picture.
    await service.store(given(3, keyframe_frame=36))
    other = await service.client.get(url, headers={"if-none-match": first.headers["etag"]})
    assert other.headers["etag"] != first.headers["etag"]
    assert number_in(np.asarray(Image.open(io.BytesIO(other.content)).convert("RGB"))) == 36


async def test_a_shot_is_taken_out(service: ShotService) -> None:
    kept, gone = await service.store(given(0), given(1))
    await service.client.get(f"/api/v1/shots/{gone}/thumbnail")
    answer = ok(await service.client.delete(f"/api/v1/shots/{gone}"))
    assert (answer["shot_id"], answer["deleted"]) == (gone, True)
    assert (await only(service))["shot_id"] == kept
    assert [info.key async for info in service.context.objects.list(f"{service.film}/")] == []
    for method in ("DELETE", "GET"):
        suffix = "/thumbnail" if method == "GET" else ""
        error_of(await service.client.request(method, f"/api/v1/shots/{gone}{suffix}"), 404, "SHOT_NOT_FOUND")


async def test_a_video_takes_its_shots_along(service: ShotService) -> None:
    (shot_id,) = await service.store(given(0))
    await service.analyse("red")
    await service.client.get(f"/api/v1/shots/{shot_id}/thumbnail")
    await Library(service.context).delete(service.film)
    assert (await service.get("shot-library"))["shots"] == []
    assert await service.context.shots.get_analysis(service.film) is None
    assert [info.key async for info in service.context.objects.list(f"{service.film}/")] == []
    error_of(await service.client.get(f"/api/v1/shots/{shot_id}/thumbnail"), 404, "SHOT_NOT_FOUND")


async def test_the_routes_are_where_older_clients_look_too(service: ShotService) -> None:
    body = {"video_asset_id": service.film, "shots": [given(0)]}
    assert ok(await service.client.post("/store-shot-data", json=body))["shots_stored"] == 1
    suggested = ok(await service.client.post("/suggest-shots", json={"scene_description": "anything"}))
    assert suggested["total_found"] == 1
    assert len(ok(await service.client.get("/shot-library"))["shots"]) == 1
    shot_id = suggested["recommendations"][0]["shot_id"]
    answer: httpx.Response = await service.client.get(f"/shots/{shot_id}/thumbnail")
    assert answer.status_code == 200
    error_of(await service.client.get("/shots/none/thumbnail"), 404, "SHOT_NOT_FOUND")
