"""Uploads in parts: one contract, over every backend."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stores.open import Stores
from stores.partial_uploads import Part, PartialUpload, PartialUploads, Usage, discard, parts
from stores.repair import repair

NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
LATER = NOW + timedelta(seconds=60)
KEPT = NOW + timedelta(days=1)


@pytest.fixture
def uploads(stores: Stores) -> PartialUploads:
    return stores.partial_uploads


def upload(number: int, **values: object) -> PartialUpload:
    made = PartialUpload(f"{number:032x}", "somebody", 100, "filename YQ==", "label", NOW, KEPT)
    return replace(made, **values)  # type: ignore[arg-type]


async def test_an_upload_comes_back_as_it_was(uploads: PartialUploads) -> None:
    for given in (
        upload(1),
        upload(2, offset=7, parts=(Part("a", 3), Part("b", 4)), holder="x", held_until=LATER, asset_id="id"),
    ):
        await uploads.insert(given)
        assert await uploads.get(given.upload_id) == given
    assert await uploads.get("unknown") is None


async def test_only_the_holder_adds_parts_and_only_at_the_end(uploads: PartialUploads) -> None:
    one = upload(1)
    await uploads.insert(one)
    assert not await uploads.append(one.upload_id, "a", 0, Part("k", 5), KEPT)
    assert await uploads.hold(one.upload_id, "a", NOW, LATER)
    assert not await uploads.hold(one.upload_id, "b", NOW, LATER)
    assert await uploads.append(one.upload_id, "a", 0, Part("k1", 5), KEPT)
    assert not await uploads.append(one.upload_id, "a", 0, Part("k2", 5), KEPT)
    assert await uploads.hold(one.upload_id, "b", NOW, LATER, force=True)
    assert not await uploads.append(one.upload_id, "a", 5, Part("k3", 5), KEPT)
    assert not await uploads.renew(one.upload_id, "a", LATER)
    assert await uploads.append(one.upload_id, "b", 5, Part("k4", 6), KEPT + timedelta(days=1))
    await uploads.release(one.upload_id, "a")
    stored = await uploads.get(one.upload_id)
    assert stored == replace(
        one,
        offset=11,
        parts=(Part("k1", 5), Part("k4", 6)),
        expires_at=KEPT + timedelta(days=1),
        holder="b",
        held_until=LATER,
    )
    assert stored.is_held(NOW)
    assert not stored.is_held(LATER)
    assert await uploads.hold(one.upload_id, "c", LATER, LATER + timedelta(seconds=1))
    await uploads.release(one.upload_id, "c")
    assert not await uploads.finish(one.upload_id, "c", "asset")
    assert await uploads.hold(one.upload_id, "d", NOW, LATER)
    assert await uploads.finish(one.upload_id, "d", "asset")
    stored = await uploads.get(one.upload_id)
    assert stored is not None
    assert (stored.asset_id, stored.parts, stored.offset) == ("asset", (), 11)
    assert not await uploads.hold("unknown", "a", NOW, LATER, force=True)


async def test_of_many_who_add_at_one_place_one_does(uploads: PartialUploads) -> None:
    one = upload(1)
    await uploads.insert(one)
    assert await uploads.hold(one.upload_id, "a", NOW, LATER)
    added = await asyncio.gather(
        *(uploads.append(one.upload_id, "a", 0, Part(f"k{n}", n + 1), KEPT) for n in range(10))
    )
    stored = await uploads.get(one.upload_id)
    assert stored is not None
    assert sum(added) == len(stored.parts) == 1
    assert stored.offset == added.index(True) + 1


async def test_what_a_client_has_open(uploads: PartialUploads) -> None:
    assert await uploads.usage("somebody", NOW) == Usage(0, 0)
    for each in (upload(1), upload(2, length=2**40), upload(3, asset_id="done"), upload(4, owner="another")):
        await uploads.insert(each)
    assert await uploads.usage("somebody", NOW) == Usage(2, 2**40 + 100)
    assert await uploads.usage("somebody", KEPT + timedelta(seconds=1)) == Usage(0, 0)


async def test_what_expired_and_what_belongs_to_nothing_is_repaired(stores: Stores, tmp_path: Path) -> None:
    uploads, objects = stores.partial_uploads, stores.objects
    future = datetime.now(UTC) + timedelta(days=1)
    for number, expires_at in ((1, NOW), (2, future)):
        await uploads.insert(upload(number, expires_at=expires_at))
    assert await uploads.expired(KEPT, 10) == [upload(1).upload_id]
    for number in (1, 2, 3):
        path = tmp_path / f"part{number}"
        path.write_bytes(b"bytes")
        await objects.put_file(f"{parts(upload(number).upload_id)}0-a", path, "application/octet-stream")
    done = await repair(stores, timedelta(0))
    assert [info.key async for info in objects.list()] == [f"{parts(upload(2).upload_id)}0-a"]
    assert done.removed == [f"{parts(upload(3).upload_id)}0-a"]
    assert await uploads.get(upload(1).upload_id) is None
    assert await discard(uploads, objects, upload(2).upload_id)
    assert not await discard(uploads, objects, upload(2).upload_id)
    assert [info.key async for info in objects.list()] == []
