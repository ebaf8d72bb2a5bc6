"""Where any two are together over HTTP: people, classes, single traces and tracks."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import settings as settings_module
from stores.people import Identity, ObjectRecord, TraceBoxes, TraceRecord, VideoIndex
from stores.records import Asset
from tests.dummies.objects import OBJECTS
from tests.graphs.harness import configured
from tests.graphs.indexing import IndexService, Shot, film, index_service, without_weights
from tests.graphs.media import media_error
from vision.errors import ModelNotLoaded

ADA, BOB, NOBODY = (f"{number}c816d3e-771e-58d8-aa04-c2f1e35528dc" for number in (1, 2, 3))
FPS = 25
WHY = "It has no weights here."


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IndexService]:
    monkeypatch.setitem(OBJECTS, (0, 128, 255), ("person", 0.8))  # enough to begin a track
    async with index_service(configured(monkeypatch, tmp_path)) as made:
        yield made
    settings_module.settings.cache_clear()


def boxes(frames: Sequence[int]) -> TraceBoxes:
    count = len(frames)
    places = np.tile(np.array([20, 20, 60, 40], np.float32), (count, 1))
    return TraceBoxes(np.array(frames, np.int64), places, np.full(count, 0.9, np.float32), np.ones(count, bool))


def face(asset: Asset, number: int, frames: Sequence[int], identity: str | None) -> tuple[TraceRecord, TraceBoxes]:
    times = frames[0] / FPS, frames[-1] / FPS
    vector = np.eye(1, 128, number, dtype=np.float32)[0]
    record = TraceRecord(asset.asset_id, number, frames[0], frames[-1], *times, len(frames), identity, vector)
    return record, boxes(frames)


def thing(
    asset: Asset, number: int, label: str, first: int, last: int, trace_id: int | None = None, confidence: float = 0.9
) -> tuple[ObjectRecord, TraceBoxes]:
    record = ObjectRecord(
        *(asset.asset_id, number, label, first, last, first / FPS, last / FPS, 2, confidence),
        screen_time=(last + 1 - first) / FPS,
        trace_id=trace_id,
    )
    return record, boxes(range(first, last + 1))


async def scene(service: IndexService, **changes: Any) -> Asset:
    """A film whose index says: Ada, whose face turns away in between, a dog, a car, somebody else, and five cats."""
    asset = await service.add(film())
    people = service.context.people
    objects = [
        thing(asset, 1, "dog", 15, 50),
        thing(asset, 2, "car", 55, 70, confidence=0.4),
        thing(asset, 3, "person", 5, 60, trace_id=1),
        thing(asset, 4, "person", 58, 110),
        *(thing(asset, number, "cat", 10 * number, 10 * number + 2) for number in range(5, 10)),
    ]
    traces = [face(asset, 1, [*range(10, 20), *range(30, 40)], ADA), face(asset, 2, range(35, 45), BOB)]
    index = VideoIndex(
        *(asset.asset_id, "m", 192, 108, float(FPS), 130, 5.2, 2, (60, 90), 2, datetime.now(UTC)), "d", len(objects)
    )
    await people.put_index(replace(index, **changes), traces if changes.get("models") != "" else [], objects)
    for uuid, name in ((ADA, "Ada"), (BOB, None)):
        vector = np.eye(1, 128, dtype=np.float32)[0]
        await people.put_identity(Identity(uuid, name, "m", vector, 1.0, (), datetime.now(UTC)))
    return asset


async def together(service: IndexService, asset: Asset, a: str, b: str, **query: Any) -> Any:
    return await service.ok(asset, "co-occurrence", a=a, b=b, **query)


async def test_somebody_and_an_object_with_a_face_that_turns_away(service: IndexService) -> None:
    asset = await scene(service)
    answer = await together(service, asset, f"identity:{ADA}", "class:Dog")
    below = f"/api/v1/file/{asset.asset_id}"
    assert answer["a"] == {
        "what": f"identity:{ADA}",
        "name": "Ada",
        "seen_by": "face",
        "trace_id": 1,
        "track_id": None,
        "thumbnail_url": f"{below}/trace/1/thumbnail",
        "frames_without_face": 36 - 5 - 10,
    }
    assert answer["b"] == {
        "what": "class:dog",
        "name": "dog",
        "seen_by": "object",
        "trace_id": None,
        "track_id": 1,
        "thumbnail_url": f"{below}/object/1/thumbnail",
        "frames_without_face": None,
    }
    assert answer["first_cooccurrence"] == {"frame_number": 15, "timestamp_secs": 0.6}
    assert (answer["total_cooccurrence_frames"], answer["total_cooccurrence_secs"]) == (36, 1.44)
    assert answer["stretches"] == [{"start_frame": 15, "end_frame": 50, "start_time": 0.6, "end_time": 2.04}]
    assert answer["stretch_count"] == 1
    swapped = await together(service, asset, "class:dog", f"identity:{ADA}")
    assert (swapped["a"], swapped["b"], swapped["stretches"]) == (answer["b"], answer["a"], answer["stretches"])
    assert (await service.client.get(answer["a"]["thumbnail_url"])).headers["content-type"] == "image/jpeg"
    assert (await service.client.get(answer["b"]["thumbnail_url"])).headers["content-type"] == "image/jpeg"


async def test_somebody_who_is_followed_by_the_body_alone(service: IndexService) -> None:
    asset = await scene(service)
    answer = await together(service, asset, "trace:1", "object:2")
    assert (answer["a"]["seen_by"], answer["a"]["track_id"], answer["a"]["name"]) == ("body", 3, "Ada")
    assert (answer["total_cooccurrence_frames"], answer["a"]["frames_without_face"]) == (6, 6)
    assert answer["first_cooccurrence"]["frame_number"] == 55
    # Whose own body is no second person; the other one comes at frame 58.
    answer = await together(service, asset, f"identity:{ADA}", "class:person")
    assert (answer["first_cooccurrence"]["frame_number"], answer["b"]["track_id"]) == (58, 4)
    assert answer["total_cooccurrence_frames"] == 3


async def test_two_faces_are_counted_as_the_route_of_identities_counts_them(service: IndexService) -> None:
    asset = await scene(service)
    faces = await service.ok(asset, f"identities/{ADA}/co-occur-with/{BOB}")
    assert faces["first_cooccurrence"]["total_cooccurrence_frames"] == 5  # 35 to 39, and no body is counted
    answer = await together(service, asset, f"identity:{ADA}", f"identity:{BOB}")
    assert answer["total_cooccurrence_frames"] == 10
    assert (answer["a"]["frames_without_face"], answer["b"]["frames_without_face"]) == (5, 0)
    assert answer["first_cooccurrence"]["frame_number"] == faces["first_cooccurrence"]["frame_number"] == 35


@pytest.mark.parametrize(
    ("a", "b", "frames", "first"),
    [
        ("class:person", "class:person", 3, 58),
        ("class:face", "class:dog", 10 + 10, 15),
        ("class:face", "class:face", 5, 35),
        ("class:car", "class:person", 16, 55),
        ("object:1", f"identity:{BOB}", 10, 35),
        ("trace:2", "trace:1", 10, 35),
    ],
)
async def test_any_two(service: IndexService, a: str, b: str, frames: int, first: int) -> None:
    answer = await together(service, await scene(service), a, b)
    assert (answer["total_cooccurrence_frames"], answer["first_cooccurrence"]["frame_number"]) == (frames, first)


async def test_stretches_are_bounded_and_counted(service: IndexService) -> None:
    asset = await scene(service)
    answer = await together(service, asset, "class:person", "class:cat", limit=2)
    assert [(each["start_frame"], each["end_frame"]) for each in answer["stretches"]] == [(50, 52), (60, 62)]
    assert (answer["stretch_count"], answer["total_cooccurrence_frames"]) == (5, 15)
    assert answer["total_cooccurrence_secs"] == pytest.approx(15 / FPS)
    media_error(
        await service.get(asset, "co-occurrence", a="class:cat", b="class:dog", limit=1001), 400, "INVALID_INPUT"
    )


async def test_only_what_was_found_with_confidence(service: IndexService) -> None:
    asset = await scene(service)
    query = {"a": "class:car", "b": "class:person"}
    assert (await together(service, asset, **query, min_confidence=0.4))["total_cooccurrence_frames"] == 16
    media_error(await service.get(asset, "co-occurrence", **query, min_confidence=0.5), 404, "NO_COOCCURRENCE")


@pytest.mark.parametrize(
    ("a", "b", "status", "code"),
    [
        ("class:dog", "class:car", 404, "NO_COOCCURRENCE"),
        ("trace:1", "object:3", 404, "NO_COOCCURRENCE"),
        ("class:dog", "class:dog", 404, "NO_COOCCURRENCE"),
        (f"identity:{ADA}", f"identity:{ADA}", 400, "INVALID_INPUT"),
        ("trace:1", "trace:01", 400, "INVALID_INPUT"),
        (f"identity:{NOBODY}", "class:dog", 404, "IDENTITY_NOT_FOUND"),
        ("trace:9", "class:dog", 404, "TRACE_NOT_FOUND"),
        ("class:dog", "object:99", 404, "TRACK_NOT_FOUND"),
        ("object:99999999999999999999", "class:dog", 404, "TRACK_NOT_FOUND"),
        *(
            (text, "class:dog", 400, "INVALID_INPUT")
            for text in ("dog", "class:", "trace:-1", "trace:١", "", "a" * 101)
        ),
    ],
)
async def test_what_there_is_not(service: IndexService, a: str, b: str, status: int, code: str) -> None:
    asset = await scene(service)
    media_error(await service.get(asset, "co-occurrence", a=a, b=b), status, code)


async def test_an_unknown_class_is_refused_with_those_there_are(service: IndexService) -> None:
    asset = await scene(service)
    message = media_error(
        await service.get(asset, "co-occurrence", a="class:unicorn", b="class:dog"), 400, "INVALID_INPUT"
    )
    assert message == "There is no class 'unicorn'; there are car, cat, dog, face, person."


async def test_an_index_without_people_or_without_objects_says_what_it_lacks(service: IndexService) -> None:
    asset = await scene(service, models="", trace_count=0)
    for a in (f"identity:{ADA}", "trace:1", "class:face"):
        media_error(await service.get(asset, "co-occurrence", a=a, b="class:dog"), 409, "NOT_INDEXED")
    answer = await together(service, asset, "class:dog", "class:person")
    assert answer["total_cooccurrence_frames"] == 36
    await scene(service, objects=None, object_count=0)
    for b in ("class:dog", "object:1"):
        media_error(await service.get(asset, "co-occurrence", a=f"identity:{ADA}", b=b), 409, "NOT_INDEXED")
    assert (await together(service, asset, "trace:1", "trace:2"))["total_cooccurrence_frames"] == 10
    other = await service.add(film(((30, {}),)))
    media_error(await service.get(other, "co-occurrence", a="trace:1", b="trace:2"), 409, "NOT_INDEXED")


# A dog runs through the first shot, where Bob comes in at frame 21; in the second Ada walks inside a person's box.
SCENE: tuple[Shot, ...] = (
    (60, {"dog": (0, 59, (10, 30), (100, 34)), "bob": (21, 59, (150, 50), (110, 60))}),
    (
        *(50,),
        {
            "car": (0, 49, (120, 70), (120, 70)),
            "person": (0, 49, (10, 20), (40, 20)),
            "ada": (0, 39, (16, 22), (40, 22)),
        },
    ),
)


@pytest.mark.parametrize(
    ("form", "fps"), [("mp4", 25), ("matroska", Fraction(30000, 1001)), ("mov", 50)], ids=["mp4", "mkv", "mov"]
)
async def test_in_films_that_are_indexed(service: IndexService, form: str, fps: int | Fraction) -> None:
    asset = await service.indexed(film(SCENE, fps, form))
    traces = (await service.ok(asset, "traces"))["traces"]
    bob, ada = traces[0], traces[-1]
    with_dog = await together(service, asset, f"identity:{bob['identity_uuid']}", "class:dog")
    first = with_dog["first_cooccurrence"]
    assert (first["frame_number"], first["timestamp_secs"]) == (bob["first_frame"], bob["first_time"])
    assert with_dog["a"]["frames_without_face"] == 0
    dog = (await service.ok(asset, "objects", classes="dog"))["objects"][0]
    last = min(dog["last_frame"], bob["last_frame"])
    assert with_dog["total_cooccurrence_frames"] == last - bob["first_frame"] + 1
    assert with_dog["total_cooccurrence_secs"] == pytest.approx(
        (last - bob["first_frame"] + 1) / fps, rel=0.02
    )  # rounding
    # Ada's face is gone after 40 frames of the second shot, and her body goes on beside the car.
    with_car = await together(service, asset, f"trace:{ada['trace_id']}", "class:car")
    assert with_car["a"]["seen_by"] == "face"
    assert 1 <= with_car["a"]["frames_without_face"] <= 12
    assert with_car["total_cooccurrence_frames"] > 40


async def test_classes_that_there_are_not_are_refused_wherever_they_are_chosen(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    listed = "There is no class 'zebra'; there are car, dog, "
    for route in ("video/bbox", "video/bbox.m3u8", "segments/0.m4s"):
        answer = await service.get(asset, route, classes="dog,zebra", boxes="all")
        assert media_error(answer, 400, "INVALID_INPUT") == f"{listed}face, person."
        assert (await service.get(asset, route, classes="dog,face", boxes="all")).status_code == 200
    message = media_error(await service.get(asset, "objects", classes="zebra"), 400, "INVALID_INPUT")
    assert message == f"{listed}person."
    # While the detector is away nobody knows what classes there are.
    without_weights(service, "objects/detector", ModelNotLoaded(WHY))
    service.context.__dict__.pop("states", None)
    assert (await service.ok(asset, "objects", classes="zebra"))["objects"] == []
    assert (await service.get(asset, "video/bbox", classes="zebra", start_frame=0, end_frame=1)).status_code == 200
