"""Deleting assets and repairing stores, over real folders and both databases."""

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stores.analyses import Analysis
from stores.audit import new_entry
from stores.deletion import Removed, delete_asset
from stores.mentions import mentions
from stores.mongo.documents import MongoDocuments
from stores.open import Stores
from stores.partial_uploads import PartialUpload
from stores.people import Identity, TraceBoxes, TraceRecord, VideoIndex
from stores.repair import Repaired, repair
from stores.shots import ShotAnalysis, ShotFilter
from stores.uploads import Upload
from tests.stores.samples import (
    MODEL,
    MOMENT,
    asset_id,
    make_asset,
    make_faces,
    make_features,
    make_objects,
    unit_vector,
    write_file,
)
from tests.stores.test_animals import animal
from tests.stores.test_shots import shot

HOUR_S = 3600
Put = Callable[..., Awaitable[None]]


@pytest.fixture
def put(stores: Stores, tmp_path: Path) -> Put:
    """Stores a small object under a key, as if that had been some seconds ago."""

    async def store(key: str, age_s: float = 2 * HOUR_S) -> None:
        await stores.objects.put_file(key, write_file(tmp_path, b"bytes"), "image/jpeg")
        then = time.time() - age_s
        for path in (tmp_path / "objects").glob(f"*/{key.replace('/', ',')}"):
            os.utime(path, (then, then))

    return store


async def keys_of(stores: Stores) -> list[str]:
    return [info.key async for info in stores.objects.list()]


OLD_MODEL = "dinov2/1"


async def fill(stores: Stores, put: Put, number: int) -> str:
    """Store an asset with everything that can be derived from one."""
    owner = asset_id(number)
    await stores.documents.insert_asset(replace(make_asset(number), kind="video"))
    derived = (f"posters/{owner}", f"parts/{owner}/1f", f"parts/{owner}/2f", f"{owner}/shots/a.jpg")
    keys = (owner, *derived, f"{owner}/index/job/1.npz", f"{owner}/faces/1-0.jpg")
    for key in keys:
        await put(key, age_s=0)
    await derive(stores, number)
    return owner


async def derive(stores: Stores, number: int) -> None:
    """Store what indexing and feature extraction make of an asset in databases."""
    owner = asset_id(number)
    await stores.jobs.submit("index-video", owner, f"{number}", {})
    index = VideoIndex(owner, "faces@1", 640, 480, 25.0, 50, 2.0, 1, (), 1, MOMENT)
    trace = TraceRecord(owner, 0, 0, 9, 0.0, 0.4, 10, None, unit_vector(number))
    boxes = TraceBoxes(np.arange(2), np.ones((2, 4), np.float32), np.ones(2, np.float32), np.ones(2, np.bool_))
    await stores.people.put_index(index, [(trace, boxes)])
    await stores.shots.put_analysis(ShotAnalysis(owner, "cuts@1", MOMENT, (shot(0, owner), shot(1, owner))))
    await stores.shots.put_shots([shot(0, owner)])
    await stores.documents.put_faces(make_faces(number))
    await stores.documents.put_objects(make_objects(number, ("dog", 0.9)))
    for model in (MODEL, OLD_MODEL):
        features = make_features(number, model=model, kind="video")
        await stores.documents.put_features(features)
        await stores.vectors.add([features])


async def left_of(stores: Stores, owner: str) -> dict[str, Any]:
    """What any store still has of an asset."""
    left = {
        "record": await stores.documents.get_assets([owner]),
        "features": await stores.documents.get_features(MODEL, [owner]),
        "old features": await stores.documents.get_features(OLD_MODEL, [owner]),
        "faces": await stores.documents.get_faces(MODEL, [owner]),
        "picture objects": await stores.documents.get_objects([owner]),
        "pictures with": owner in await stores.documents.pictures_with(["dog"]),
        "jobs": list(await stores.jobs.list(subject=owner)),
        "index": await stores.people.get_index(owner),
        "traces": await stores.people.list_traces(owner),
        "analysis": await stores.shots.get_analysis(owner),
        "shots": await stores.shots.list_shots(ShotFilter(video_asset_id=owner)),
        "objects": [key for key in await keys_of(stores) if owner in key],
        "vectors": [each async for each in stores.vectors.ids() if each == owner],
        "owners": [
            each
            for store in (stores.documents, stores.people, stores.shots)
            async for each in store.owner_ids()
            if each == owner
        ],
    }
    return {name: value for name, value in left.items() if value}


async def test_a_delete_takes_all_that_is_derived_from_the_asset(stores: Stores, put: Put) -> None:
    owner, other = await fill(stores, put, 1), await fill(stores, put, 2)
    before = await left_of(stores, other)
    assert len(before) == 14
    await stores.documents.mark_deleting(owner)
    assert await delete_asset(stores, owner)
    assert set(await left_of(stores, owner)) == {"vectors"}  # the index follows: the gateway tells it
    assert set(await left_of(stores, other)) == set(before)
    assert not await delete_asset(stores, owner)


async def test_a_delete_that_was_cut_short_is_finished_with_all_that_is_derived(stores: Stores, put: Put) -> None:
    owner, other = await fill(stores, put, 1), await fill(stores, put, 2)
    await stores.documents.mark_deleting(owner)
    before = await left_of(stores, other)
    done = await repair(stores)
    assert (done.finished, done.orphans, done.removed, done.vectors) == ([owner], [], [], [owner])
    assert await left_of(stores, owner) == {}
    assert set(await left_of(stores, other)) == set(before)
    assert await repair(stores) == Repaired()


async def test_an_asset_that_was_not_given_up_is_not_deleted(stores: Stores, put: Put) -> None:
    """A delete that is late finds that the same bytes were uploaded again."""
    owner = await fill(stores, put, 1)
    assert not await delete_asset(stores, owner)
    assert {owner, f"posters/{owner}"} <= set(await keys_of(stores))
    assert set(await stores.documents.get_assets([owner])) == {owner}


async def test_a_crash_after_the_last_of_several_uploads_was_withdrawn(stores: Stores, put: Put) -> None:
    owners = ["one", "two"]
    for number in (1, 2):
        await fill(stores, put, number)
        for who in owners:
            assert await stores.documents.add_upload(asset_id(number), Upload(who, "a.jpg", MOMENT))
    assert await stores.documents.withdraw(asset_id(1), "one", owners) == "withdrawn"
    assert await repair(stores) == Repaired()
    assert await stores.documents.withdraw(asset_id(1), "two", owners) == "last"
    done = await repair(stores)
    assert (done.finished, done.orphans, done.removed) == ([asset_id(1)], [], [])
    assert await left_of(stores, asset_id(1)) == {}
    assert len(await left_of(stores, asset_id(2))) == 14
    assert await repair(stores) == Repaired()


async def test_what_is_derived_from_an_asset_without_a_record_is_removed(stores: Stores, put: Put) -> None:
    owner, other = await fill(stores, put, 1), await fill(stores, put, 2)
    await stores.documents.mark_deleting(owner)
    assert await delete_asset(stores, owner)
    await derive(stores, 1)  # by a job that did not know
    if isinstance(stores.documents, MongoDocuments):  # as by a put whose process died before it could take it back
        await stores.documents._faces.insert_one({"_id": f"{owner}/{MODEL}", "asset_id": owner})
    late = f"{owner}/faces/2-0.jpg"
    await put(late)
    before = await left_of(stores, other)
    done = await repair(stores)
    assert (done.finished, done.orphans, set(done.vectors)) == ([], [owner], {owner})
    assert await left_of(stores, owner) == {}
    assert set(await left_of(stores, other)) == set(before)
    assert await repair(stores) == Repaired()


async def test_animals_keep_their_vectors(stores: Stores) -> None:
    enrolled, gone = animal(1), animal(2)
    for each in (enrolled, gone):
        await stores.animals.insert(each)
    await stores.vectors.add(await stores.animals.unindexed_features("muzzle@1", 9))
    await stores.animals.delete(gone.key)
    assert (await repair(stores)).vectors == [gone.key]
    assert [each async for each in stores.vectors.ids()] == [enrolled.key]


async def test_whole_assets_are_left_as_they_are(stores: Stores, put: Put) -> None:
    for number in range(3):
        await put(asset_id(number))
        await stores.documents.insert_asset(make_asset(number))
    await put(f"posters/{asset_id(0)}")
    before = await keys_of(stores)
    assert await repair(stores) == Repaired()
    assert await keys_of(stores) == before


async def test_half_done_deletes_are_finished(stores: Stores, put: Put) -> None:
    for number, keys in enumerate([[asset_id(0), f"posters/{asset_id(0)}"], [f"posters/{asset_id(1)}"], []]):
        await stores.documents.insert_asset(make_asset(number))
        await stores.documents.put_features(make_features(number))
        await stores.documents.mark_deleting(asset_id(number))
        for key in keys:
            await put(key, age_s=0)
    done = await repair(stores)
    assert sorted(done.finished) == sorted(map(asset_id, range(3)))
    assert (done.removed, done.without_bytes) == ([], [])
    assert await keys_of(stores) == []
    assert await stores.documents.list_assets() == []


async def test_old_bytes_without_a_record_are_removed_and_young_ones_left(stores: Stores, put: Put) -> None:
    derived = f"{asset_id(1)}/shots/a.jpg"
    await put(asset_id(1))
    await put(f"posters/{asset_id(1)}")
    await put(derived)
    await put(asset_id(2), age_s=HOUR_S / 2)
    done = await repair(stores)
    assert sorted(done.removed) == sorted([asset_id(1), f"posters/{asset_id(1)}", derived])
    assert done.young == 1
    assert await keys_of(stores) == [asset_id(2)]
    assert (await repair(stores, timedelta(minutes=20))).removed == [asset_id(2)]


async def test_objects_of_others_are_never_touched(stores: Stores, put: Put) -> None:
    others = sorted(["clips/7", "readme", f"faces/{asset_id(1)}", asset_id(1)[:31], asset_id(1).upper() + "x"])
    for key in others:
        await put(key)
    assert await repair(stores) == Repaired()
    assert sorted(await keys_of(stores)) == others


async def test_records_without_bytes_are_reported_and_kept(stores: Stores, put: Put) -> None:
    for number in range(1200):  # more than a page
        await stores.documents.insert_asset(make_asset(number))
    for number in range(0, 1200, 100):
        await put(asset_id(number))
    done = await repair(stores)
    missing = {asset_id(number) for number in range(1200) if number % 100}
    assert {asset.asset_id for asset in done.without_bytes} == missing
    assert (done.finished, done.removed, done.young) == ([], [], 0)
    assert len(await stores.documents.get_assets(missing)) == len(missing)


class Racing:
    """A document store that hides one record at first, as if its upload ended during the repair."""

    def __init__(self, documents: Any, late: str) -> None:
        self._documents, self._late, self._asked = documents, late, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._documents, name)

    async def get_assets(self, asset_ids: Any) -> Any:
        self._asked += 1
        left = await self._documents.get_assets(asset_ids)
        return {key: asset for key, asset in left.items() if key != self._late or self._asked > 1}


async def test_a_record_that_comes_during_the_repair_keeps_its_bytes(stores: Stores, put: Put) -> None:
    await put(asset_id(1))
    await stores.documents.insert_asset(make_asset(1))
    stores.documents = Racing(stores.documents, asset_id(1))  # type: ignore[assignment]
    done = await repair(stores)
    assert done == Repaired()
    assert await keys_of(stores) == [asset_id(1)]


async def test_a_delete_says_what_it_removed_and_nothing_is_left(stores: Stores, put: Put) -> None:
    gone, kept = await fill(stores, put, 1), await fill(stores, put, 2)
    photo = Identity("who", "Ann", "faces@1", unit_vector(1), 2.0, (gone, kept), MOMENT)
    await stores.people.put_identity(photo)
    await stores.partial_uploads.insert(PartialUpload("u" * 32, "me", 9, "", "", MOMENT, MOMENT, 9, asset_id=gone))
    before = await mentions(stores, gone)
    assert before["objects"] == 7
    assert before["vectors"] == 2
    assert {"documents: assets", "documents: jobs", "documents: traces", "documents: picture_objects"} <= set(before)
    await stores.documents.mark_deleting(gone)
    removed = Removed()
    assert await delete_asset(stores, gone, removed)
    removed.vectors += await stores.vectors.remove_all([gone])
    # A record, two features, faces, objects; an index and a trace; an analysis of two shots and one of the library; a
    # name of a photo; an upload in parts.
    assert removed.counts() == {"objects": 7, "documents": 13, "jobs": 1, "vectors": 2, "cache": 0}
    await stores.audit.append(new_entry(MOMENT, "", "operator", "DELETE", gone, "200"))
    assert await mentions(stores, gone) == {"documents: audit": 1}
    assert (await stores.people.get_identities(["who"]))["who"].references == (kept,)
    assert (await mentions(stores, kept))["documents: identities"] == 1
    assert await left_of(stores, gone) == {}


async def test_an_id_is_found_wherever_it_hides(stores: Stores, put: Put) -> None:
    hidden = asset_id(77)
    await stores.jobs.submit("index", "other", "f", {"deep": [{"list": [f"of {hidden}"]}]})
    await put(f"elsewhere/{hidden}.bin")
    await stores.analyses.put(Analysis("a" * 32, f'{{"file": "{hidden}"}}', b"\x00" + hidden.encode(), MOMENT, MOMENT))
    assert await mentions(stores, hidden) == {"documents: jobs": 1, "documents: analyses": 1, "objects": 1}
    with pytest.raises(ValueError, match="four characters"):
        await mentions(stores, "abc")
