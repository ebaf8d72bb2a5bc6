"""What a crash can leave behind, each healed by sending the same bytes once more."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from graphs.web.uploads import library
from stores.errors import StoreError
from tests.dummies import digest
from tests.graphs.conftest import Service
from tests.graphs.samples import error_of, picture, video

SAMPLES = {"picture": (picture(1), "a.png"), "video": (video(1), "a.mp4")}


@pytest.fixture(params=list(SAMPLES))
def sample(request: pytest.FixtureRequest) -> tuple[bytes, str]:
    return SAMPLES[request.param]


async def assert_whole(service: Service, data: bytes) -> None:
    """The asset of these bytes is there in every respect, and nothing else is."""
    asset_id = digest(data)
    assert [asset.asset_id for asset in await service.context.documents.list_assets()] == [asset_id]
    assert (await service.client.get(f"/media/{asset_id}/content")).content == data
    assert len((await service.post("extract-features", asset_id=asset_id))["features"]) == 384
    assert (await service.uploaded(data))["duplicate"] is True
    assert service.spooled == []


async def test_an_object_without_a_record(service: Service, sample: tuple[bytes, str]) -> None:
    data, name = sample
    await service.upload(data, name)
    await service.context.documents.delete_asset(digest(data))
    error_of(await service.client.get(f"/media/{digest(data)}"), 404, "ASSET_NOT_FOUND")
    assert (await service.uploaded(data, name))["duplicate"] is False
    await assert_whole(service, data)


async def test_a_record_in_the_middle_of_its_delete(
    service: Service, sample: tuple[bytes, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "DELETE_GRACE_S", 0.1)
    data, name = sample
    asset_id = await service.upload(data, name)
    await service.post("extract-features", asset_id=asset_id)
    await service.context.documents.mark_deleting(asset_id)
    error_of(await service.client.get(f"/media/{asset_id}"), 404, "ASSET_NOT_FOUND")
    error_of(await service.try_post("extract-features", asset_id=asset_id), 404, "ASSET_NOT_FOUND")
    assert (await service.uploaded(data, name))["duplicate"] is False
    await assert_whole(service, data)


async def test_a_record_whose_object_was_lost(service: Service, sample: tuple[bytes, str]) -> None:
    data, name = sample
    asset_id = await service.upload(data, name)
    for key in (asset_id, f"posters/{asset_id}"):
        await service.context.objects.delete(key)
    error_of(await service.client.get(f"/media/{asset_id}/content"), 404, "ASSET_NOT_FOUND")
    for route in ("extract-features", "preprocess-image"):
        error_of(await service.try_post(route, asset_id=asset_id), 404, "ASSET_NOT_FOUND")
    await service.uploaded(data, name)
    await assert_whole(service, data)


async def test_a_video_whose_poster_was_lost(service: Service) -> None:
    asset_id = await service.upload(video(1), "a.mp4")
    await service.context.objects.delete(f"posters/{asset_id}")
    error_of(await service.client.get(f"/media/{asset_id}/poster"), 404, "ASSET_NOT_FOUND")
    await service.uploaded(video(1), "a.mp4")
    assert (await service.client.get(f"/media/{asset_id}/poster")).status_code == 200
    await assert_whole(service, video(1))


async def test_features_computed_before_a_delete_are_searchable_after_a_new_upload(service: Service) -> None:
    query, other = await service.upload(picture(1)), await service.upload(picture(2))
    for asset_id in (query, other, other):  # the last one comes through the cache
        await service.post("extract-features", asset_id=asset_id)
    await service.delete(other)
    assert (await service.post("semantic-search", query_asset_id=query))["search_results"] == []
    await service.upload(picture(2))
    assert (await service.post("extract-features", asset_id=other))["cached"] is False
    found = await service.post("semantic-search", query_asset_id=query)
    assert [hit["asset_id"] for hit in found["search_results"]] == [other]


@pytest.mark.parametrize("which", ["put_file", "insert_asset"])
async def test_a_store_that_fails_once(service: Service, sample: tuple[bytes, str], which: str) -> None:
    data, name = sample
    store: Any = service.context.objects if which == "put_file" else service.context.documents
    write = getattr(store, which)

    async def full(*_: Any) -> None:
        setattr(store, which, write)
        raise StoreError(f"file store {service.context.settings.home}: No space left on device")

    setattr(store, which, full)
    error_of(await service.send(data, name), 503, "STORAGE_ERROR")
    assert await service.context.documents.list_assets() == []
    assert service.spooled == []
    assert (await service.uploaded(data, name))["duplicate"] is False
    await assert_whole(service, data)


async def test_a_store_that_copies_what_it_takes_leaves_nothing_in_the_spool(
    service: Service, sample: tuple[bytes, str], tmp_path: Path
) -> None:
    put = service.context.objects.put_file

    async def copy(key: str, path: Path, content_type: str) -> None:
        await put(key, Path(shutil.copy(path, tmp_path / "copy")), content_type)

    service.context.objects.put_file = copy  # type: ignore[method-assign]
    data, name = sample
    await service.upload(data, name)
    await assert_whole(service, data)


async def test_a_client_that_hangs_up(service: Service) -> None:
    started = asyncio.Event()

    async def body() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + picture(1)
        started.set()
        await asyncio.Event().wait()

    headers = {"content-type": "multipart/form-data; boundary=b"}
    sending = asyncio.create_task(service.client.post("/upload-media", content=body(), headers=headers))
    await started.wait()
    assert len(service.spooled) == 1
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert service.spooled == []
    await service.upload(picture(1))
    await assert_whole(service, picture(1))


async def test_uploads_and_deletes_of_the_same_bytes_at_once(service: Service) -> None:
    data = picture(1)
    asset_id = await service.upload(data)
    for _ in range(8):
        delete = service.client.delete
        tasks = [
            service.send(data),
            delete(f"/media/{asset_id}"),
            service.send(data),
            delete(f"/media/{asset_id}"),
        ]
        answers = await asyncio.gather(*tasks)
        for answer in answers[::2]:
            assert answer.status_code in (200, 503), answer.text
        for answer in answers[1::2]:
            assert answer.status_code in (200, 404), answer.text
        records = await service.context.documents.get_assets([asset_id])
        if asset_id in records:
            assert not records[asset_id].deleting
            assert await service.context.objects.head(asset_id) is not None
    await service.upload(data)
    await assert_whole(service, data)


async def test_an_upload_between_the_two_steps_of_a_delete(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "DELETE_GRACE_S", 0.1)
    asset_id = await service.upload(picture(1))
    store, marked, stored, removed = service.context, asyncio.Event(), asyncio.Event(), asyncio.Event()
    delete, put = store.objects.delete, store.objects.put_file

    async def late_delete(key: str) -> bool:
        store.objects.delete = delete  # type: ignore[method-assign]
        marked.set()
        await stored.wait()
        return await delete(key)

    async def telling_put(*args: Any) -> None:
        await put(*args)
        stored.set()
        await removed.wait()

    store.objects.delete, store.objects.put_file = late_delete, telling_put  # type: ignore[method-assign]
    deleting = asyncio.create_task(service.client.delete(f"/media/{asset_id}"))
    await marked.wait()
    uploading = asyncio.create_task(service.send(picture(1)))
    await deleting
    removed.set()
    answer = await uploading
    assert answer.status_code == 503
    assert "upload it again" in answer.json()["error"]["message"]
    assert await store.documents.get_assets([asset_id]) == {}
