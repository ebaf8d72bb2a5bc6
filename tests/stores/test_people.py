"""Traces and identities: one contract, over every backend."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from stores.open import Stores
from stores.people import Identity, ObjectRecord, People, TraceBoxes, TraceRecord, VideoIndex

NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
FILM = "a" * 32


@pytest.fixture
def people(stores: Stores) -> People:
    return stores.people


def index(asset_id: str = FILM, traces: int = 3) -> VideoIndex:
    return VideoIndex(asset_id, "yunet@1 sface@2", 640, 360, 25.0, 500, 20.0, 2, (100, 250), traces, NOW)


def vector(seed: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    made = np.random.default_rng(seed).normal(size=128).astype(np.float32)
    return made / np.float32(np.linalg.norm(made))


def trace(trace_id: int, identity: str | None = None, asset_id: str = FILM) -> tuple[TraceRecord, TraceBoxes]:
    frames = np.arange(trace_id * 100, trace_id * 100 + 50)
    boxes = np.random.default_rng(trace_id).uniform(0, 300, (50, 4)).astype(np.float32)
    first, last = int(frames[0]), int(frames[-1])
    record = TraceRecord(asset_id, trace_id, first, last, first / 25, last / 25, 25, identity, vector(trace_id))
    return record, TraceBoxes(frames, boxes, np.linspace(0, 1, 50, dtype=np.float32), frames % 2 == 0)


def identity(number: int, name: str | None = None) -> Identity:
    return Identity(f"{number:08d}", name, "sface@2", vector(number), 12.5, ("b" * 32,), NOW)


def ids(traces: list[TraceRecord]) -> list[int]:
    return [trace.trace_id for trace in traces]


async def test_an_index_comes_back_as_it_was_stored(people: People) -> None:
    made = [trace(1), trace(2, "someone"), trace(3)]
    await people.put_index(index(), made)
    assert await people.get_index(FILM) == index()
    assert ids(await people.list_traces(FILM)) == [1, 2, 3]
    stored = await people.get_trace(FILM, 2)
    assert stored is not None
    record, boxes = stored
    assert (record.first_frame, record.last_frame, record.first_time, record.face_count) == (200, 249, 8.0, 25)
    assert record.identity_uuid == "someone"
    np.testing.assert_array_equal(record.vector, made[1][0].vector)
    for name in ("frames", "boxes", "confidences", "detected"):
        np.testing.assert_array_equal(getattr(boxes, name), getattr(made[1][1], name))


async def test_what_is_not_there(people: People) -> None:
    assert await people.get_index(FILM) is None
    assert await people.list_traces(FILM) == []
    assert await people.get_trace(FILM, 1) is None
    assert await people.delete_index(FILM) == 0
    assert await people.get_identities(["nobody"]) == {}
    assert await people.delete_identity("nobody") is False


async def test_a_new_index_replaces_the_old_one(people: People) -> None:
    await people.put_index(index(), [trace(1), trace(2), trace(3)])
    await people.put_index(index(traces=1), [trace(7)])
    assert ids(await people.list_traces(FILM)) == [7]
    assert await people.get_trace(FILM, 1) is None
    assert (await people.get_index(FILM)) == index(traces=1)


async def test_videos_do_not_mix(people: People) -> None:
    other = "b" * 32
    await people.put_index(index(), [trace(1)])
    await people.put_index(index(other), [trace(1, asset_id=other), trace(2, asset_id=other)])
    assert await people.delete_index(FILM) > 1
    assert await people.list_traces(FILM) == []
    assert ids(await people.list_traces(other)) == [1, 2]


async def test_traces_come_in_pages_and_by_identity(people: People) -> None:
    await people.put_index(index(), [trace(n, "x" if n % 2 else None) for n in range(6)])
    assert ids(await people.list_traces(FILM, limit=2)) == [0, 1]
    assert ids(await people.list_traces(FILM, after=1, limit=2)) == [2, 3]
    assert ids(await people.list_traces(FILM, identity_uuid="x")) == [1, 3, 5]
    await people.set_identities(FILM, {0: "x", 1: None})
    assert ids(await people.list_traces(FILM, identity_uuid="x")) == [0, 3, 5]


async def test_identities_are_stored_renamed_and_paged(people: People) -> None:
    for number in (3, 1, 2):
        await people.put_identity(identity(number))
    await people.put_identity(replace(identity(2), name="Ada"))
    listed = await people.list_identities()
    assert [(each.identity_uuid, each.name) for each in listed] == [
        ("00000001", None),
        ("00000002", "Ada"),
        ("00000003", None),
    ]
    stored = (await people.get_identities(["00000002", "nobody"]))["00000002"]
    assert (stored.models, stored.weight, stored.references, stored.created_at) == ("sface@2", 12.5, ("b" * 32,), NOW)
    np.testing.assert_array_equal(stored.vector, vector(2))
    assert [x.identity_uuid for x in await people.list_identities(after="00000001", limit=1)] == ["00000002"]


async def test_merging_moves_every_trace(people: People) -> None:
    other = "b" * 32
    a, b = identity(1, "Ada"), identity(2)
    await people.put_identity(a)
    await people.put_identity(b)
    await people.put_index(index(), [trace(1, a.identity_uuid), trace(2, b.identity_uuid)])
    await people.put_index(index(other), [trace(5, b.identity_uuid, other)])
    await people.merge_identities(replace(a, weight=99.0), b.identity_uuid)
    assert ids(await people.list_traces(FILM, identity_uuid=a.identity_uuid)) == [1, 2]
    assert ids(await people.list_traces(other, identity_uuid=a.identity_uuid)) == [5]
    assert [(x.identity_uuid, x.weight) for x in await people.list_identities()] == [(a.identity_uuid, 99.0)]


async def test_a_deleted_identity_leaves_its_traces(people: People) -> None:
    await people.put_identity(identity(1))
    await people.put_index(index(), [trace(1, "00000001")])
    assert await people.delete_identity("00000001") is True
    (left,) = await people.list_traces(FILM)
    assert left.identity_uuid is None
    assert await people.list_identities() == []


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/documents.sqlite"
    first = Stores(documents=url)
    await first.people.put_index(index(), [trace(1)])
    await first.close()
    again = Stores(documents=url)
    assert ids(await again.people.list_traces(FILM)) == [1]
    await again.close()


async def test_appearances_come_from_all_videos_in_pages(people: People) -> None:
    other = "f" * 32
    await people.put_index(index(), [trace(1, "ada"), trace(2), trace(3, "ada")])
    await people.put_index(replace(index(), asset_id=other), [trace(7, "ada", other), trace(9, "bob", other)])
    places = [(each.asset_id, each.trace_id) for each in await people.list_appearances("ada")]
    assert places == [(FILM, 1), (FILM, 3), (other, 7)]
    second = await people.list_appearances("ada", after=(FILM, 1), limit=1)
    assert [(each.asset_id, each.trace_id) for each in second] == [(FILM, 3)]
    assert await people.list_appearances("ada", after=(other, 7)) == []
    longer = replace(trace(3, "ada")[0], face_count=40)
    await people.put_index(index(), [trace(1, "ada"), (longer, trace(3)[1])])
    assert await people.longest_traces(["ada", "bob", "nobody"]) == {"ada": (FILM, 3), "bob": (other, 9)}
    assert await people.longest_traces([]) == {}


async def test_a_split_moves_traces_and_keeps_whom_they_are_not(people: People) -> None:
    await people.put_identity(identity(1, "Ada"))
    await people.put_index(
        index(), [trace(1, identity(1).identity_uuid), trace(2, identity(1).identity_uuid), trace(3)]
    )
    rejected = np.stack([vector(2), vector(5)])
    await people.split_identity(replace(identity(1), rejected=rejected), identity(2), [(FILM, 2), (FILM, 3)])
    owners = {each.trace_id: each.identity_uuid for each in await people.list_traces(FILM)}
    assert owners == {1: identity(1).identity_uuid, 2: identity(2).identity_uuid, 3: None}  # 3 was not Ada's to give
    stored = await people.get_identities([identity(1).identity_uuid, identity(2).identity_uuid])
    np.testing.assert_array_equal(stored[identity(1).identity_uuid].rejected, rejected)
    assert stored[identity(2).identity_uuid].rejected.shape == (0, len(vector(1)))


async def test_old_indexes_come_in_pages(people: People) -> None:
    films = [letter * 32 for letter in "abcd"]
    for film, seconds in zip(films, (0, 1, 0, 0), strict=True):
        await people.put_index(replace(index(film, 0), indexed_at=NOW + timedelta(seconds=seconds)), [])
    a, b, c, d = films
    assert await people.old_indexes(NOW) == []
    assert await people.old_indexes(NOW + timedelta(microseconds=1), limit=2) == [a, c]
    assert await people.old_indexes(NOW + timedelta(microseconds=1), c) == [d]
    assert await people.old_indexes(NOW + timedelta(seconds=2)) == [a, b, c, d]


def thing(track_id: int, label: str = "dog", confidence: float = 0.75) -> tuple[ObjectRecord, TraceBoxes]:
    _, boxes = trace(track_id)
    first, last = int(boxes.frames[0]), int(boxes.frames[-1])
    face = 1 if label == "person" else None
    return ObjectRecord(FILM, track_id, label, first, last, first / 25, last / 25, 25, confidence, 2.0, face), boxes


def numbers(things: list[ObjectRecord]) -> list[int]:
    return [each.track_id for each in things]


async def test_objects_come_back_as_they_were_stored(people: People) -> None:
    made = [thing(1), thing(2, "car", 0.5), thing(3, "person")]
    stored = replace(index(), objects="detr@1", object_count=3)
    await people.put_index(stored, [trace(1)], made)
    assert await people.get_index(FILM) == stored
    assert await people.list_objects(FILM) == [record for record, _ in made]
    assert numbers(await people.list_objects(FILM, after=1, limit=1)) == [2]
    assert numbers(await people.list_objects(FILM, labels=["dog", "person"])) == [1, 3]
    assert numbers(await people.list_objects(FILM, labels=["dog", "car"], least=0.6)) == [1]
    assert await people.count_objects(FILM) == {"car": 1, "dog": 1, "person": 1}
    found = await people.get_object(FILM, 3)
    assert found is not None
    assert found[0] == made[2][0]
    for name in ("frames", "boxes", "confidences", "detected"):
        np.testing.assert_array_equal(getattr(found[1], name), getattr(made[2][1], name))
    assert await people.get_object(FILM, 4) is None
    assert await people.delete_index(FILM) == 1 + 1 + 3
    assert await people.list_objects(FILM) == []


async def test_objects_are_replaced_alone_or_with_the_index(people: People) -> None:
    await people.put_index(index(), [trace(1)])
    assert await people.list_objects(FILM) == []
    completed = replace(index(), objects="detr@1", object_count=1)
    assert await people.put_objects(completed, [thing(5)])
    assert await people.get_index(FILM) == completed
    assert ids(await people.list_traces(FILM)) == [1]
    assert numbers(await people.list_objects(FILM)) == [5]
    # Another index has come meanwhile, or none is there.
    late = replace(completed, indexed_at=NOW - timedelta(seconds=1))
    assert not await people.put_objects(late, [thing(6)])
    assert not await people.put_objects(replace(completed, asset_id="e" * 32), [])
    assert numbers(await people.list_objects(FILM)) == [5]
    await people.put_index(index(), [trace(2)])
    assert (await people.list_objects(FILM), await people.count_objects(FILM)) == ([], {})
