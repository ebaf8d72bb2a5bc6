"""Objects of indexed videos over HTTP: found in the same pass as faces, or added to an index that has none."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from configs import settings as settings_module
from graphs.indexing import decode
from graphs.indexing.objects import NOT_WANTED
from graphs.media.boxes import Boxes, choice_of
from graphs.media.spans import Span
from graphs.web.uploads.library import Library
from stores.records import Asset
from tests.dummies.objects import DummyDetector
from tests.graphs.harness import configured
from tests.graphs.indexing import COLOURS, IndexService, Shot, film, index_service, without_weights
from tests.graphs.media import media_error
from vision.errors import InvalidMedia, ModelNotLoaded, StageUnavailable

# A dog runs through the first shot; in the second a car stands, and Ada walks inside a person's box.
SCENE: tuple[Shot, ...] = (
    (60, {"dog": (0, 59, (10, 30), (100, 34)), "bob": (21, 59, (150, 50), (110, 60))}),
    (
        50,
        {
            "car": (0, 49, (120, 70), (120, 70)),
            "person": (0, 49, (10, 20), (40, 20)),
            "ada": (0, 49, (16, 22), (46, 22)),
        },
    ),
)
WHY = "It has no weights here."


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IndexService]:
    async with index_service(configured(monkeypatch, tmp_path)) as made:
        DummyDetector.running.confidences["person"] = 0.8  # enough to begin a track
        yield made
    settings_module.settings.cache_clear()


async def index_of(service: IndexService, asset: Asset) -> Any:
    return (await service.client.get(f"/api/v1/file/{asset.asset_id}")).json()["index"]


async def objects_of(service: IndexService, asset: Asset) -> list[Any]:
    stored = [await service.context.people.get_object(asset.asset_id, number) for number in range(1, 10)]
    return [each for each in stored if each is not None]


async def test_objects_are_found_in_the_pass_that_finds_faces(service: IndexService) -> None:
    asset = await service.add(film(SCENE))
    job = await service.index(asset)
    assert (job.status, job.result and job.result["objects"], "unavailable" in (job.result or {})) == (
        "succeeded",
        3,
        False,
    )
    records = [record for record, _ in await objects_of(service, asset)]
    assert [(each.track_id, each.label) for each in records] == [(1, "dog"), (2, "car"), (3, "person")]
    dog, car, person = records
    # One sample in each stretch of 0.33 s, the last one of them at frame 52 or later.
    assert (dog.first_frame, dog.trace_id) == (0, None)
    assert 50 <= dog.last_frame <= 58
    assert dog.screen_time == pytest.approx((dog.last_frame + 1) / 25)
    assert dog.confidence == pytest.approx(0.95)
    assert (car.first_frame, person.first_frame) == (60, 60)
    ada = next(trace for trace in (await service.ok(asset, "traces"))["traces"] if trace["first_frame"] >= 60)
    assert person.trace_id == ada["trace_id"]
    state = await index_of(service, asset)
    assert (state["object_models"], state["object_count"], "unavailable" in state) == ("dummy@00000000:", 3, False)


async def test_a_file_has_tags_once_it_was_looked_through(service: IndexService) -> None:
    asset = await service.add(film(SCENE))
    assert (await service.client.get(f"/api/v1/file/{asset.asset_id}")).json()["tags"] is None
    assert (await service.index(asset)).status == "succeeded"
    tags = (await service.client.get(f"/api/v1/file/{asset.asset_id}")).json()["tags"]
    records = [record for record, _ in await objects_of(service, asset)]
    assert {each["label"]: each["screen_time"] for each in tags} == {
        each.label: pytest.approx(each.screen_time) for each in records
    }
    assert tags[0]["label"] == "dog"  # longest in sight
    assert {each["at_once"] for each in tags} == {1}


async def test_about_three_frames_a_second_go_to_the_detector(service: IndexService) -> None:
    await service.indexed(film(SCENE))
    # 4.4 seconds are 14 stretches of 0.33 s, and the second shot begins in one of them.
    looked = DummyDetector.running.calls
    assert 13 <= looked <= 17
    timeline = decode.Timeline(None, np.arange(110) / 25, 2)  # type: ignore[arg-type]
    assert sum(timeline.begins_stretch(frame) for frame in range(110)) == 14


async def test_a_box_follows_its_object(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    (record, boxes), *_ = await objects_of(service, asset)
    assert boxes.frames.tolist() == list(range(record.last_frame + 1))
    expected = 10 + 90 * boxes.frames / 59
    assert np.abs(boxes.boxes[:, 0] - expected).max() < 3  # pixels; edges of an encoded rectangle are soft
    assert boxes.detected[0]
    assert not boxes.detected.all()
    assert boxes.detected.sum() == record.sightings


async def test_who_does_not_want_objects_has_films_indexed_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with index_service(configured(monkeypatch, tmp_path, index_objects="false")) as service:
        asset = await service.add(film(SCENE))
        job = await service.index(asset)
        assert job.result is not None
        assert (job.status, job.result["unavailable"]) == ("succeeded", {"objects": NOT_WANTED})
        assert DummyDetector.running.calls == 0
        answer = await service.client.get(f"/api/v1/file/{asset.asset_id}/objects")
        assert media_error(answer, 503, "MODEL_NOT_LOADED") == NOT_WANTED
    settings_module.settings.cache_clear()


@pytest.mark.parametrize("version", ["", "dummy@00000009"])
async def test_an_old_index_is_completed_without_looking_for_faces(service: IndexService, version: str) -> None:
    asset = await service.add(film(SCENE))
    mend = (
        without_weights(service, "objects/detector", ModelNotLoaded(f"{WHY}\n- it, folder: not set"))
        if not version
        else lambda: None
    )
    first = await service.index(asset)
    assert first.status == "succeeded"
    if not version:
        assert (await service.post_index(asset))["unavailable"] == {"objects": WHY}
        assert first.result is not None
        assert first.result["unavailable"] == {"objects": WHY}
        state = await index_of(service, asset)
        assert (state["status"], state["object_models"], state["unavailable"]) == ("succeeded", None, {"objects": WHY})
        assert await objects_of(service, asset) == []
    before = await service.ok(asset, "traces"), await service.ok(asset, "identities")
    looked, indexed_at = service.faces.frames_seen, (await index_of(service, asset))["indexed_at"]

    mend()
    DummyDetector.running.version = version or DummyDetector.running.version
    second = await service.index(asset)
    assert (second.status, second.job_id != first.job_id) == ("succeeded", True)
    assert service.faces.frames_seen == looked
    assert (await service.ok(asset, "traces"), await service.ok(asset, "identities")) == before
    state = await index_of(service, asset)
    assert (state["object_count"], state["indexed_at"], "unavailable" in state) == (3, indexed_at, False)
    assert state["object_models"] == f"{version or 'dummy@00000000'}:"
    person = (await objects_of(service, asset))[2][0]
    assert (person.label, person.trace_id is not None) == ("person", True)
    assert await service.derived_objects(asset) == []
    assert (await service.post_index(asset))["job_id"] == second.job_id


async def test_what_was_found_remains_while_the_detector_is_away(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    job = await service.post_index(asset)
    without_weights(service, "objects/detector", ModelNotLoaded(WHY))
    assert (await service.post_index(asset))["job_id"] == job["job_id"]
    assert len(await objects_of(service, asset)) == 3


async def test_a_completion_that_stops_resumes_and_finds_the_same(service: IndexService) -> None:
    long: tuple[Shot, ...] = ((250, {"dog": (0, 249, (5, 30), (150, 60))}),)
    asset = await service.indexed(film(long, 10))
    (whole,) = await objects_of(service, asset)
    index = await service.context.people.get_index(asset.asset_id)
    assert index is not None
    DummyDetector.running.version = "dummy@00000009"
    job_id = (await service.post_index(asset))["job_id"]
    async with service.working() as runner:
        await service.until(job_id, lambda job: job.checkpoint.get("parts", 0) >= 1 or job.finished)
        await runner.stop()
    async with service.working():
        assert (await service.ended(job_id)).status == "succeeded"
    (again,) = await objects_of(service, asset)
    assert again[0] == whole[0]
    np.testing.assert_array_equal(again[1].boxes, whole[1].boxes)


async def test_a_deleted_file_takes_its_objects_with_it(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    assert await service.context.people.count_objects(asset.asset_id) == {"car": 1, "dog": 1, "person": 1}
    assert await service.context.people.delete_index(asset.asset_id) == 1 + 2 + 3
    assert await objects_of(service, asset) == []
    assert await service.context.people.count_objects(asset.asset_id) == {}


async def test_objects_are_listed_by_page_class_and_confidence(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    answer = await service.ok(asset, "objects")
    assert (answer["counts"], answer["total"], answer["next"]) == ({"car": 1, "dog": 1, "person": 1}, 3, None)
    dog, car, person = answer["objects"]
    assert (dog["track_id"], dog["label"], dog["first_time"], dog["trace_id"]) == (1, "dog", 0.0, None)
    assert (car["label"], car["confidence"], car["first_time"]) == ("car", 0.6, 2.4)
    assert car["screen_time"] == pytest.approx(car["last_time"] - 2.4 + 1 / 25)
    assert person["trace_id"] is not None
    first = await service.ok(asset, "objects", limit=2)
    assert ([each["track_id"] for each in first["objects"]], first["next"]) == ([1, 2], 2)
    rest = await service.ok(asset, "objects", after=first["next"], limit=2)
    assert ([each["track_id"] for each in rest["objects"]], rest["next"]) == ([3], None)
    some = await service.ok(asset, "objects", classes=" Dog, car")
    assert [each["label"] for each in some["objects"]] == ["dog", "car"]
    sure = await service.ok(asset, "objects", min_confidence=0.9)
    assert [each["label"] for each in sure["objects"]] == ["dog"]
    media_error(await service.get(asset, "objects", classes=" , "), 400, "INVALID_INPUT")


async def test_one_object_frame_by_frame_as_a_picture_and_as_a_video(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    answer = await service.ok(asset, "object/2", start_frame=65, limit=3)
    assert [box["frame_number"] for box in answer["boxes"]] == [65, 66, 67]
    assert (answer["label"], answer["next_frame"]) == ("car", 68)
    assert list(answer["boxes"][0]["bbox"].values()) == pytest.approx([120, 70, 60, 24], abs=2)  # soft edges
    thumbnail = await service.get(asset, "object/2/thumbnail")
    assert thumbnail.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(thumbnail.content)) as picture:
        assert max(picture.size) == 320
        middle = picture.convert("RGB").getpixel((picture.width // 2, picture.height // 2))
    assert np.abs(np.subtract(middle, COLOURS["car"])).max() < 30  # of 255, after two encodings
    video = await service.get(asset, "object/2/video", audio="off")
    assert (video.status_code, video.headers["content-type"]) == (200, "video/mp4")
    with av.open(io.BytesIO(video.content)) as container:
        count = sum(1 for _ in container.decode(video=0))
    assert count == answer["last_frame"] - answer["first_frame"] + 1
    playlist = await service.get(asset, "object/2/video.m3u8")
    assert "track_id=2" in playlist.text
    for route in ("object/9", "object/9/thumbnail", "object/9/video", "object/9/video.m3u8"):
        media_error(await service.get(asset, route), 404, "TRACK_NOT_FOUND")


async def labels_at(service: IndexService, asset: Asset, frame: int, **query: Any) -> list[str]:
    """Labels of what is drawn in one frame."""
    choice = await choice_of(query.get("classes"), query.get("min_confidence", 0.0))
    track = await Boxes(service.context).of_all(
        asset.asset_id, Span(frame, frame), choice, numbers=query.get("numbers", False)
    )
    assert track is not None
    return sorted(box.label for box in track.at(frame))


async def test_what_is_drawn_is_chosen_and_numbered(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    traces = (await service.ok(asset, "traces"))["traces"]
    face = f"trace {next(each['trace_id'] for each in traces if each['first_frame'] >= 60)}"
    assert await labels_at(service, asset, 80) == ["car", "person", face]
    assert await labels_at(service, asset, 80, classes="car,face") == ["car", face]
    assert await labels_at(service, asset, 80, classes="dog") == []
    assert await labels_at(service, asset, 80, min_confidence=0.7) == ["person", face]
    assert await labels_at(service, asset, 80, numbers=True) == ["car 2 0.60", "person 3 0.80", face]
    track = await Boxes(service.context).of_all(asset.asset_id, Span())
    assert track is not None
    colours = {box.label: box.colour for box in track.at(80)}
    assert colours["person"] == colours[face]
    assert colours["car"] != colours[face]


async def test_the_overlay_draws_what_was_chosen(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))

    async def frames(**query: Any) -> Any:
        answer = await service.get(asset, "video/bbox", start_frame=70, end_frame=71, audio="off", **query)
        assert answer.status_code == 200, answer.text
        with av.open(io.BytesIO(answer.content)) as container:
            return np.stack([picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)])

    nothing, everything, cars, sure = (
        await frames(classes="dog"),  # in the other shot
        await frames(),
        await frames(classes="car"),
        await frames(min_confidence=0.99),
    )
    drawn = [int((np.abs(each.astype(int) - nothing).sum(-1) > 90).sum()) for each in (everything, cars, sure)]
    assert drawn[0] > drawn[1] > 100
    assert drawn[2] == 0
    playlist = await service.get(asset, "video/bbox.m3u8", classes="car,face", min_confidence=0.5)
    assert "classes=car%2Cface&min_confidence=0.5" in playlist.text
    segment = next(line for line in playlist.text.splitlines() if ".m4s" in line)
    assert (await service.get(asset, segment.removeprefix("../"))).status_code == 200


async def test_without_a_detector_the_routes_of_objects_say_so(service: IndexService) -> None:
    without_weights(service, "objects/detector", ModelNotLoaded(WHY))
    asset = await service.add(film(SCENE))
    media_error(await service.get(asset, "objects"), 409, "NOT_INDEXED")
    assert (await service.index(asset)).status == "succeeded"
    for route in ("objects", "object/1", "object/1/thumbnail"):
        assert media_error(await service.get(asset, route), 503, "MODEL_NOT_LOADED") == WHY
    media_error(await service.get(asset, "object/1/video"), 404, "TRACK_NOT_FOUND")
    answer = await service.get(asset, "video/bbox", start_frame=0, end_frame=3)
    assert answer.status_code == 200


@pytest.mark.parametrize("key", ["people/identity", "people/video_faces"])
async def test_without_a_model_for_people_objects_and_shots_are_found_and_completed_by_faces(
    service: IndexService, key: str
) -> None:
    mend = without_weights(service, key, ModelNotLoaded(f"{WHY}\n- it, folder: not set"))
    asset = await service.add(film(SCENE))
    first = await service.index(asset)
    assert first.result is not None
    assert (first.status, first.result["unavailable"], first.result["objects"], "traces" in first.result) == (
        *("succeeded", {"people": WHY}, 3),
        False,
    )
    state = await index_of(service, asset)
    assert (state["status"], state["models"], state["unavailable"]) == ("succeeded", None, {"people": WHY})
    assert (state["object_count"], state["cuts"], state["trace_count"]) == (3, [60], 0)
    before = await objects_of(service, asset)
    assert [record.trace_id for record, _ in before] == [None] * 3
    for route in ("traces", "trace/1", "identities", "trace/1/thumbnail", "trace/1/video", "trace/1/video.m3u8"):
        assert media_error(await service.get(asset, route), 503, "MODEL_NOT_LOADED") == WHY
    assert [each["label"] for each in (await service.ok(asset, "objects"))["objects"]] == ["dog", "car", "person"]
    assert (await service.get(asset, "video/bbox", start_frame=0, end_frame=3)).status_code == 200
    assert await labels_at(service, asset, 80) == ["car", "person"]
    assert (await service.post_index(asset))["job_id"] == first.job_id
    assert service.faces.frames_seen == 0

    mend()
    looked = DummyDetector.running.calls
    second = await service.index(asset)
    assert second.result is not None
    assert (second.status, second.job_id != first.job_id, second.result["traces"]) == ("succeeded", True, 2)
    assert DummyDetector.running.calls == looked
    state = await index_of(service, asset)
    assert (state["trace_count"], state["object_count"], "unavailable" in state) == (2, 3, False)
    after = await objects_of(service, asset)
    assert [record.label for record, _ in after] == ["dog", "car", "person"]
    assert after[2][0].trace_id is not None
    for (_, one), (_, other) in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
    assert (await service.post_index(asset))["job_id"] == second.job_id


async def test_an_index_without_people_equals_the_one_in_one_pass(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    whole = await objects_of(service, asset), await service.ok(asset, "traces"), await service.ok(asset, "identities")
    await service.context.people.delete_index(asset.asset_id)
    await service.context.jobs.forget(asset.asset_id)
    mend = without_weights(service, "people/identity", ModelNotLoaded(WHY))
    assert (await service.index(asset)).status == "succeeded"
    mend()
    assert (await service.index(asset)).status == "succeeded"
    halves = await objects_of(service, asset), await service.ok(asset, "traces"), await service.ok(asset, "identities")
    assert [record for record, _ in halves[0]] == [record for record, _ in whole[0]]
    assert halves[1:] == whole[1:]


async def test_who_was_found_remains_while_the_model_for_people_is_away(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    job, traces = await service.post_index(asset), await service.ok(asset, "traces")
    without_weights(service, "people/video_faces", ModelNotLoaded(WHY))
    assert (await service.post_index(asset))["job_id"] == job["job_id"]
    DummyDetector.running.version = "dummy@00000009"
    again = await service.index(asset)
    assert (again.status, again.job_id != job["job_id"]) == ("succeeded", True)
    assert await service.ok(asset, "traces") == traces
    state = await index_of(service, asset)
    assert (state["object_models"], "unavailable" in state) == ("dummy@00000009:", False)


async def test_objects_remain_where_faces_are_looked_for_anew_and_the_detector_is_away(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    before = [record for record, _ in await objects_of(service, asset)]
    without_weights(service, "objects/detector", ModelNotLoaded(WHY))
    service.faces.version = "dummy@00000009"
    job = await service.index(asset)
    assert (job.status, job.result and job.result["objects"]) == ("succeeded", 3)
    assert [record for record, _ in await objects_of(service, asset)] == before


async def test_a_job_without_people_that_stops_resumes_and_finds_the_same(service: IndexService) -> None:
    without_weights(service, "people/video_faces", ModelNotLoaded(WHY))
    long: tuple[Shot, ...] = ((250, {"dog": (0, 249, (5, 30), (150, 60))}),)
    asset = await service.indexed(film(long, 10))
    (whole,) = await objects_of(service, asset)
    await service.context.people.delete_index(asset.asset_id)
    await service.context.jobs.forget(asset.asset_id)
    job_id = (await service.post_index(asset))["job_id"]
    async with service.working() as runner:
        await service.until(job_id, lambda job: job.checkpoint.get("parts", 0) >= 1 or job.finished)
        await runner.stop()
    async with service.working():
        assert (await service.ended(job_id)).status == "succeeded"
    (again,) = await objects_of(service, asset)
    assert again[0] == whole[0]
    np.testing.assert_array_equal(again[1].boxes, whole[1].boxes)


@pytest.mark.parametrize("route", ["object/1/thumbnail", "trace/1/thumbnail"])
async def test_a_picture_is_made_once_and_known_again_by_its_etag(service: IndexService, route: str) -> None:
    asset = await service.indexed(film(SCENE))
    first = await service.get(asset, route)
    assert (first.status_code, first.headers["content-type"]) == (200, "image/jpeg")
    assert first.headers["cache-control"] == "public, max-age=86400"
    etag = first.headers["etag"]
    mend = without_weights(service, "media/frames", StageUnavailable("It would be made again."))
    assert (await service.get(asset, route)).content == first.content
    for known in (etag, f'"other", W/{etag}', "*"):
        again = await service.get(asset, route, {"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (await service.get(asset, route, {"if-none-match": '"other"'})).status_code == 200
    part = await service.get(asset, route, {"range": "bytes=0-1", "if-range": etag})
    assert (part.status_code, part.content) == (206, first.content[:2])
    head = await service.head(asset, route)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(first.content)))
    mend()


async def test_pictures_of_objects_go_with_their_index(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    for number in (1, 2, 3):
        assert (await service.get(asset, f"object/{number}/thumbnail")).status_code == 200
    assert len(await service.derived_objects(asset)) == 3
    DummyDetector.running.version = "dummy@00000009"  # other objects, of the same moment of the index
    assert (await service.index(asset)).status == "succeeded"
    assert await service.derived_objects(asset) == []
    assert (await service.get(asset, "object/1/thumbnail")).status_code == 200
    await Library(service.context).delete(asset.asset_id)
    assert await service.derived_objects(asset) == []


async def test_a_picture_is_of_the_next_frame_where_the_best_is_damaged(service: IndexService) -> None:
    asset = await service.indexed(film(SCENE))
    frames, asked = service.context.stages["media/frames"], list[int]()

    async def damaged(items: list[Any], left: float | None) -> list[Any]:
        asked.extend(item.frame for item in items)
        return [InvalidMedia("damaged")] if len(asked) < 3 else await call(items, left)

    call, frames._call = frames._call, damaged
    assert (await service.get(asset, "object/1/thumbnail")).status_code == 200
    assert len(set(asked)) == 3
    asked.clear()
    frames._call = lambda items, _: _all_damaged(items)
    media_error(await service.get(asset, "object/2/thumbnail"), 400, "INVALID_FILE_FORMAT")


async def _all_damaged(items: list[Any]) -> list[Any]:
    return [InvalidMedia("damaged") for _ in items]
