"""Stores that hang, refuse, break off or answer with errors: a bounded wait, a StoreError, and no restart later."""

import asyncio
import logging
import os
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from stores.cache import Cache
from stores.errors import StoreError, StoreFull, StoreRefused
from stores.mongo import engine as mongo_engine
from stores.open import Stores
from stores.s3 import location, objects
from stores.s3.objects import S3Objects
from stores.sqlite import engine as sqlite_engine
from stores.valkey import ValkeyServer
from tests.stores.mongodb import database
from tests.stores.samples import asset_id, make_asset, write_file
from tests.stores.wire import Fault, Wire, wire
from tests.waiting import PATIENCE_S

DATA = bytes(range(256)) * 12_000
WORKERS = 16


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of time are a tenth of what they are."""
    monkeypatch.setattr(location, "CONNECT_TIMEOUT_S", 1.0)
    monkeypatch.setattr(location, "READ_TIMEOUT_S", 1.5)
    monkeypatch.setattr(objects, "ANSWER_S", 3.0)
    timeouts = {"serverSelectionTimeoutMS": 500, "connectTimeoutMS": 500, "timeoutMS": 1000}
    monkeypatch.setattr(mongo_engine, "TIMEOUTS_MS", timeouts)


@pytest.fixture
def s3_wire(s3_endpoint: str, short: None) -> Iterator[Wire]:
    with wire(urlsplit(s3_endpoint).port or 0) as made:
        yield made


def through(carrier: Wire, s3_url: str) -> str:
    """The URL of a bucket behind a wire."""
    return s3_url.replace(f":{s3_url.split(':')[3].split('&')[0]}", f":{carrier.port}")


@pytest.fixture
async def bucket(s3_wire: Wire, s3_url: str, tmp_path: Path) -> AsyncIterator[S3Objects]:
    made = S3Objects(through(s3_wire, s3_url))
    await eventually(lambda: made.put_file("key", write_file(tmp_path, DATA, "data"), "image/png"))
    yield made
    s3_wire.set("none")
    await made.close()


@pytest.mark.parametrize("fault", ["refuse", "hang", "reset", "trickle"])
async def test_a_bucket_that_fails_is_given_up_in_time_and_heals(
    bucket: S3Objects, s3_wire: Wire, tmp_path: Path, fault: Fault
) -> None:
    s3_wire.set(fault, after=100_000)
    started = time.monotonic()
    gets = [bucket.get("key") for _ in range(40)]
    results = await asyncio.gather(*gets, bucket.head("key"), return_exceptions=True)
    assert time.monotonic() - started < 40
    failed = [each for each in results if isinstance(each, StoreError)]
    assert len(failed) >= len(results) - 1  # of a body that breaks in the middle the head may have come
    assert len([each for each in threading.enumerate() if each.name.startswith("s3_")]) <= WORKERS
    started = time.monotonic()
    with pytest.raises(StoreError):
        await bucket.put_file("other", write_file(tmp_path, DATA, "other"), "image/png")
    assert time.monotonic() - started < 45
    s3_wire.set("none")
    await eventually(lambda: bucket.get("key"))
    assert await bucket.get("key") == DATA
    await bucket.put_file("other", write_file(tmp_path, DATA, "other"), "image/png")
    assert await bucket.get("other") == DATA


async def eventually(call: Callable[[], Awaitable[object]], within_s: float = PATIENCE_S) -> None:
    """Wait until a call succeeds."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                await call()
            except StoreError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_while_a_bucket_hangs_one_call_tries_it_and_the_others_fail_at_once(
    bucket: S3Objects, s3_wire: Wire
) -> None:
    s3_wire.set("hang")
    with pytest.raises(StoreError):
        await bucket.get("key")
    trying = asyncio.create_task(bucket.head("key"))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    for _ in range(50):
        with pytest.raises(StoreError, match="does not answer"):
            await bucket.get("key")
    assert time.monotonic() - started < 10
    with pytest.raises(StoreError):
        await trying


async def test_a_stream_whose_bucket_hangs_ends_with_an_error(bucket: S3Objects, s3_wire: Wire, tmp_path: Path) -> None:
    received: list[bytes] = []
    large = bytes(24 * 2**20)  # more than lies in the buffers of sockets
    await eventually(lambda: bucket.put_file("large", write_file(tmp_path, large, "large"), "video/mp4"))

    async def read() -> None:
        async for chunk in bucket.stream("large"):
            received.append(chunk)
            s3_wire.set("hang")

    with pytest.raises(StoreError):
        await read()
    assert 0 < len(b"".join(received)) < len(large)


async def test_a_bucket_that_is_away_at_start_is_made_later(s3_wire: Wire, s3_url: str, tmp_path: Path) -> None:
    s3_wire.set("refuse")
    made = S3Objects(through(s3_wire, s3_url))
    with pytest.raises(StoreError):
        await made.ping()
    s3_wire.set("none")
    await eventually(lambda: made.put_file("key", write_file(tmp_path, DATA, "data"), "image/png"))
    assert await made.get("key") == DATA
    await made.close()


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("InsufficientStorage", 507, StoreFull),
        ("XMinioStorageFull", 507, StoreFull),
        ("QuotaExceeded", 403, StoreFull),
        ("SlowDown", 503, StoreError),
        ("InternalError", 500, StoreError),
        ("AccessDenied", 403, StoreRefused),
        ("InvalidAccessKeyId", 403, StoreRefused),
    ],
)
async def test_what_a_bucket_answers_has_its_class(
    bucket: S3Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, status: int, kind: type[StoreError]
) -> None:
    def refuse(**_: object) -> None:
        response = {"Error": {"Code": code, "Message": "secret"}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(response, "PutObject")  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(bucket._client, "put_object", refuse)
        with pytest.raises(StoreError) as caught:
            await bucket.put_file("small", write_file(tmp_path, b"small", "small"), "image/png")
        assert type(caught.value) is kind
        assert "secret" not in str(caught.value)
    if kind is StoreFull:
        with pytest.raises(StoreFull):
            await bucket.check_room()
        assert await bucket.delete("key")
    await bucket.put_file("small", write_file(tmp_path, b"small", "small"), "image/png")
    await bucket.check_room()


def behind(carrier: Wire, url: str) -> str:
    """The URL of a database behind a wire; the server would tell its clients the way around it."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"127.0.0.1:{carrier.port}", query="directConnection=true").geturl()


@pytest.mark.parametrize("fault", ["refuse", "hang", "reset"])
async def test_a_mongodb_that_fails_is_given_up_in_time_and_heals(
    mongodb_server: str, short: None, fault: Fault
) -> None:
    with database(mongodb_server) as url, wire(urlsplit(mongodb_server).port or 0) as carrier:
        stores = Stores(documents=behind(carrier, url))
        assert await stores.documents.insert_asset(make_asset(1))
        carrier.set(fault)
        started = time.monotonic()
        calls = [stores.documents.get_assets([asset_id(1)]) for _ in range(30)]
        results = await asyncio.gather(*calls, stores.jobs.submit("index", "a", "f", {}), return_exceptions=True)
        assert time.monotonic() - started < 10
        assert all(isinstance(each, StoreError) for each in results)
        with pytest.raises(StoreError):
            await stores.documents.ping()
        carrier.set("none")
        await eventually(stores.documents.ping)
        assert set(await stores.documents.get_assets([asset_id(1)])) == {asset_id(1)}
        await stores.close()


async def test_a_mongodb_that_is_away_at_start_is_used_when_it_comes(mongodb_server: str, short: None) -> None:
    with database(mongodb_server) as url, wire(urlsplit(mongodb_server).port or 0) as carrier:
        carrier.set("refuse")
        stores = Stores(documents=behind(carrier, url))
        with pytest.raises(StoreError):
            await stores.documents.insert_asset(make_asset(1))
        carrier.set("none")
        await eventually(stores.documents.ping)
        assert await stores.documents.insert_asset(make_asset(1))
        await stores.close()


async def test_a_cache_that_hangs_costs_little_and_is_used_again(
    valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(valkey.url)
    await cache.set_many({"key": b"value"}, 60)
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with caplog.at_level(logging.INFO, "stores"):
            for _ in range(50):
                assert await cache.get_many(["key"]) == [None]
        assert time.monotonic() - started < 10
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    assert len(caplog.records) == 1
    await asyncio.sleep(1.1)
    assert await cache.get_many(["key"]) == [b"value"]
    await cache.close()


async def test_a_database_that_another_process_locks_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_engine, "BUSY_TIMEOUT_S", 0.5)
    stores = Stores(documents=f"sqlite:///{tmp_path}/d.sqlite")
    assert await stores.documents.insert_asset(make_asset(0))
    with closing(sqlite3.connect(tmp_path / "d.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = asyncio.create_task(stores.documents.insert_asset(make_asset(1)))
        await asyncio.sleep(0.3)
        started = time.monotonic()
        writes = [stores.documents.insert_asset(make_asset(number)) for number in range(2, 40)]
        results = await asyncio.gather(first, *writes, return_exceptions=True)
        # Each has waited since it came, not behind the waits of those before it.
        assert time.monotonic() - started < 10
        assert all(isinstance(each, StoreError) for each in results)
        assert set(await stores.documents.get_assets([asset_id(0)])) == {asset_id(0)}
        other.execute("ROLLBACK")
    assert await stores.documents.insert_asset(make_asset(1))
    await stores.close()


async def test_an_object_that_cannot_be_read_is_a_store_error(tmp_path: Path) -> None:
    stores = Stores(objects=f"file://{tmp_path}/objects")
    await stores.objects.put_file("abc", write_file(tmp_path, DATA, "data"), "image/png")
    stored = tmp_path / "objects" / "ab" / "abc"
    stored.unlink()
    stored.mkdir()  # reading it fails, also for root
    with pytest.raises(StoreError):
        await stores.objects.get("abc")
    await stores.objects.ping()
    await stores.close()
