"""The cache over a real Valkey server, the server's absence included."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stores import cache as cache_module
from stores.cache import Cache
from stores.valkey import ValkeyServer, start

pytestmark = pytest.mark.usefixtures("patient_cache")

ITEMS = {"a": b"\x00\xff", "b": b"", "c": b"x" * 100_000}


@pytest.fixture
async def cache(valkey: ValkeyServer) -> AsyncIterator[Cache]:
    store = Cache(valkey.url)
    yield store
    await store.close()


async def test_values_come_back_in_the_order_of_the_keys(cache: Cache) -> None:
    await cache.set_many(ITEMS, ttl_s=60)
    assert await cache.get_many(["c", "missing", "a", "b"]) == [ITEMS["c"], None, ITEMS["a"], b""]
    assert await cache.get_many([]) == []
    await cache.set_many({}, ttl_s=60)
    assert cache.type == "redis"
    assert await cache.ping()


async def test_values_have_a_time_to_live(cache: Cache, valkey: ValkeyServer) -> None:
    await cache.set_many({"a": b"1"}, ttl_s=60)
    async with Redis.from_url(valkey.url) as redis:
        assert 0 < await redis.ttl("a") <= 60


async def test_deleted_values_are_gone(cache: Cache) -> None:
    await cache.set_many(ITEMS, ttl_s=60)
    assert await cache.delete(["a", "missing"])
    assert await cache.delete([])
    assert await cache.get_many(["a", "b"]) == [None, b""]


async def test_a_burst_waits_for_its_connections(valkey: ValkeyServer) -> None:
    cache = Cache(valkey.url)
    try:
        await cache.set_many(ITEMS, ttl_s=60)
        answers = await asyncio.gather(*(cache.get_many(["a", "c"]) for _ in range(200)))
    finally:
        await cache.close()
    assert answers == [[ITEMS["a"], ITEMS["c"]]] * 200


async def test_without_a_url_there_is_no_cache() -> None:
    cache = Cache("")
    assert cache.type == "none"
    await cache.set_many(ITEMS, ttl_s=60)
    assert await cache.get_many(["a", "b"]) == [None, None]
    assert await cache.delete(["a"])
    assert await cache.ping()
    await cache.close()


async def test_an_outage_costs_hits_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache_module, "RETRY_AFTER_S", 3600.0)
    caplog.set_level(logging.INFO, logger="stores.cache")
    server = start(tmp_path)
    cache = Cache(server.url)
    await cache.set_many({"a": b"1"}, ttl_s=600)
    server.stop()
    for _ in range(3):
        assert await cache.get_many(["a", "b"]) == [None, None]
        await cache.set_many({"b": b"2"}, ttl_s=60)
        assert not await cache.delete(["a"])
        assert not await cache.ping()
    assert [record.levelname for record in caplog.records] == ["WARNING"]

    with start(tmp_path) as server:
        assert await cache.get_many(["a"]) == [None]  # it rests, and does not look yet
        cache._retry_at = 0.0
        assert await cache.get_many(["a", "b"]) == [b"1", None]
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
        assert await cache.delete(["a"])
        assert await cache.get_many(["a"]) == [None]
        await cache.close()
    password = server.url.split("@")[0].removeprefix("unix://:")
    assert len(password) > 30
    assert password not in caplog.text + repr(cache) + repr(vars(cache))


async def test_one_request_finds_out_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache_module, "RETRY_AFTER_S", 3600.0)
    cache = Cache(f"unix://:secret@{tmp_path}/nobody.sock")
    await cache.get_many(["a"])
    cache._retry_at = 0.0
    asked = 0

    async def ask() -> bool:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        raise ConnectionError

    answers = await asyncio.gather(*(cache._attempt("ask", ask) for _ in range(10)))
    assert answers == [None] * 10
    assert asked == 1
    assert len(caplog.records) == 1
    assert "secret" not in caplog.text
    await cache.close()


async def test_a_server_that_refuses_us_counts_as_down(valkey: ValkeyServer) -> None:
    cache = Cache(valkey.url.replace("unix://:", "unix://:wrong"))
    assert await cache.get_many(["a"]) == [None]
    assert not await cache.delete(["a"])
    await cache.close()


def test_other_schemes_are_refused_without_telling_the_url() -> None:
    with pytest.raises(ValueError, match="redis://") as caught:
        Cache("memcached://:secret@host")
    assert "secret" not in str(caught.value)


async def test_a_script_runs_on_the_server_even_after_that_forgot_it(cache: Cache, valkey: ValkeyServer) -> None:
    script = "return {redis.call('INCRBY', KEYS[1], ARGV[1]), #ARGV}"
    assert await cache.run(script, ["counter"], [2, 0]) == [2, 2]
    async with Redis.from_url(valkey.url) as redis:
        await redis.script_flush()
    assert await cache.run(script, ["counter"], [3]) == [5, 1]
    assert await Cache("").run(script, ["counter"], [3]) is None
