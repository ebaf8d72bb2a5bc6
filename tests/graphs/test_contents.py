"""The library searched by what is in it, counted, and tagged: pictures and films, objects and people, over HTTP."""

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from PIL import Image

from graphs.assets import contents
from graphs.indexing import unseen
from stores.people import Identity, ObjectRecord, TraceBoxes, TraceRecord, VideoIndex
from stores.uploads import Upload
from tests.dummies.objects import OBJECTS, DummyDetector
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.indexing import without_weights
from tests.graphs.photos import HAPPY, SAD, faces
from tests.graphs.samples import audio, encoded, error_of, picture, video
from tests.graphs.test_keys import make_key
from vision.errors import ModelNotLoaded
from vision.faces.calibration import similarity_percentage

COLOURS = {label: colour for colour, (label, _) in OBJECTS.items()}
NOW = datetime(2026, 5, 4, tzinfo=UTC)
MODELS = "faces@1:0.6+dummy@00000000"


def scene(*labels: str, seed: int = 0) -> bytes:
    """A picture with one object of each class."""
    pixels = np.full((60, 200, 3), 60 + seed, np.uint8)
    for place, label in enumerate(labels):
        pixels[10:50, 10 + 60 * place : 50 + 60 * place] = COLOURS[label]
    return encoded(Image.fromarray(pixels), "PNG")


def person(height: int, colour: tuple[int, int, int] = HAPPY) -> bytes:
    """A picture of a face; a pixel of its height is a degree between vectors of one person."""
    return faces((colour, (100, 10, 120, 9 + height)), size=(260, 200))


def vector(degrees: float, who: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The vector of a face of that height, as the stand-in for the recognizer makes it."""
    made = np.zeros(128, np.float32)
    made[2 * who : 2 * who + 2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return made


def identity(uuid: str, name: str | None, degrees: float = 42, who: int = 0, **changes: Any) -> Identity:
    """Somebody whose face is like that of ``person(degrees - 2)``: the boxes of faces are a bit larger."""
    return replace(Identity(uuid, name, "dummy@00000000", vector(degrees, who), 3.0, (), NOW), **changes)


BOXES = TraceBoxes(np.arange(2), np.ones((2, 4), np.float32), np.ones(2, np.float32), np.ones(2, np.bool_))
Track = tuple[str, float, float] | tuple[str, float, float, int]
"""Class, start and end in seconds, and the trace of the face inside."""


async def index(
    service: Service, film: str, tracks: Sequence[Track] = (), traces: Sequence[tuple[str, float, float]] = ()
) -> None:
    """Store an index with these tracks, and these traces: whose, first and last time."""
    records = []
    for number, (label, start, end, *trace) in enumerate(tracks, 1):
        first, last = round(start * 10), round(end * 10) - 1
        face = trace[0] if trace else None
        records.append(
            ObjectRecord(film, number, label, first, last, start, end - 0.1, 3, 0.5 + number / 10, end - start, face)
        )
    people = [
        TraceRecord(film, number, round(start * 10), round(end * 10), start, end, 5, uuid, vector(42))
        for number, (uuid, start, end) in enumerate(traces, 1)
    ]
    made = VideoIndex(film, MODELS, 64, 48, 10.0, 20, 2.0, 1, (), len(people), NOW, "dummy:0.3", len(records))
    await service.context.people.put_index(
        made, [(each, BOXES) for each in people], [(each, BOXES) for each in records]
    )


async def search(service: Service, **params: Any) -> dict[str, Any]:
    answer = await service.client.get("/api/v1/assets", params=params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def ids(page: dict[str, Any]) -> list[str]:
    return [asset["asset_id"] for asset in page["assets"]]


async def test_pictures_that_have_all_of_some_objects(service: Service) -> None:
    both = await service.upload(scene("dog", "car"), "both.png")
    dog = await service.upload(scene("dog", "person"), "dog.png")
    await service.upload(scene("car"), "car.png")
    await service.upload(audio(), "voice.wav")
    page = await search(service, objects="dog")
    assert (ids(page), page["complete"], "unavailable" in page, page["next"]) == ([dog, both], True, False, None)
    assert page["counts"] == {"image": 3, "audio": 1}  # of the whole library, as ever
    page = await search(service, objects="Dog, car,dog")
    assert ids(page) == [both]
    assert page["assets"][0]["matched"] == {
        "objects": [
            {"wanted": "dog", "number": 1, "confidence": 0.95, "stretches": None},
            {"wanted": "car", "number": 1, "confidence": 0.6, "stretches": None},
        ],
        "people": [],
        "together": None,
        "together_number": None,
        "together_time": None,
    }
    assert page["assets"][0]["tags"] == [
        {"label": "dog", "confidence": 0.95, "at_once": 1, "screen_time": None},
        {"label": "car", "confidence": 0.6, "at_once": 1, "screen_time": None},
    ]
    assert ids(await search(service, objects="dog,car", min_confidence=0.6)) == [both]
    assert ids(await search(service, objects="dog,car", min_confidence=0.61)) == []
    assert ids(await search(service, objects="dog", name="BOTH")) == [both]
    assert ids(await search(service, objects="dog", kind="video")) == []
    assert (await search(service))["assets"][0]["matched"] is None


async def test_films_are_found_with_their_stretches(service: Service) -> None:
    film = await service.upload(video(1), "film.mp4")
    other = await service.upload(video(2), "other.mp4")
    await service.upload(video(3), "not indexed.mp4")
    await index(service, film, [("dog", 0.0, 1.0), ("car", 0.5, 0.8), ("dog", 0.7, 1.5), ("car", 1.6, 2.0)])
    await index(service, other, [("dog", 0.0, 0.4), ("car", 0.4, 2.0)])
    page = await search(service, objects="dog,car")
    assert ids(page) == [other, film]
    never, once = (each["matched"] for each in page["assets"])
    assert (never["together"], never["together_number"], never["together_time"]) == ([], 0, 0.0)
    dog, car = once["objects"]
    assert (dog["wanted"], dog["number"], dog["confidence"]) == ("dog", 2, 0.8)
    assert dog["stretches"] == [
        {"start": 0.0, "end": 1.0, "track_id": 1, "trace_id": None},
        {"start": 0.7, "end": 1.5, "track_id": 3, "trace_id": None},
    ]
    assert [each["track_id"] for each in car["stretches"]] == [2, 4]
    assert once["together"] == [{"start": 0.5, "end": 0.8}]
    assert (once["together_number"], once["together_time"]) == (1, 0.3)
    (found,) = (await search(service, objects="car", min_confidence=0.9))["assets"]
    assert (found["asset_id"], found["matched"]["objects"][0]["number"]) == (film, 1)  # the other is surer by a track
    assert found["tags"][0] == {"label": "dog", "confidence": 0.8, "at_once": 2, "screen_time": 1.5}


async def test_stretches_are_bounded_and_counted(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST_STRETCHES", 3)
    film = await service.upload(video(1))
    await index(service, film, [("dog", number / 10, number / 10 + 0.05) for number in range(5)])
    (found,) = (await search(service, objects="dog"))["assets"]
    (dog,) = found["matched"]["objects"]
    assert (dog["number"], [each["track_id"] for each in dog["stretches"]]) == (5, [1, 2, 3])
    assert (found["matched"]["together_number"], len(found["matched"]["together"])) == (5, 3)
    assert found["matched"]["together_time"] == 0.25


async def test_people_are_found_by_uuid_and_name_also_turned_away(service: Service) -> None:
    people = service.context.people
    for each in (identity("uuid-1", "Ada"), identity("uuid-2", "ADA", 80), identity("uuid-3", "Bob", who=1)):
        await people.put_identity(each)
    film = await service.upload(video(1), "film.mp4")
    other = await service.upload(video(2), "other.mp4")
    await index(
        service,
        film,
        [("person", 0.0, 1.9, 1), ("dog", 1.0, 1.4)],
        [("uuid-1", 0.3, 0.8), ("uuid-3", 1.2, 1.9)],
    )
    await index(service, other, [], [("uuid-2", 0.3, 0.8)])
    assert ids(await search(service, people="ada")) == [other, film]  # either of them
    assert ids(await search(service, people="uuid-1")) == [film]
    (found,) = (await search(service, people="Ada, Bob", objects="dog"))["assets"]
    ada, bob = found["matched"]["people"]
    # Ada's face is seen for half a second, and the body that it is part of from the beginning on.
    assert ada == {
        "wanted": "Ada",
        "number": 1,
        "confidence": None,
        "stretches": [{"start": 0.0, "end": 1.9, "track_id": 1, "trace_id": 1}],
    }
    assert bob["stretches"] == [{"start": 1.2, "end": 2.0, "track_id": None, "trace_id": 2}]
    assert found["matched"]["together"] == [{"start": 1.2, "end": 1.4}]
    assert ids(await search(service, people="bob,uuid-2")) == []


async def test_people_are_found_in_pictures_by_their_faces(service: Service) -> None:
    people = service.context.people
    await people.put_identity(identity("ada", "Ada"))
    near = await service.upload(person(60), "near.png")
    same = await service.upload(person(40), "same.png")
    await service.upload(person(130), "far.png")
    await service.upload(person(40, SAD), "somebody else.png")
    both = await service.upload(faces((HAPPY, (100, 10, 120, 49)), (SAD, (180, 10, 200, 49)), size=(260, 200)))
    page = await search(service, people="Ada")
    assert (ids(page), page["complete"]) == ([both, same, near], True)
    (match,) = page["assets"][2]["matched"]["people"]
    percentage = similarity_percentage(float(np.cos(np.radians(20))))
    assert (match["wanted"], match["number"], match["stretches"]) == ("Ada", 1, None)
    assert match["confidence"] == pytest.approx(percentage / 100, abs=1e-3)  # rounding, and the height of a box
    # Who is more alike to somebody else with a name is not Ada, and neither is whom somebody said not to be.
    await people.put_identity(identity("eve", "Eve", 61))
    assert ids(await search(service, people="Ada")) == [both, same]
    assert ids(await search(service, people="Eve")) == [near]
    await people.put_identity(identity("eve", None, 61))
    await people.put_identity(identity("ada", "Ada", rejected=np.stack([vector(62)])))
    assert ids(await search(service, people="Ada")) == [both, same]
    await people.put_identity(identity("ada", "Ada", models="another recognizer"))
    assert ids(await search(service, people="Ada")) == []
    await people.put_identity(identity("ada", "Ada"))
    await people.put_identity(identity("bob", "Bob", who=1))
    assert ids(await search(service, people="Ada,bob")) == [both]


async def test_objects_and_people_in_one_picture(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    await service.context.people.put_identity(identity("ada", "Ada"))
    image = Image.open(io.BytesIO(person(40))).convert("RGB")
    image.paste(COLOURS["dog"], (10, 100, 70, 160))
    both = await service.upload(encoded(image, "PNG"))
    await service.upload(person(40))
    await service.upload(scene("dog"))
    assert ids(await search(service, people="ada", objects="dog")) == [both]
    monkeypatch.setattr(contents, "FEW", 0)  # as where too many pictures have a dog to ask for each
    assert ids(await search(service, people="ada", objects="dog")) == [both]


async def test_what_nobody_knows_is_refused(service: Service) -> None:
    await service.upload(scene("dog"))

    async def refused(**params: Any) -> Any:
        return await service.client.get("/api/v1/assets", params=params)

    message = error_of(await refused(objects="dog,unicorn"), 400, "INVALID_INPUT")["message"]
    assert "no class 'unicorn'" in message
    assert "car, dog, person" in message
    assert "no class 'tv'" in error_of(await refused(objects="tv_monitor"), 400, "INVALID_INPUT")["message"]
    assert "nobody" in error_of(await refused(people="nobody"), 404, "IDENTITY_NOT_FOUND")["message"]
    for params in ({"objects": ","}, {"people": " "}, {"people": ",".join(map(str, range(21)))}):
        error_of(await refused(**params), 400, "INVALID_INPUT")
    error_of(await refused(objects="dog", min_confidence=2), 422, "VALIDATION_ERROR")


async def test_pictures_never_seen_are_looked_at_some_at_a_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unseen, "AT_ONCE", 3)
    for seed in range(7):
        await service.upload(scene("dog", seed=seed))
    sizes = []
    for _ in range(4):
        page = await search(service, objects="dog")
        sizes.append((len(page["assets"]), page["complete"]))
    assert sizes == [(3, False), (6, False), (7, True), (7, True)]
    assert DummyDetector.running.calls == 7
    late = await service.upload(scene("dog", seed=9))
    assert ids(await search(service, objects="dog"))[0] == late
    assert (await search(service, objects="dog", kind="video"))["complete"] is True


async def test_a_picture_that_cannot_be_read_stops_no_other(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unseen, "AT_ONCE", 1)
    broken = [await service.upload(picture(seed)) for seed in (1, 2)]
    for asset_id in broken:
        await service.context.objects.delete(asset_id)
    good = await service.upload(scene("dog"))
    pages = [await search(service, objects="dog") for _ in range(4)]
    assert (ids(pages[-1]), pages[-1]["complete"]) == ([good], True)


async def test_without_models_what_was_seen_before_is_found(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = await service.upload(scene("dog"))
    assert ids(await search(service, objects="dog")) == [seen]
    film = await service.upload(video(1))
    await index(service, film, [("dog", 0.0, 1.0)], [("ada", 0.3, 0.8)])
    await service.upload(scene("dog", "car"))
    await service.context.people.put_identity(identity("ada", "Ada"))
    monkeypatch.setattr("graphs.indexing.picture_source.INFO_TTL_S", -1.0)
    why = ModelNotLoaded("It has no weights here.")
    mend = [without_weights(service, key, why) for key in ("objects/detector", "people/faces")]
    page = await search(service, objects="dog")
    assert (ids(page), page["complete"]) == ([film, seen], True)
    assert page["unavailable"] == {"objects": "It has no weights here."}
    page = await search(service, people="ada")
    assert (ids(page), page["unavailable"]) == ([film], {"people": "It has no weights here."})
    assert "unavailable" not in await search(service, people="ada", kind="video")
    for each in mend:
        each()
    assert len(ids(await search(service, objects="dog"))) == 3


async def test_a_page_goes_on_behind_the_one_before(service: Service) -> None:
    dogs = [await service.upload(scene("dog", seed=seed)) for seed in range(5)]
    for seed in range(5):
        await service.upload(scene("car", seed=seed))
    found, after = [], None
    for _ in range(3):
        page = await search(service, objects="dog", limit=2, **({"after": after} if after else {}))
        found.append(ids(page))
        after = page["next"]
    assert found == [[dogs[4], dogs[3]], [dogs[2], dogs[1]], [dogs[0]]]
    assert after is None


async def test_what_a_client_has_deleted_it_does_not_find_nor_count(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key="the-key-of-ann")) as service:
        keyed = {"x-api-key": "the-key-of-ann"}
        sent = {"file": ("dog.png", scene("dog"), "image/png")}
        answer = await service.client.post("/api/v1/upload-media", files=sent, headers=keyed)
        asset_id = answer.json()["asset_id"]

        async def found() -> tuple[list[str], Any]:
            page = (await service.client.get("/api/v1/assets?objects=dog", headers=keyed)).json()
            return ids(page), (await service.client.get("/api/v1/assets/objects", headers=keyed)).json()

        assert (await service.client.get("/api/v1/assets/objects")).status_code == 401
        seen, counted = await found()
        assert (seen, counted["classes"][0]["pictures"], counted["pictures"]) == (
            [asset_id],
            1,
            {"looked_at": 1, "total": 1},
        )
        documents = service.context.documents
        (stored,) = (await documents.get_assets([asset_id])).values()
        ann = stored.uploads[0].owner
        await documents.add_upload(asset_id, Upload("bob", "b.png", NOW))
        assert await documents.withdraw(asset_id, ann, {ann, "bob"}) == "withdrawn"
        seen, counted = await found()
        assert (seen, counted["classes"], counted["pictures"]) == ([], [], {"looked_at": 0, "total": 0})


async def test_who_is_known_is_told_to_those_who_may_read_identities(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(api_key="env-key")) as service:
        await service.context.people.put_identity(identity("a" * 32, "Ada"))
        assets, both = await make_key(service, "assets:read"), await make_key(service, "assets:read", "media:read")
        for name in ("Ada", "Nobody", ""):
            answer = await service.client.get("/assets", params={"people": name}, headers=assets)
            assert error_of(answer, 403, "FORBIDDEN")["details"] == {"scope": "media:read"}
        assert (await service.client.get("/assets", headers=assets)).status_code == 200
        known = await service.client.get("/assets", params={"people": "Ada"}, headers=both)
        assert known.json()["assets"] == []
        assert (await service.client.get("/assets", params={"people": "Nobody"}, headers=both)).status_code == 404


async def test_a_deleted_picture_is_in_nothing(service: Service) -> None:
    kept, gone = await service.upload(scene("dog")), await service.upload(scene("dog", seed=3))
    assert ids(await search(service, objects="dog")) == [gone, kept]
    assert (await service.delete(gone))["removed"]["documents"] == 2
    assert ids(await search(service, objects="dog")) == [kept]
    assert (await service.get("assets/objects"))["pictures"] == {"looked_at": 1, "total": 1}


async def test_the_library_is_counted_by_class(service: Service) -> None:
    assert (await service.get("assets/objects"))["classes"] == []
    await service.upload(scene("dog", "car"))
    await service.upload(scene("dog", seed=2))
    await search(service, objects="dog")
    await service.upload(scene("dog", seed=3))
    film = await service.upload(video(1))
    await service.upload(video(2))
    await service.upload(audio(), "voice.wav")
    await index(service, film, [("dog", 0.0, 1.0), ("dog", 0.5, 1.25), ("person", 1.0, 2.0)])
    answer = await service.get("assets/objects")
    assert answer["classes"] == [
        {"label": "dog", "pictures": 2, "objects": 2, "films": 1, "tracks": 2, "screen_time": 1.25},
        {"label": "car", "pictures": 1, "objects": 1, "films": 0, "tracks": 0, "screen_time": 0.0},
        {"label": "person", "pictures": 0, "objects": 0, "films": 1, "tracks": 1, "screen_time": 1.0},
    ]
    assert (answer["pictures"], answer["films"]) == ({"looked_at": 2, "total": 3}, {"looked_at": 1, "total": 2})


async def test_assets_have_tags_once_somebody_has_looked(service: Service) -> None:
    dog, film, voice = (
        await service.upload(scene("dog")),
        await service.upload(video(1)),
        await service.upload(audio(), "voice.wav"),
    )

    async def tags() -> list[Any]:
        listed = {each["asset_id"]: each["tags"] for each in (await search(service))["assets"]}
        single = [(await service.get(f"media/{each}"))["tags"] for each in (dog, film, voice)]
        assert [listed[each] for each in (dog, film, voice)] == single
        return single

    assert await tags() == [None, None, None]
    await service.post("detect-objects", asset_id=dog)
    await service.post("detect-objects", asset_id=film)  # its poster, which is not all of it
    await index(service, film)
    picture_tag = {"label": "dog", "confidence": 0.95, "at_once": 1, "screen_time": None}
    assert await tags() == [[picture_tag], [], None]
    await index(service, film, [("car", 0.25, 1.0)])
    assert await tags() == [
        [picture_tag],
        [{"label": "car", "confidence": 0.6, "at_once": 1, "screen_time": 0.75}],
        None,
    ]


async def test_a_picture_is_looked_at_once(service: Service) -> None:
    asset_id = await service.upload(scene("dog", "person"))
    first = await service.post("detect-objects", asset_id=asset_id, min_confidence=0.3)
    again = await service.post("detect-objects", asset_id=asset_id, min_confidence=0.3)
    for answer in (first, again):
        answer.pop("processing_time")
    assert again == first
    assert [each["confidence"] for each in again["objects"]] == [0.95, 0.35]
    assert len((await service.post("detect-objects", asset_id=asset_id, min_confidence=0.95))["objects"]) == 1
    assert DummyDetector.running.calls == 1
