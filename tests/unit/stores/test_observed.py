"""What is told of the calls of a store."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stores.errors import StoreError, StoreFull
from stores.file.objects import FileObjects
from stores.objects import ObjectNotFound
from stores.observed import observed
from stores.open import Stores


class Store:
    """Does what stores do, slowly."""

    type = "slow"

    async def find(self, key: str, *, again: bool = False) -> str:
        await asyncio.sleep(0.02)
        return f"{key} {again}"

    async def fail(self) -> None:
        raise StoreFull("no room")

    async def miss(self) -> None:
        raise ObjectNotFound("x")

    def read(self) -> bytes:
        time.sleep(0.02)
        return b"read"

    def refuse(self) -> None:
        raise StoreError("away")

    async def rows(self, until: int) -> AsyncIterator[int]:
        await asyncio.sleep(0.02)
        for number in range(until):
            if number == 3:
                raise StoreError("away in the middle")
            yield number


Told = list[tuple[str, str, float, str | None]]


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def store(told: Told) -> Store:
    return observed("slow", Store(), lambda *call: told.append(call))


async def test_a_call_is_told_with_its_time(store: Store, told: Told) -> None:
    assert await store.find("a") == "a False"
    assert await store.find("b", again=True) == "b True"
    assert store.read() == b"read"
    assert [(name, operation, error) for name, operation, _, error in told] == [
        ("slow", "find", None),
        ("slow", "find", None),
        ("slow", "read", None),
    ]
    assert all(0.019 < seconds < 5 for _, _, seconds, _ in told)
    assert store.type == "slow"
    assert isinstance(store, Store)


async def test_what_a_store_fails_is_told_and_what_is_not_there_is_no_failure(store: Store, told: Told) -> None:
    with pytest.raises(StoreFull):
        await store.fail()
    with pytest.raises(StoreError):
        store.refuse()
    with pytest.raises(ObjectNotFound):
        await store.miss()
    assert [(operation, error) for _, operation, _, error in told] == [
        ("fail", "StoreFull"),
        ("refuse", "StoreError"),
        ("miss", None),
    ]


async def test_a_stream_is_told_when_it_begins_and_when_it_breaks(store: Store, told: Told) -> None:
    assert [row async for row in store.rows(2)] == [0, 1]
    assert [row async for row in store.rows(0)] == []
    with pytest.raises(StoreError):
        _ = [row async for row in store.rows(9)]
    assert [(operation, error) for _, operation, _, error in told] == [
        ("rows", None),
        ("rows", None),
        ("rows", None),
        ("rows", "StoreError"),
    ]


async def test_a_call_that_is_cancelled_is_no_failure(store: Store, told: Told) -> None:
    call = asyncio.create_task(store.find("a"))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [(operation, error) for _, operation, _, error in told] == [("find", None)]


async def test_the_stores_of_a_process_tell_of_all_their_calls(tmp_path: Path, told: Told) -> None:
    stores = Stores(
        objects=f"file://{tmp_path}/objects",
        documents=f"sqlite:///{tmp_path}/documents.sqlite",
        report=lambda *call: told.append(call),
    )
    assert isinstance(stores.objects, FileObjects)
    assert await stores.objects.head("a") is None
    assert await stores.jobs.count() == []
    assert await stores.keys.get_all() == []
    assert await stores.cache.ping()
    await stores.close()
    assert [(store, operation) for store, operation, _, _ in told] == [
        ("objects", "head"),
        ("jobs", "count"),
        ("keys", "get_all"),
    ]
