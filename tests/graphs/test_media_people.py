"""What indexing found, over HTTP: traces, faces, people of a video, people across videos."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from configs import settings as settings_module
from stores.records import Asset
from tests.dummies.video import PEOPLE
from tests.graphs.harness import configured
from tests.graphs.indexing import FACE, IndexService, film, index_service, photo
from tests.graphs.media import media_error
from tests.graphs.photos import replace_stage
from tests.graphs.samples import audio, picture
from tests.tolerances import decimals
from vision.errors import InvalidMedia

NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IndexService]:
    async with index_service(configured(monkeypatch, tmp_path)) as made:
        yield made
    settings_module.settings.cache_clear()


async def names(service: IndexService, asset: Asset) -> dict[str, str]:
    """Identity uuids by the colour of the faces that stand for them."""
    owners = {}
    for person in (await service.ok(asset, "identities"))["identities"]:
        answer = await service.client.get(person["thumbnail_url"])
        middle = _pixels(answer.content)[160, 160].astype(int)
        owners[min(PEOPLE, key=lambda name: np.abs(middle - PEOPLE[name]).sum())] = person["identity_uuid"]
    return owners


async def test_traces_come_in_order_and_in_pages(service: IndexService) -> None:
    asset = await service.indexed()
    answer = await service.ok(asset, "traces")
    assert (answer["file_uuid"], answer["total"], answer["next"]) == (asset.asset_id, 4, None)
    # Every second frame is sampled, so Bob is detected one frame after he came.
    spans = [(t["trace_id"], t["first_frame"], t["last_frame"], t["face_count"]) for t in answer["traces"]]
    assert spans == [(1, 0, 59, 31), (2, 22, 59, 20), (3, 60, 89, 16), (4, 90, 129, 21)]
    times = [(t["first_time"], t["last_time"]) for t in answer["traces"]]
    assert times == [(0.0, 2.36), (0.88, 2.36), (2.4, 3.56), (3.6, 5.16)]
    owners = [t["identity_uuid"] for t in answer["traces"]]
    assert owners[0] == owners[3]
    assert len(set(owners)) == 3
    assert answer["traces"][1]["thumbnail_url"] == f"/api/v1/file/{asset.asset_id}/trace/2/thumbnail"

    first = await service.ok(asset, "traces", limit=3)
    assert ([t["trace_id"] for t in first["traces"]], first["next"], first["total"]) == ([1, 2, 3], 3, 4)
    second = await service.ok(asset, "traces", limit=3, after=first["next"])
    assert ([t["trace_id"] for t in second["traces"]], second["next"]) == ([4], None)


async def test_a_trace_has_a_box_for_each_frame(service: IndexService) -> None:
    asset = await service.indexed()
    trace = await service.ok(asset, "trace/1")
    assert (trace["trace_id"], trace["first_frame"], trace["next_frame"]) == (1, 0, None)
    boxes = trace["boxes"]
    assert [box["frame_number"] for box in boxes] == list(range(60))
    assert [box["detected"] for box in boxes] == [frame % 2 == 0 or frame == 59 for frame in range(60)]
    for box in boxes:
        share = box["frame_number"] / 59
        wanted = (10 + share * 50, 30 + share * 4, *FACE)
        assert list(box["bbox"].values()) == pytest.approx(wanted, abs=2)
        assert box["confidence"] == pytest.approx(0.9, abs=decimals(3))


async def test_boxes_come_by_frames_and_in_pages(service: IndexService) -> None:
    asset = await service.indexed()

    async def frames(**query: int) -> tuple[list[int], int | None]:
        answer = await service.ok(asset, "trace/2", **query)
        return [box["frame_number"] for box in answer["boxes"]], answer["next_frame"]

    assert await frames(start_frame=30, end_frame=33) == ([30, 31, 32, 33], None)
    assert await frames(start_frame=57) == ([57, 58, 59], None)
    assert await frames(end_frame=23) == ([22, 23], None)
    assert await frames(limit=3) == ([22, 23, 24], 25)
    assert await frames(start_frame=25, limit=3) == ([25, 26, 27], 28)
    assert await frames(start_frame=500) == ([], None)
    assert await frames(start_frame=33, end_frame=30) == ([], None)


async def test_a_face_stands_for_a_trace(service: IndexService) -> None:
    asset = await service.indexed()
    answer = await service.ok(asset, "trace/3/representative-face")
    assert (answer["file_uuid"], answer["trace_id"], answer["face_count"]) == (asset.asset_id, 3, 16)
    assert set(answer) == {"success", "file_uuid", "trace_id", "face_count", "representative"}
    face = answer["representative"]
    assert set(face["bbox"]) == {"x", "y", "width", "height"}
    assert set(face) == {
        *("frame_number", "timestamp_secs", "bbox", "confidence", "quality_score", "blur_score"),
    }
    frame = face["frame_number"]
    assert frame in [*range(60, 90, 2), 89]
    assert face["timestamp_secs"] == pytest.approx(frame / 25, abs=decimals(6))
    box = face["bbox"]
    share = (frame - 60) / 29
    assert list(box.values()) == pytest.approx((70 + 20 * share, 20 + 20 * share, *FACE), abs=2)
    assert face["quality_score"] == pytest.approx(box["width"] * box["height"] * face["confidence"], rel=decimals(3))
    assert face["blur_score"] is None  # plain colours have no texture to measure


async def test_the_sharpest_of_the_ten_best_is_taken(service: IndexService) -> None:
    asset = await service.indexed()
    seen: list[bytes] = []

    async def blur(jpeg: bytes) -> Any:
        seen.append(jpeg)
        return type("Blur", (), {"blur": None if len(seen) < 4 else float((7 * len(seen)) % 10)})

    replace_stage(service, "media/sharpness", blur)
    face = (await service.ok(asset, "trace/1/representative-face"))["representative"]
    assert len(seen) == 10
    assert face["blur_score"] == 0.0
    thumbnail = await service.get(asset, "trace/1/thumbnail")
    assert thumbnail.content == seen[9]
    assert len(seen) == 10


async def test_damaged_frames_are_passed_over(service: IndexService) -> None:
    asset = await service.indexed()
    frames, asked = service.context.stages["media/frames"], []

    async def mostly_damaged(request: Any) -> Any:
        asked.append(request.frame)
        return InvalidMedia("damaged") if len(asked) < 10 else await frames(request)

    replace_stage(service, "media/frames", mostly_damaged)
    face = (await service.ok(asset, "trace/1/representative-face"))["representative"]
    assert face["frame_number"] == asked[9]
    replace_stage(service, "media/frames", lambda _: InvalidMedia("damaged"))
    media_error(await service.get(asset, "trace/2/representative-face"), 400, "INVALID_FILE_FORMAT")


async def test_a_thumbnail_is_made_once(service: IndexService) -> None:
    asset = await service.indexed()
    first = await service.get(asset, "trace/2/thumbnail")
    assert first.status_code == 200
    assert first.headers["content-type"] == "image/jpeg"
    assert "max-age=86400" in first.headers["cache-control"]
    pixels = _pixels(first.content)
    assert pixels.shape == (320, 320, 3)
    assert np.abs(pixels[160, 160].astype(int) - PEOPLE["bob"]).sum() < 60

    def refuse(_: Any) -> Any:
        raise AssertionError("looked again")

    replace_stage(service, "media/frames", refuse)
    again = await service.get(asset, "trace/2/thumbnail")
    assert again.content == first.content
    head = await service.client.head(f"/api/v1/file/{asset.asset_id}/trace/2/thumbnail")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(first.content)))


async def test_who_is_in_a_video(service: IndexService) -> None:
    asset = await service.indexed()
    answer = await service.ok(asset, "identities")
    assert answer["unassigned_traces"] == 0
    people = answer["identities"]
    assert [(p["trace_ids"], p["first_frame"], p["last_frame"], p["face_count"]) for p in people] == [
        ([1, 4], 0, 129, 52),
        ([2], 22, 59, 20),
        ([3], 60, 89, 16),
    ]
    assert [(p["first_time"], p["last_time"]) for p in people] == [(0.0, 5.16), (0.88, 2.36), (2.4, 3.56)]
    assert {p["name"] for p in people} == {None}
    assert people[0]["thumbnail_url"].endswith("/trace/1/thumbnail")
    assert set(await names(service, asset)) == set(PEOPLE)


async def test_who_is_seen_too_shortly_is_nobody(service: IndexService) -> None:
    walks = {"ada": (0, 39, (10, 30), (20, 30)), "bob": (20, 26, (120, 50), (120, 50))}
    asset = await service.indexed(film(((40, walks),)))
    traces = (await service.ok(asset, "traces"))["traces"]
    assert [(t["first_frame"], t["last_frame"], t["face_count"]) for t in traces] == [(0, 39, 21), (20, 26, 4)]
    assert traces[1]["identity_uuid"] is None
    answer = await service.ok(asset, "identities")
    assert ([person["trace_ids"] for person in answer["identities"]], answer["unassigned_traces"]) == ([[1]], 1)
    assert len((await service.people("GET"))["identities"]) == 1


async def test_two_people_meet(service: IndexService) -> None:
    asset = await service.indexed()
    who = await names(service, asset)
    await service.people("PATCH", f"/{who['ada']}", name="Ada")
    answer = await service.ok(asset, f"identities/{who['bob']}/co-occur-with/{who['ada']}")
    assert answer["identity_a"] == {"identity_uuid": who["bob"], "name": None, "trace_id": 2}
    assert answer["identity_b"] == {"identity_uuid": who["ada"], "name": "Ada", "trace_id": 1}
    assert set(answer) == {"success", "file_uuid", "identity_a", "identity_b", "first_cooccurrence"}
    together = answer["first_cooccurrence"]
    assert set(together) == {
        *("frame_number", "timestamp_secs", "total_cooccurrence_frames"),
        *("representative_face_a", "representative_face_b"),
    }
    # Bob comes in frame 21, and both are seen until frame 59.
    assert (together["frame_number"], together["timestamp_secs"]) == (22, 0.88)
    assert together["total_cooccurrence_frames"] == 38
    for side, trace in (("a", 2), ("b", 1)):
        face = together[f"representative_face_{side}"]
        assert set(face) == {"frame_number", "bbox", "confidence", "thumbnail_url"}
        assert face["thumbnail_url"] == f"/api/v1/file/{asset.asset_id}/trace/{trace}/thumbnail"
        chosen = (await service.ok(asset, f"trace/{trace}/representative-face"))["representative"]
        assert {name: face[name] for name in ("frame_number", "bbox", "confidence")} == {
            name: chosen[name] for name in ("frame_number", "bbox", "confidence")
        }


async def test_people_who_never_meet(service: IndexService) -> None:
    asset = await service.indexed()
    who = await names(service, asset)
    route = f"identities/{who['ada']}/co-occur-with"
    media_error(await service.get(asset, f"{route}/{who['cyd']}"), 404, "NO_COOCCURRENCE")
    media_error(await service.get(asset, f"{route}/{NOBODY}"), 404, "IDENTITY_NOT_FOUND")
    media_error(await service.get(asset, f"{route}/{who['ada']}"), 400, "INVALID_INPUT")
    other = await service.indexed(film(((30, {"cyd": (0, 29, (70, 20), (90, 40))}),)))
    media_error(await service.get(other, f"{route}/{who['bob']}"), 404, "NO_COOCCURRENCE")


ROUTES = (
    "traces",
    "trace/1",
    "trace/1/representative-face",
    "trace/1/thumbnail",
    "identities",
    f"identities/{NOBODY}/co-occur-with/{NOBODY[:-1]}1",
)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_video_that_is_not_indexed_says_what_to_call(service: IndexService, route: str) -> None:
    asset = await service.add(film())
    message = media_error(await service.get(asset, route), 409, "NOT_INDEXED")
    assert f"POST /api/v1/file/{asset.asset_id}/index" in message


@pytest.mark.parametrize("route", ROUTES)
async def test_unknown_files_and_other_kinds_of_files(service: IndexService, route: str) -> None:
    media_error(await service.client.get(f"/api/v1/file/{'0' * 32}/{route}"), 404, "ASSET_NOT_FOUND")
    asset = await service.add(picture(1), "photo.png")
    media_error(await service.get(asset, route), 400, "INVALID_INPUT")


async def test_unknown_traces_and_impossible_pages(service: IndexService) -> None:
    asset = await service.indexed()
    for route in ("trace/9", "trace/9/representative-face", "trace/9/thumbnail"):
        media_error(await service.get(asset, route), 404, "TRACE_NOT_FOUND")
    pages: tuple[tuple[str, dict[str, Any]], ...] = (
        *(("trace/x", {}), ("trace/-1", {})),
        *(("traces", {"limit": 0}), ("traces", {"after": "x"}), ("trace/1", {"start_frame": -1})),
    )
    for route, query in pages:
        media_error(await service.get(asset, route, **query), 400, "INVALID_INPUT")


async def test_somebody_is_found_again_in_a_later_video(service: IndexService) -> None:
    first = await service.indexed()
    who = await names(service, first)
    await service.people("PATCH", f"/{who['ada']}", name="Ada")
    walks = {"ada": (0, 49, (90, 20), (20, 50))}
    second = await service.indexed(film(((50, walks),)))
    (person,) = (await service.ok(second, "identities"))["identities"]
    assert (person["identity_uuid"], person["name"]) == (who["ada"], "Ada")
    assert len((await service.people("GET"))["identities"]) == 3


async def test_reference_photos_make_an_identity_that_videos_find(service: IndexService) -> None:
    photos = [await service.add(photo("bob", "ada"), "1.png"), await service.add(photo("bob"), "2.png")]
    ids = [asset.asset_id for asset in photos]
    made = await service.people("POST", status=201, name="  Bob  ", asset_ids=ids)
    identity = made["identity"]
    assert (identity["name"], identity["reference_asset_ids"], identity["weight"]) == ("Bob", ids, 2.0)
    assert identity["models"] == "dummy@00000002"
    assert made["similar"] == []
    asset = await service.indexed()
    people = (await service.ok(asset, "identities"))["identities"]
    assert [(p["trace_ids"], p["name"]) for p in people] == [([1, 4], None), ([2], "Bob"), ([3], None)]
    assert people[1]["identity_uuid"] == identity["identity_uuid"]
    answer = await service.people("GET", f"/{identity['identity_uuid']}")
    face = f"/api/v1/file/{asset.asset_id}/trace/2/thumbnail"
    assert answer == {"success": True, "identity": identity | {"thumbnail_url": face}}


async def test_a_new_identity_names_those_who_may_be_the_same(service: IndexService) -> None:
    asset = await service.indexed()
    who = await names(service, asset)
    reference = await service.add(photo("ada"), "ada.png")
    made = await service.people("POST", status=201, name="Ada", asset_ids=[reference.asset_id])
    (similar,) = made["similar"]
    assert (similar["identity_uuid"], similar["name"]) == (who["ada"], None)
    assert 75 <= similar["similarity_percentage"] <= 100
    uuid = made["identity"]["identity_uuid"]
    merged = await service.people("POST", f"/{uuid}/merge/{who['ada']}")
    assert (merged["identity"]["identity_uuid"], merged["identity"]["name"]) == (uuid, "Ada")
    assert (merged["identity"]["weight"], merged["identity"]["reference_asset_ids"]) == (53.0, [reference.asset_id])
    people = (await service.ok(asset, "identities"))["identities"]
    assert (people[0]["identity_uuid"], people[0]["trace_ids"]) == (uuid, [1, 4])
    media_error(await service.client.get(f"/api/v1/identities/{who['ada']}"), 404, "IDENTITY_NOT_FOUND")


async def test_references_without_a_face_or_of_somebody_else_are_refused(service: IndexService) -> None:
    ada, bob = await service.add(photo("ada"), "ada.png"), await service.add(photo("bob"), "bob.png")
    empty, sound = await service.add(photo(), "empty.png"), await service.add(audio(), "tone.wav")

    async def refused(status: int, code: str, *assets: str) -> str:
        body = {"name": "Ada", "asset_ids": list(assets)}
        return media_error(await service.client.post("/api/v1/identities", json=body), status, code)

    assert empty.asset_id in await refused(400, "INVALID_INPUT", ada.asset_id, empty.asset_id)
    assert "not that of the other photos" in await refused(400, "INVALID_INPUT", ada.asset_id, bob.asset_id)
    await refused(400, "INVALID_INPUT", sound.asset_id)
    await refused(404, "ASSET_NOT_FOUND", "0" * 32)
    await refused(400, "INVALID_INPUT")
    assert (await service.people("GET"))["identities"] == []


async def test_identities_are_listed_renamed_and_deleted(service: IndexService) -> None:
    asset = await service.indexed()
    who = await names(service, asset)
    everybody = sorted(who.values())
    page = await service.people("GET", "?limit=2")
    assert [each["identity_uuid"] for each in page["identities"]] == everybody[:2]
    rest = await service.people("GET", f"?limit=2&after={page['next']}")
    assert ([each["identity_uuid"] for each in rest["identities"]], rest["next"]) == (everybody[2:], None)

    renamed = await service.people("PATCH", f"/{who['bob']}", name="Bob")
    assert renamed["identity"]["name"] == "Bob"
    assert (await service.ok(asset, "identities"))["identities"][1]["name"] == "Bob"
    unnamed = await service.client.patch(f"/api/v1/identities/{who['bob']}", json={"name": None})
    assert unnamed.json()["identity"]["name"] is None

    gone = await service.people("DELETE", f"/{who['bob']}")
    removed = {"objects": 0, "documents": 1, "jobs": 0, "vectors": 0, "cache": 0}
    assert gone == {"success": True, "identity_uuid": who["bob"], "deleted": True, "removed": removed}
    answer = await service.ok(asset, "identities")
    assert [person["trace_ids"] for person in answer["identities"]] == [[1, 4], [3]]
    assert answer["unassigned_traces"] == 1
    assert (await service.ok(asset, "trace/2"))["identity_uuid"] is None


async def test_two_who_are_one_are_merged(service: IndexService) -> None:
    asset = await service.indexed()
    who = await names(service, asset)
    await service.people("PATCH", f"/{who['cyd']}", name="Cyd")
    merged = await service.people("POST", f"/{who['bob']}/merge/{who['cyd']}")
    assert (merged["identity"]["identity_uuid"], merged["identity"]["name"]) == (who["bob"], "Cyd")
    assert merged["identity"]["weight"] == 36.0
    people = (await service.ok(asset, "identities"))["identities"]
    assert [person["trace_ids"] for person in people] == [[1, 4], [2, 3]]
    for path in (f"/{who['bob']}/merge/{who['cyd']}", f"/{who['cyd']}/merge/{who['bob']}"):
        media_error(await service.client.post(f"/api/v1/identities{path}"), 404, "IDENTITY_NOT_FOUND")
    media_error(await service.client.post(f"/api/v1/identities/{who['bob']}/merge/{who['bob']}"), 400, "INVALID_INPUT")


async def test_appearances_of_a_person_lead_to_their_places(service: IndexService) -> None:
    asset = await service.indexed()
    ada = (await names(service, asset))["ada"]
    (person,) = [each for each in (await service.people("GET"))["identities"] if each["identity_uuid"] == ada]
    assert person["thumbnail_url"] == f"/api/v1/file/{asset.asset_id}/trace/1/thumbnail"  # 31 faces against 21
    answer = await service.people("GET", f"/{ada}/appearances")
    spans = [(each["trace_id"], each["first_time"], each["last_time"]) for each in answer["appearances"]]
    assert (spans, answer["next"]) == ([(1, 0.0, 2.36), (4, 3.6, 5.16)], None)
    assert {each["filename"] for each in answer["appearances"]} == {asset.filename}
    first = await service.people("GET", f"/{ada}/appearances?limit=1")
    second = await service.people("GET", f"/{ada}/appearances?limit=1&after={first['next']}")
    assert [each["appearances"][0]["trace_id"] for each in (first, second)] == [1, 4]
    assert second["next"] is None
    media_error(await service.client.get(f"/api/v1/identities/{ada}/appearances?after=x"), 400, "INVALID_INPUT")


async def reindexed(service: IndexService, asset: Asset) -> None:
    """Index a video anew."""
    await service.context.people.delete_index(asset.asset_id)
    await service.context.jobs.forget(asset.asset_id)
    assert (await service.index(asset)).status == "succeeded"


async def test_who_is_split_off_stays_so_when_the_video_is_indexed_again(service: IndexService) -> None:
    asset = await service.indexed()
    ada = (await names(service, asset))["ada"]
    wrong = [{"file_uuid": asset.asset_id, "trace_id": 4}]
    answer = await service.people("POST", f"/{ada}/split", traces=wrong, name="Eve")
    eve = answer["identity"]["identity_uuid"]
    assert (answer["identity"]["name"], answer["remaining"]["identity_uuid"]) == ("Eve", ada)
    assert (answer["identity"]["weight"], answer["remaining"]["weight"]) == (21.0, 31.0)
    owners = {each["trace_id"]: each["identity_uuid"] for each in (await service.ok(asset, "traces"))["traces"]}
    assert (owners[1], owners[4]) == (ada, eve)

    await reindexed(service, asset)
    again = {each["trace_id"]: each["identity_uuid"] for each in (await service.ok(asset, "traces"))["traces"]}
    assert again == owners
    # Without Eve the faces are still not Ada's, of whom they are more alike to what was rejected.
    await service.people("DELETE", f"/{eve}")
    await reindexed(service, asset)
    third = {each["trace_id"]: each["identity_uuid"] for each in (await service.ok(asset, "traces"))["traces"]}
    assert third[1] == ada
    assert third[4] not in (ada, None)
    # Said to be one after all, they are one from then on.
    await service.people("POST", f"/{ada}/merge/{third[4]}")
    await reindexed(service, asset)
    merged = {each["trace_id"]: each["identity_uuid"] for each in (await service.ok(asset, "traces"))["traces"]}
    assert (merged[1], merged[4]) == (ada, ada)


async def owners(service: IndexService, asset: Asset) -> dict[int, str | None]:
    """Whose each trace of a video is."""
    return {each["trace_id"]: each["identity_uuid"] for each in (await service.ok(asset, "traces"))["traces"]}


async def assigned_again(service: IndexService, asset: Asset) -> dict[str, Any]:
    """The result of having identities assigned anew."""
    answer = await service.client.post(f"/api/v1/file/{asset.asset_id}/index", params={"again": True})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued"), answer.text
    async with service.working():
        job = await service.ended(answer.json()["job_id"])
    assert (job.status, job.error) == ("succeeded", None)
    assert job.result is not None
    return job.result


async def test_deleted_identities_come_back_without_looking_for_faces_again(service: IndexService) -> None:
    asset = await service.indexed()
    before, seen = await owners(service, asset), service.faces.frames_seen
    who = await names(service, asset)
    await service.people("PATCH", f"/{who['bob']}", name="Bob")
    for person in ("ada", "cyd"):
        await service.people("DELETE", f"/{who[person]}")
    assert [await owners(service, asset)] == [{1: None, 2: who["bob"], 3: None, 4: None}]
    assert (await service.post_index(asset))["status"] == "succeeded"  # the same job, which changes nothing
    assert (await owners(service, asset))[1] is None

    result = await assigned_again(service, asset)
    assert (result["traces"], result["identities"], result["new_identities"]) == (4, 3, 2)
    assert (await owners(service, asset), service.faces.frames_seen) == (before, seen)
    assert (await service.people("GET", f"/{who['bob']}"))["identity"]["name"] == "Bob"
    # Asked once more it is a new job, and everybody is known.
    assert (await assigned_again(service, asset))["new_identities"] == 0
    assert await owners(service, asset) == before
    state = (await service.client.get(f"/api/v1/file/{asset.asset_id}")).json()["index"]
    assert (state["status"], state["identity_count"]) == ("succeeded", 3)
    assert (await service.post_index(asset))["status"] == "succeeded"


async def test_a_person_that_was_added_since_is_found_in_a_video_again(service: IndexService) -> None:
    asset = await service.indexed()
    who = await names(service, asset)
    await service.people("DELETE", f"/{who['cyd']}")
    picture = await service.add(photo("cyd"), "cyd.png")
    made = await service.people("POST", status=201, name="Cyd", asset_ids=[picture.asset_id])
    await assigned_again(service, asset)
    assert (await owners(service, asset))[3] == made["identity"]["identity_uuid"]


async def test_a_rejection_is_kept_when_identities_are_assigned_again(service: IndexService) -> None:
    asset = await service.indexed()
    ada = (await names(service, asset))["ada"]
    await service.people("PATCH", f"/{ada}", name="Ada")
    first = [{"file_uuid": asset.asset_id, "trace_id": 1}]
    eve = (await service.people("POST", f"/{ada}/split", traces=first))["identity"]["identity_uuid"]
    await assigned_again(service, asset)
    assert [(await owners(service, asset))[trace] for trace in (1, 4)] == [eve, ada]
    # The first trace gave Ada her uuid: without Eve it gets one that is nobody's, and Ada keeps hers and her name.
    await service.people("DELETE", f"/{eve}")
    await assigned_again(service, asset)
    again = await owners(service, asset)
    assert (again[4], again[1] in (ada, None)) == (ada, False)
    assert (await service.people("GET", f"/{ada}"))["identity"]["name"] == "Ada"
    assert await assigned_again(service, asset)
    assert await owners(service, asset) == again


async def test_what_is_asked_again_before_there_is_an_index_is_an_index(service: IndexService) -> None:
    asset = await service.add(film())
    url = f"/api/v1/file/{asset.asset_id}/index"
    first = (await service.client.post(url, params={"again": True})).json()
    assert first["job_id"] == (await service.post_index(asset))["job_id"]
    running = (await service.client.post(url, params={"again": True})).json()
    assert running["job_id"] == first["job_id"]
    async with service.working():
        assert (await service.ended(first["job_id"])).status == "succeeded"
    assert len(await owners(service, asset)) == 4
    refused = await service.client.post(url, params={"again": "perhaps"})
    assert refused.status_code == 400


async def test_identities_of_an_index_that_is_gone_are_not_assigned(service: IndexService) -> None:
    asset = await service.indexed()
    answer = await service.client.post(f"/api/v1/file/{asset.asset_id}/index", params={"again": True})
    await service.context.people.delete_index(asset.asset_id)
    async with service.working():
        job = await service.ended(answer.json()["job_id"])
    assert (job.status, job.error) == (
        "failed",
        "The index was removed or replaced after this job was submitted; ask for the index again.",
    )


async def test_a_split_that_cannot_be_is_refused(service: IndexService) -> None:
    asset = await service.indexed()
    who = await names(service, asset)
    for traces, text in (
        ([(asset.asset_id, 1), (asset.asset_id, 4)], "all appearances"),
        ([(asset.asset_id, 2)], "no appearances"),
        ([(asset.asset_id, 99)], "no appearances"),
    ):
        body = {"traces": [{"file_uuid": file, "trace_id": number} for file, number in traces]}
        refused = await service.client.post(f"/api/v1/identities/{who['ada']}/split", json=body)
        assert text in media_error(refused, 400, "INVALID_INPUT")
    owners = {each["trace_id"]: each["identity_uuid"] for each in (await service.ok(asset, "traces"))["traces"]}
    assert owners[1] == owners[4] == who["ada"]


async def test_unknown_identities_and_impossible_bodies(service: IndexService) -> None:
    client = service.client
    for answer in (
        await client.get(f"/api/v1/identities/{NOBODY}"),
        await client.patch(f"/api/v1/identities/{NOBODY}", json={"name": "x"}),
        await client.delete(f"/api/v1/identities/{NOBODY}"),
        await client.post(f"/api/v1/identities/{NOBODY}/merge/{NOBODY[:-1]}1"),
        await client.get(f"/api/v1/identities/{NOBODY}/appearances"),
        await client.post(f"/api/v1/identities/{NOBODY}/split", json={"traces": [{"file_uuid": "x", "trace_id": 1}]}),
    ):
        media_error(answer, 404, "IDENTITY_NOT_FOUND")
    for body in ({}, {"name": "", "asset_ids": ["x"]}, {"name": "x", "asset_ids": []}, {"name": "x" * 201}):
        media_error(await client.post("/api/v1/identities", json=body), 400, "INVALID_INPUT")
    media_error(await client.get("/api/v1/identities?limit=0"), 400, "INVALID_INPUT")


def _pixels(jpeg: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
