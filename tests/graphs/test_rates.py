"""Rate limits over a real cache: shared by gateways, per client and kind of request, and what answers tell of them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis import Redis
from starlette.responses import PlainTextResponse

from configs.settings import Settings
from graphs.web.api import Contracts
from graphs.web.rates import Bucket, Buckets, RateLimits, Taken
from stores.cache import Cache
from tests.graphs.conftest import MakeSettings, Serve
from tests.graphs.harness import contracts_of, settings_in
from tests.graphs.samples import error_of

pytestmark = pytest.mark.usefixtures("patient_cache")

SLOW = Bucket.holding(10, per_minute=1)
"""Ten at once, then one a minute: no test lasts long enough for a token to fall in."""
MINUTE_US = 60_000_000


@pytest.fixture(params=["cache", "process"])
async def buckets(request: pytest.FixtureRequest, valkey_url: str) -> AsyncIterator[Buckets]:
    """Empty ones, counted in either place."""
    with Redis.from_url(valkey_url) as redis:
        redis.flushall()
    cache = Cache(valkey_url if request.param == "cache" else "")
    yield Buckets(cache)
    await cache.close()


async def test_a_bucket_gives_what_it_holds(buckets: Buckets) -> None:
    taken = [await buckets.take("a", SLOW) for _ in range(12)]
    assert [t.allowed for t in taken] == [True] * 10 + [False] * 2
    assert [t.left for t in taken] == [*range(9, -1, -1), 0, 0]
    assert [t.wait_s for t in taken[:9]] == [0] * 9
    assert all(59 <= t.wait_s <= 60 for t in taken[9:])
    assert taken[0].full_s == 60
    assert all(599 <= t.full_s <= 600 for t in taken[9:])
    assert await buckets.take("b", SLOW) == Taken(True, 9, 0, 60)


async def test_of_many_at_once_no_more_than_that(buckets: Buckets) -> None:
    taken = await asyncio.gather(*(buckets.take("a", SLOW) for _ in range(100)))
    assert sum(t.allowed for t in taken) == 10


async def test_a_client_that_leaves_spoils_nothing(buckets: Buckets) -> None:
    takers = [asyncio.create_task(buckets.take("a", SLOW)) for _ in range(5)]
    await asyncio.sleep(0)
    takers[0].cancel()
    takers[3].cancel()
    assert [(await takers[number]).allowed for number in (1, 2, 4)] == [True] * 3
    assert (await buckets.take("a", SLOW)).left == 4


def age(buckets: Buckets, name: str, microseconds: int, redis: Redis) -> None:
    """Have a bucket as it will be after so much time."""
    if name in buckets._full_at:
        buckets._full_at[name] -= microseconds
    else:
        redis.decrby(name, microseconds)


async def test_tokens_fall_in_with_time(buckets: Buckets, valkey_url: str) -> None:
    with Redis.from_url(valkey_url) as redis:
        for _ in range(10):
            await buckets.take("a", SLOW)
        age(buckets, "a", MINUTE_US * 5 // 2, redis)
        taken = [await buckets.take("a", SLOW) for _ in range(3)]
        assert [t.allowed for t in taken] == [True, True, False]
        assert taken[2].wait_s in (29, 30)
        age(buckets, "a", 100 * MINUTE_US, redis)
        assert await buckets.take("a", SLOW) == Taken(True, 9, 0, 60)


async def test_a_bucket_of_the_cache_is_forgotten_when_it_is_full(valkey_url: str) -> None:
    cache = Cache(valkey_url)
    with Redis.from_url(valkey_url) as redis:
        redis.flushall()
        await Buckets(cache).take("a", SLOW)
        assert 50_000 < int(redis.pttl("a")) <= 60_000
        await Buckets(cache).take("a", SLOW)
        assert 110_000 < int(redis.pttl("a")) <= 120_000
    await cache.close()


async def test_full_buckets_of_the_process_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphs.web.rates.LOCAL_BUCKETS", 100)
    buckets = Buckets(Cache(""))
    for number in range(1000):
        await buckets.take(f"gone {number}", SLOW)
        buckets._full_at[f"gone {number}"] = 0
    await buckets.take("here", SLOW)
    assert len(buckets._full_at) <= 101
    assert (await buckets.take("here", SLOW)).left == 8


async def test_an_outage_is_logged_once(valkey_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="ray.serve")
    buckets = Buckets(Cache("unix:///nowhere/valkey.sock"))
    assert [(await buckets.take("a", SLOW)).left for _ in range(3)] == [9, 8, 7]
    buckets._cache = Cache(valkey_url)
    assert (await buckets.take("an outage", SLOW)).left == 9
    ours = [record.message for record in caplog.records if record.name == "ray.serve"]
    assert ours == [
        "rate limits are counted by each gateway on its own: the cache does not answer",
        "rate limits are counted in the cache again",
    ]
    await buckets._cache.close()


def limits(answer: httpx.Response) -> tuple[int, int]:
    """Limit and remaining requests."""
    assert 0 < int(answer.headers["x-ratelimit-reset"]) <= 600
    return int(answer.headers["x-ratelimit-limit"]), int(answer.headers["x-ratelimit-remaining"])


async def ask(client: httpx.AsyncClient, **headers: str) -> tuple[int, int]:
    """Limit and remaining requests after one of a kind that gets a token only every six seconds."""
    return limits(await client.post("/batch-similarity", headers=headers))


async def test_every_gateway_counts_the_same(settings_for: MakeSettings, serve: Serve) -> None:
    config = settings_for(rate_limit_enabled=True)
    async with serve(config) as one, serve(config) as other:
        assert [await ask(service.client) for service in (one, other, one)] == [(10, 9), (10, 8), (10, 7)]
        upload = await one.send(b"no picture")
        assert (upload.status_code, limits(upload)) == (400, (50, 49))
        success = await other.client.get("/config")
        assert (success.status_code, limits(success)) == (200, (100, 99))


async def test_a_client_that_asks_too_often(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(rate_limit_enabled=True, cache_url="")) as service:
        body = {"asset_ids": ["0" * 32, "1" * 32]}
        allowed = [await service.try_post("batch-similarity", **body) for _ in range(10)]
        assert [answer.status_code for answer in allowed] == [200] * 10
        refused = await service.try_post("batch-similarity", **body)
        error = error_of(refused, 429, "RATE_LIMITED")
        assert error["message"].startswith("10 requests a minute")
        assert 1 <= int(refused.headers["retry-after"]) <= 6
        assert limits(refused) == (10, 0)
        # Other kinds of requests have buckets of their own, and health has none.
        assert (await service.client.get("/config")).status_code == 200
        for _ in range(150):
            health = await service.client.get("/livez")
            assert health.status_code == 200
        assert "x-ratelimit-limit" not in health.headers


async def test_a_client_is_its_key(settings_for: MakeSettings, serve: Serve, valkey_url: str) -> None:
    async with serve(settings_for(rate_limit_enabled=True, api_key="one,two")) as service:
        assert [await ask(service.client, **{"x-api-key": "one"}) for _ in range(2)] == [(10, 9), (10, 8)]
        assert await ask(service.client, authorization="Bearer one") == (10, 7)
        assert await ask(service.client, **{"x-api-key": "two"}) == (10, 9)
        assert "x-ratelimit-limit" not in (await service.client.get("/config")).headers
    with Redis.from_url(valkey_url) as redis:
        names = [name.decode() for name in redis.keys("rate:*")]
    assert len(names) == 2
    assert not any("one" in name or "two" in name for name in names)


async def test_a_client_is_what_a_trusted_proxy_says(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(rate_limit_enabled=True, trusted_proxies="127.0.0.0/8")) as service:
        hops = ["9.9.9.9", "1.2.3.4, 9.9.9.9", "6.6.6.6, 9.9.9.9, 127.0.0.1", "8.8.8.8"]
        counted = [await ask(service.client, **{"x-forwarded-for": forwarded}) for forwarded in hops]
        assert counted == [(10, 9), (10, 8), (10, 7), (10, 9)]
    async with serve(settings_for(rate_limit_enabled=True, trusted_proxies="", cache_url="")) as service:
        counted = [await ask(service.client, **{"x-forwarded-for": forwarded}) for forwarded in hops]
        assert counted == [(10, 9), (10, 8), (10, 7), (10, 6)]


@pytest.fixture(scope="module")
async def promised(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Contracts]:
    """The contracts of every API, with limits of the photo API's own."""
    limits = {"rate_limit_enabled": True, "rate_limit_per_minute": 30, "rate_limit_burst": 7}
    with settings_in(tmp_path_factory.mktemp("promised"), **limits) as config:
        return config, await contracts_of(config)


@pytest.mark.parametrize(
    ("requests", "per_minute", "at_once"),
    [
        (["POST /upload-media", "POST /api/v1/upload-media"], 50, 50),
        (["POST /batch-similarity", "POST /api/v1/batch-quality-check"], 10, 10),
        (["GET /api/v1/media/abc/content", "GET /media/abc/poster"], 600, 600),
        (
            ["POST /extract-features", "GET /api/v1/media/abc", "DELETE /media/abc", "GET /a\nb"],
            100,
            100,
        ),
        (["POST /v1/analyze", "POST /v1/analyze/batch", "POST /v1/cluster", "GET /v1/"], 30, 7),
        (["POST /predict", "POST /encode/file", "POST /domain-check"], 30, 30),
        (["POST /api/v1/analyze/image/", "POST /api/v1/analyze/image"], 100, 100),
        (["POST /api/v1/analyze/image/batch"], 10, 10),
        (["POST /api/v1/analyze/video/"], 10, 10),
        (["POST /api/v1/analyze/audio/"], 50, 50),
        (["GET /api/v1/results/abc"], 100, 100),
        (["GET /api/v1/file/abc/video", "GET /api/v1/file/abc/clip"], 600, 600),
    ],
)
async def test_the_limits_that_were_promised(
    promised: tuple[Settings, Contracts],
    monkeypatch: pytest.MonkeyPatch,
    requests: list[str],
    per_minute: int,
    at_once: int,
) -> None:
    monkeypatch.setattr("graphs.web.rates.time.monotonic_ns", lambda: 10**18)  # no token falls in
    limited = RateLimits(PlainTextResponse("ok"), *promised, Cache(""))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(limited), base_url="http://test") as client:
        # One bucket for all of them together.
        for number, request in enumerate(requests):
            method, path = request.split(" ", 1)
            answer = await client.request(method, path.replace("\n", "%0a"))
            assert (answer.status_code, limits(answer)) == (200, (per_minute, at_once - 1 - number)), request


async def test_each_api_refuses_in_its_own_words(settings_for: MakeSettings) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError

    class Empty(Buckets):
        async def take(self, name: str, bucket: Bucket) -> Taken:
            return Taken(False, 0, 7, 9)

    config = settings_for(rate_limit_enabled=True)
    limited = RateLimits(never, config, await contracts_of(config), Cache(""))
    limited._buckets = Empty(Cache(""))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(limited), base_url="http://test") as client:
        answers = {path: await client.post(path) for path in ("/config", "/v1/cluster", "/predict", "/api/v1/file/a")}
    for answer in answers.values():
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert (answer.headers["x-ratelimit-remaining"], answer.headers["x-ratelimit-reset"]) == ("0", "9")
    error_of(answers["/config"], 429, "RATE_LIMITED")
    said = "60 requests a minute are the limit here; slow down."
    assert answers["/v1/cluster"].json() == {"error": "rate_limited", "message": said}
    assert answers["/predict"].json() == {"detail": said.replace("60", "30")}
    assert answers["/api/v1/file/a"].json()["success"] is False
