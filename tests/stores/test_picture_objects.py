"""Objects of pictures, and what is in films by class: one contract, over every backend."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from stores.documents import Documents
from stores.mongo.people import MongoPeople
from stores.open import Stores
from stores.people import ObjectRecord, People, TraceBoxes
from stores.records import Asset, ClassCount
from stores.sqlite import documents as sqlite_documents
from stores.sqlite.people import tag_films
from stores.uploads import Upload
from tests.stores.mongodb import database
from tests.stores.samples import DETECTOR, MOMENT, asset_id, make_asset, make_faces, make_objects
from tests.stores.test_people import FILM, index, thing, trace, vector
from vision.objects.detection import DetectedObject
from vision.objects.tags import Tag


def asset(number: int, **changes: object) -> Asset:
    return replace(make_asset(number), **changes)  # type: ignore[arg-type]


async def insert(documents: Documents, count: int) -> None:
    for number in range(count):
        assert await documents.insert_asset(asset(number, uploaded_at=MOMENT + timedelta(seconds=number)), "ann")


def of(*numbers: int) -> set[str]:
    return {asset_id(number) for number in numbers}


async def test_objects_of_a_picture_come_back(documents: Documents) -> None:
    await insert(documents, 2)
    assert await documents.get_objects(of(0, 1)) == {}
    assert await documents.put_objects(make_objects(0, ("dog", 0.9), ("dog", 0.5), ("potted plant", 0.35)))
    assert await documents.put_objects(make_objects(1))
    stored = await documents.get_objects(of(0, 1, 2))
    assert stored.keys() == of(0, 1)
    first = stored[asset_id(0)]
    assert first.objects == (
        DetectedObject(0, 8, 30, 20.5, 0.9, "dog"),
        DetectedObject(4, 8, 30, 20.5, 0.5, "dog"),
        DetectedObject(8, 8, 30, 20.5, 0.35, "potted plant"),
    )
    assert first.tags == (Tag("dog", 0.9, 2), Tag("potted plant", 0.35, 1))
    assert (first.model_version, first.kind, first.width, first.height) == (DETECTOR, "image", 640, 480)
    assert first.created_at == MOMENT
    assert (stored[asset_id(1)].objects, stored[asset_id(1)].tags) == ((), ())
    assert await documents.picture_tags(of(0, 1, 2)) == {each: record.tags for each, record in stored.items()}


async def test_another_model_replaces_what_one_found(documents: Documents) -> None:
    await insert(documents, 1)
    assert await documents.put_objects(make_objects(0, ("dog", 0.9), ("car", 0.8)))
    assert await documents.put_objects(make_objects(0, ("car", 0.7), model="detr@2:0.3"))
    (stored,) = (await documents.get_objects(of(0))).values()
    assert (stored.model_version, stored.labels) == ("detr@2:0.3", ("car",))
    assert (await documents.pictures_with(["dog"]), await documents.pictures_with(["car"])) == (set(), of(0))
    assert await documents.delete_asset(asset_id(0)) == 2


async def test_objects_need_a_living_asset_and_go_with_it(documents: Documents) -> None:
    assert not await documents.put_objects(make_objects(0, ("dog", 0.9)))
    await insert(documents, 2)
    await documents.set_asset_error(asset_id(0), "broken")
    assert await documents.put_objects(make_objects(0, ("dog", 0.9)))
    assert (await documents.get_assets(of(0)))[asset_id(0)].error_message is None
    await documents.mark_deleting(asset_id(0))
    assert not await documents.put_objects(make_objects(0, ("car", 0.9)))
    assert (await documents.get_objects(of(0)))[asset_id(0)].labels == ("dog",)  # nothing was changed
    assert {each async for each in documents.owner_ids()} == of(0)
    assert await documents.delete_asset(asset_id(0)) == 2
    assert (await documents.get_objects(of(0)), await documents.pictures_with(["dog"])) == ({}, set())
    assert {each async for each in documents.owner_ids()} == set()


async def test_a_delete_leaves_no_objects_of_a_simultaneous_put(documents: Documents) -> None:
    await insert(documents, 8)
    puts = [documents.put_objects(make_objects(number, ("dog", 0.9))) for number in range(8)]
    deletes = [documents.delete_asset(asset_id(number)) for number in range(8)]
    await asyncio.gather(*[each for pair in zip(puts, deletes, strict=True) for each in pair])
    assert (await documents.get_objects(of(*range(8))), await documents.pictures_with(["dog"])) == ({}, set())


async def test_pictures_that_have_all_of_some_classes(documents: Documents) -> None:
    await insert(documents, 4)
    await documents.put_objects(make_objects(0, ("dog", 0.9), ("car", 0.4)))
    await documents.put_objects(make_objects(1, ("dog", 0.6), ("dog", 0.35)))
    await documents.put_objects(make_objects(2, ("car", 0.9)))
    await documents.put_objects(make_objects(3, ("dog", 0.9), kind="video"))  # a poster is not the film
    assert await documents.pictures_with(["dog"]) == of(0, 1)
    assert await documents.pictures_with(["dog"], 0.9) == of(0)
    assert await documents.pictures_with(["dog", "car"]) == of(0)
    assert await documents.pictures_with(["dog", "car"], 0.5) == set()
    assert await documents.picture_tags(of(3)) == {}
    assert await documents.pictures_with(["unicorn"]) == await documents.pictures_with([]) == set()


async def test_pictures_that_a_model_never_saw(documents: Documents) -> None:
    await insert(documents, 5)
    assert await documents.insert_asset(asset(7, kind="video"))
    await documents.put_objects(make_objects(0, ("dog", 0.9)))
    await documents.put_objects(make_objects(1, model="detr@2:0.3"))
    await documents.set_asset_error(asset_id(2), "broken")
    await documents.mark_deleting(asset_id(3))
    without = documents.without_objects
    assert {each.asset_id for each in await without(DETECTOR, 9)} == of(1, 4)
    assert len(await without(DETECTOR, 1)) == 1
    assert {each.asset_id for each in await without(DETECTOR, 9, MOMENT + timedelta(seconds=2))} == of(4)
    await documents.put_faces(make_faces(4, model="faces+1"))
    assert {each.asset_id for each in await documents.without_faces("faces+1", 9)} == of(0, 1)
    assert {each.asset_id for each in await documents.without_faces("faces+1", 9, MOMENT + timedelta(seconds=1))} == of(
        1
    )


@pytest.mark.parametrize("at_once", [2, 5000])
async def test_faces_come_in_rows_with_their_pictures(
    documents: Documents, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(f"{type(documents).__module__}.FACES_AT_ONCE", at_once)
    await insert(documents, 5)
    records = [make_faces(number, count=number % 3) for number in range(4)]
    for each in records:
        await documents.put_faces(each)
    await documents.put_faces(make_faces(4, model="another"))
    wanted = {(each.asset_id, row.tobytes()) for each in records for row in each.vectors}
    model = records[0].model_version
    read = [pair async for ids, rows in documents.face_vectors(model) for pair in zip(ids, rows, strict=True)]
    assert len(read) == 3
    assert {(each, row.tobytes()) for each, row in read} == wanted
    some = [each async for ids, _ in documents.face_vectors(model, of(2, 3)) for each in ids]
    assert some == [asset_id(2)] * 2


@pytest.mark.parametrize("few", [0, 2000])
async def test_the_newest_of_some_assets_come_in_pages(
    documents: Documents, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    name = "FEW_IDS" if sqlite_documents.__name__ == type(documents).__module__ else "IDS_PER_QUERY"
    monkeypatch.setattr(f"{type(documents).__module__}.{name}", few or 1)
    await insert(documents, 6)
    await documents.mark_deleting(asset_id(4))
    some = of(0, 2, 4, 5, 9)
    page = await documents.newest_assets(limit=2, among=some)
    assert [each.asset_id for each in page] == [asset_id(5), asset_id(2)]
    rest = await documents.newest_assets(before=(page[-1].uploaded_at, page[-1].asset_id), among=some)
    assert [each.asset_id for each in rest] == [asset_id(0)]
    assert await documents.newest_assets("video", among=some) == await documents.newest_assets(among=set()) == []


async def test_classes_are_counted_but_not_of_hidden_pictures(documents: Documents) -> None:
    await insert(documents, 4)
    await documents.put_objects(make_objects(0, ("dog", 0.9), ("dog", 0.5), ("car", 0.4)))
    await documents.put_objects(make_objects(1, ("dog", 0.6)))
    await documents.put_objects(make_objects(2))
    await documents.put_objects(make_objects(3, ("dog", 0.9), kind="video"))
    assert await documents.count_classes() == ([ClassCount("car", 1, 1), ClassCount("dog", 2, 3)], 3)
    assert await documents.count_classes(of(0, 9)) == ([ClassCount("dog", 1, 1)], 2)


async def test_what_a_client_does_not_see(documents: Documents) -> None:
    await insert(documents, 3)
    await documents.add_upload(asset_id(0), Upload("bob", "b.jpg", MOMENT))
    assert await documents.withdraw(asset_id(0), "ann", {"ann", "bob"}) == "withdrawn"
    await documents.mark_deleting(asset_id(2))
    assert await documents.hidden_from("ann") == of(0, 2)
    assert await documents.hidden_from("bob") == of(2)


OTHER = "b" * 32


def moved(each: tuple[ObjectRecord, TraceBoxes], film: str) -> tuple[ObjectRecord, TraceBoxes]:
    return replace(each[0], asset_id=film), each[1]


@pytest.fixture
def people(stores: Stores) -> People:
    return stores.people


async def test_films_are_tagged_by_their_objects(people: People) -> None:
    things = [thing(1), thing(2, "dog", 0.5), thing(3, "car", 0.9)]
    await people.put_index(replace(index(), objects=DETECTOR, object_count=3), [trace(1, "ada")], things)
    await people.put_index(replace(index(OTHER), objects=DETECTOR), [])
    tags = {FILM: (Tag("dog", 0.75, 1, 4.0), Tag("car", 0.9, 1, 2.0)), OTHER: ()}
    assert await people.film_tags([FILM, OTHER, "c" * 32]) == tags
    await people.put_index(index(OTHER), [])  # nobody looks for objects any more
    assert await people.film_tags([FILM, OTHER]) == {FILM: tags[FILM]}
    assert await people.put_objects(replace(index(), objects="detr@2:0.3", object_count=1), [thing(4, "car", 0.4)])
    assert await people.film_tags([FILM]) == {FILM: (Tag("car", 0.4, 1, 2.0),)}
    assert (await people.films_with(["dog"]), await people.films_with(["car"])) == (set(), {FILM})
    await people.delete_index(FILM)
    assert (await people.film_tags([FILM]), await people.films_with(["car"])) == ({}, set())


async def test_films_that_have_all_of_some_classes_and_people(people: People) -> None:
    await people.put_index(
        replace(index(), objects=DETECTOR), [trace(1, "ada"), trace(2, "bob")], [thing(1), thing(2, "car", 0.5)]
    )
    other = [moved(each, OTHER) for each in (thing(1, "dog", 0.4), thing(3, "person"), thing(4, "dog", 0.5))]
    await people.put_index(replace(index(OTHER), objects=DETECTOR), [trace(3, "ada", OTHER)], other)
    assert await people.films_with(["dog"]) == {FILM, OTHER}
    assert await people.films_with(["dog"], 0.6) == await people.films_with(["dog", "car"]) == {FILM}
    assert await people.films_with([]) == await people.films_with(["unicorn"]) == set()
    assert await people.films_of(["ada"]) == {FILM, OTHER}
    assert await people.films_of(["bob", "nobody"]) == {FILM}
    assert await people.films_of([]) == set()
    dogs = await people.objects_in([OTHER, FILM], ["dog", "car"])
    assert [(each.asset_id, each.track_id) for each in dogs] == [(FILM, 1), (FILM, 2), (OTHER, 1), (OTHER, 4)]
    assert [(each.asset_id, each.trace_id) for each in await people.traces_in([OTHER, FILM], ["ada"])] == [
        (FILM, 1),
        (OTHER, 3),
    ]
    (alone,) = await people.traces_in([FILM], ["bob"])
    np.testing.assert_array_equal(alone.vector, vector(2))
    counts = [ClassCount("car", 1, 1, 2.0), ClassCount("dog", 2, 3, 6.0), ClassCount("person", 1, 1, 2.0)]
    assert await people.count_classes() == (counts, 2)
    assert await people.count_classes([FILM]) == ([ClassCount("dog", 1, 2, 4.0), ClassCount("person", 1, 1, 2.0)], 1)


async def test_films_of_a_file_without_tags_get_them(tmp_path: Path) -> None:
    """A file of version 14 has tracks of objects, and no tags."""
    path = tmp_path / "documents.sqlite"
    stores = Stores(documents=f"sqlite:///{path}")
    overlapping = replace(thing(2)[0], first_time=5.0), thing(2)[1]
    await stores.people.put_index(replace(index(), objects=DETECTOR, object_count=2), [], [thing(1), overlapping])
    tags = await stores.people.film_tags([FILM])
    assert tags == {FILM: (Tag("dog", 0.75, 2, 3.0),)}
    await stores.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM film_tags")
        tag_films(connection)
    stores = Stores(documents=f"sqlite:///{path}")
    assert await stores.people.film_tags([FILM]) == tags
    assert await stores.people.films_with(["dog"]) == {FILM}
    await stores.close()


@pytest.fixture
def mongodb_url(mongodb_server: str) -> Iterator[str]:
    with database(mongodb_server) as name:
        yield name


async def test_films_of_a_database_without_tags_get_them(mongodb_url: str) -> None:
    """Also those whose objects a program of the version before has replaced, while both were running."""
    stores = Stores(documents=mongodb_url)
    await stores.people.put_index(replace(index(), objects=DETECTOR), [], [thing(1)])
    await stores.people.put_index(
        replace(index(OTHER), objects=DETECTOR), [], [moved(thing(1), OTHER), moved(thing(2, "car"), OTHER)]
    )
    assert isinstance(stores.people, MongoPeople)
    await stores.people._indexes.update_one({"_id": FILM}, {"$unset": {"tags": "", "tagged_generation": ""}})
    stale = {"tags": [], "tagged_generation": "of objects that were replaced"}
    await stores.people._indexes.update_one({"_id": OTHER}, {"$set": stale})
    await stores.close()
    stores = Stores(documents=mongodb_url)
    assert await stores.people.films_with(["dog"]) == {FILM, OTHER}
    assert await stores.people.film_tags([OTHER]) == {OTHER: (Tag("car", 0.75, 1, 2.0), Tag("dog", 0.75, 1, 2.0))}
    await stores.close()
