"""A service on a disk of its own that is full: 507 with the reason, reads and deletes work, and writes come back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from configs.settings import Settings
from deployments.serving.handle import AnyHandle
from stores.errors import StoreFull
from tests.graphs.authenticity import BASE, detail_of, saved, scene, serving_authenticity
from tests.graphs.conftest import Service, serving
from tests.graphs.harness import settings_in
from tests.graphs.indexing import index_service
from tests.graphs.muzzle import muzzle, serving_muzzle, text
from tests.graphs.samples import error_of, picture, video
from tests.graphs.shots import given, serving_shots
from tests.stores.volumes import Volume, volume


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Volume]:
    with volume(tmp_path / "disk", megabytes=24) as mounted:
        yield mounted


@pytest.fixture
def config(disk: Volume) -> Iterator[Settings]:
    with settings_in(disk.root, disk_reserve_bytes=2**28) as made:
        yield made


@pytest.fixture
async def service(config: Settings, analytics: dict[str, AnyHandle]) -> AsyncIterator[Service]:
    async with serving(config, analytics) as made:
        yield made


def full(answer: httpx.Response) -> None:
    """Assert that an answer of the asset API says what is wrong and what to do."""
    message = error_of(answer, 507, "STORAGE_FULL")["message"]
    assert message == StoreFull.message
    assert "disk" in message
    assert "Delete" in message


async def put_config(service: Service) -> httpx.Response:
    return await service.client.put("/api/v1/config/similarity-threshold", json={"threshold": 71})


async def test_uploads_answer_507_and_come_back(service: Service, disk: Volume) -> None:
    image, film = await service.upload(picture(1)), await service.upload(video(1), "a.mp4")
    features = await service.post("extract-features", asset_id=image)
    await service.post("extract-features", asset_id=film)
    disk.fill()
    before = {info.key async for info in service.context.objects.list()}
    for data, name in ((picture(2), "b.png"), (video(2), "b.mp4"), (picture(3, fmt="JPEG"), "c.jpg")):
        full(await service.send(data, name))
    full(await put_config(service))
    assert {info.key async for info in service.context.objects.list()} == before
    assert service.spooled == []
    assert len(await service.context.documents.list_assets()) == 2
    # What was there can be read, and searched.
    assert (await service.client.get(f"/api/v1/media/{image}/content")).content == picture(1)
    assert (await service.client.get(f"/api/v1/media/{film}/poster")).status_code == 200
    assert (await service.get(f"media/{image}"))["features"] == pytest.approx(features["features"])
    found = await service.post("semantic-search", query_asset_id=image)
    assert [hit["asset_id"] for hit in found["search_results"]] == [film]
    ranged = await service.client.get(f"/api/v1/media/{film}/content", headers={"range": "bytes=0-9"})
    assert (ranged.status_code, ranged.content) == (206, video(1)[:10])
    # Deleting works and gives room.
    for asset_id in (image, film):
        assert (await service.delete(asset_id))["storage_deleted"] is True
    assert [info.key async for info in service.context.objects.list()] == []
    disk.empty()
    await asyncio.sleep(1.1)
    for data, name in ((picture(2), "b.png"), (video(2), "b.mp4")):
        await service.upload(data, name)
    assert (await put_config(service)).status_code == 200


async def test_features_that_cannot_be_stored_are_refused_and_computed_later(service: Service, disk: Volume) -> None:
    image = await service.upload(picture(1))
    disk.fill()
    full(await service.try_post("extract-features", asset_id=image))
    assert (await service.get(f"media/{image}"))["processing_status"] == "uploaded"
    disk.empty()
    assert len((await service.post("extract-features", asset_id=image))["features"]) == 384


async def test_vectors_that_are_not_in_the_index_yet_are_found_on_a_full_disk(service: Service, disk: Volume) -> None:
    query, near, far = [await service.upload(picture(seed)) for seed in (1, 2, 3)]
    for asset_id in (query, near, far):
        await service.post("extract-features", asset_id=asset_id)
    disk.fill()
    first = (await service.post("semantic-search", query_asset_id=query))["search_results"]
    disk.empty()
    indexed = (await service.post("semantic-search", query_asset_id=query))["search_results"]
    assert {hit["asset_id"] for hit in first} == {near, far}
    assert [hit["asset_id"] for hit in first] == [hit["asset_id"] for hit in indexed]
    scores = [[hit["similarity_score"] for hit in hits] for hits in (first, indexed)]
    assert scores[0] == pytest.approx(scores[1], abs=0.01)


async def test_health_tells_and_still_answers(service: Service, disk: Volume) -> None:
    await service.upload(picture(1))
    disk.fill()
    body = (await service.client.get("/health")).json()
    assert body["status"] == "degraded"
    for store in ("database", "storage"):
        assert body[store]["connected"] is True
        assert body[store]["error"] == "is full"
    ready = await service.client.get("/readyz")
    assert ready.status_code == 200  # reads and deletes are served
    assert ready.json() == {"status": "ready", "degraded": {"documents": "is full", "objects": "is full"}}
    disk.empty()
    assert (await service.client.get("/readyz")).json() == {"status": "ready"}
    assert (await service.client.get("/health")).json()["storage"].get("error") is None


async def test_an_upload_that_meets_the_end_of_the_disk_leaves_nothing(service: Service, disk: Volume) -> None:
    await service.upload(picture(1))
    disk.fill(leave=2 * 2**20)  # more than the reserve, less than the file
    full(await service.send(picture(2, size=(900, 900), noise=1.0), "large.png"))
    assert service.spooled == []
    assert disk.free >= 2**20
    await service.upload(picture(3))  # a small one still fits


async def test_room_that_others_take_between_the_check_and_the_write(
    service: Service, disk: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.upload(picture(1))
    monkeypatch.setattr("stores.disk.Disk.require", lambda *_: None)
    disk.fill()
    before = {info.key async for info in service.context.objects.list()}
    for data, name in ((picture(2), "b.png"), (video(2), "b.mp4")):
        full(await service.send(data, name))
    assert service.spooled == []
    assert {info.key async for info in service.context.objects.list()} == before


async def test_deletes_of_all_assets_by_many_clients_on_a_full_disk(service: Service, disk: Volume) -> None:
    ids = await asyncio.gather(*(service.upload(picture(seed)) for seed in range(30)))
    disk.fill()
    answers = await asyncio.gather(*(service.client.delete(f"/api/v1/media/{each}") for each in ids))
    assert [answer.status_code for answer in answers] == [200] * 30
    assert await service.context.documents.list_assets() == []


async def test_judging_on_a_full_disk(config: Settings, disk: Volume) -> None:
    async with serving_authenticity(config) as service:
        kept = await service.judged("image/", saved(scene("ada")), "a.png")
        disk.fill()
        refused = await service.send("image/", saved(scene("bob")), "b.png")
        assert detail_of(refused, 507) == StoreFull.message
        assert (await service.client.get(f"{BASE}/results/{kept['analysis_id']}")).json() == kept
        assert service.spooled == []
        disk.empty()
        await service.judged("image/", saved(scene("bob")), "b.png")


async def test_enrolling_on_a_full_disk(config: Settings, disk: Volume) -> None:
    async with serving_muzzle(config) as service:
        await service.enrol("one", 1)
        disk.fill()
        photos = [text(muzzle(2, k)) for k in range(3)]
        answer = await service.client.post("/animals", json={"animal_id": "two", "photos": photos})
        assert answer.status_code == 507
        assert StoreFull.message in answer.text
        identified = await service.client.post("/identify", json={"photo": text(muzzle(1, 5))})
        assert identified.json()["candidates"][0]["animal_id"] == "one"
        assert (await service.client.delete("/animals/one")).status_code == 200
        disk.empty()
        await service.enrol("two", 2)


async def test_shots_on_a_full_disk(config: Settings, disk: Volume) -> None:
    async with serving_shots(config) as service:
        (kept,) = await service.store(given(0))
        disk.fill()
        body = {"video_asset_id": service.film, "shots": [given(1)]}
        full(await service.client.post("/api/v1/store-shot-data", json=body))
        assert (await service.client.delete(f"/api/v1/shots/{kept}")).status_code in (200, 404)
        disk.empty()
        await asyncio.sleep(1.1)
        await service.store(given(1))


async def test_a_job_pauses_on_a_full_disk_and_ends_when_there_is_room(config: Settings, disk: Volume) -> None:
    from tests.graphs.indexing import film

    async with index_service(config) as service:
        asset = await service.add(film())
        job_id = (await service.post_index(asset))["job_id"]
        disk.fill()
        full_answer = await service.client.post(f"/api/v1/file/{asset.asset_id}/index?force=true")
        assert full_answer.status_code in (202, 507)
        async with service.working():
            paused = await service.until(job_id, lambda job: job.message.startswith("Paused."))
            assert (paused.status, paused.attempts) == ("queued", 0)
            assert StoreFull.message in paused.message
            disk.empty()
            ended = await service.ended(job_id)
        assert (ended.status, ended.attempts) == ("succeeded", 1)
        assert service.spooled == []
