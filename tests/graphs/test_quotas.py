"""Quotas of keys: what passes, what is refused and with which words, over HTTP and real stores."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from configs.quotas import parse_quota
from graphs.web import access
from graphs.web.access import Caller
from graphs.web.quotas import FORM_BYTES, QuotaExceeded, Quotas
from graphs.web.uploads.spool import Spool
from stores.keys import RateClass, new_key
from stores.open import Stores
from stores.usage import UsageStore
from tests.graphs import harness
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.indexing import film, index_service, long_film
from tests.graphs.samples import error_of, picture
from tests.recorded import Recorded, recorded

__all__ = ["recorded"]

UPLOAD = "/api/v1/upload-media"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of keys are seen with the next request."""
    monkeypatch.setattr(access, "FRESH_S", 0.0)
    monkeypatch.setattr(access, "RETRY_S", 0.0)


async def make_key(
    service: harness.Service, quota: str = "", rate: RateClass = "standard", *scopes: str
) -> dict[str, str]:
    """Headers with a new key."""
    token, key = new_key("a test", scopes or ("read", "write"), rate=rate, quota=parse_quota(quota))
    assert await service.context.stores.keys.insert(key)
    return {"X-API-Key": token}


async def send(service: Service, headers: Mapping[str, str], number: int, data: bytes | None = None) -> httpx.Response:
    files = {"file": (f"{number}.png", data or picture(number))}
    return await service.client.post(UPLOAD, headers=dict(headers), files=files)


async def usage(service: harness.Service, headers: Mapping[str, str]) -> dict[str, tuple[int, int | None]]:
    answer = await service.client.get("/api/v1/usage", headers=dict(headers))
    assert answer.status_code == 200, answer.text
    return {each["resource"]: (each["used"], each["limit"]) for each in answer.json()["usage"]}


async def test_bytes_are_counted_refused_and_freed(settings_for: MakeSettings, serve: Serve) -> None:
    one, two, three = (picture(number) for number in (1, 2, 3))
    room = len(one) + len(two)
    async with serve(settings_for()) as service:
        headers, other = await make_key(service, f"bytes={room}"), await make_key(service)
        first = (await send(service, headers, 1)).json()["asset_id"]
        assert (await send(service, headers, 1)).json()["duplicate"] is True
        assert (await send(service, headers, 2)).status_code == 200
        assert await usage(service, headers) == {
            "bytes": (room, room),
            "files": (2, None),
            "jobs": (0, None),
            "videos": (0, None),
        }
        refused = await send(service, headers, 3)
        error = error_of(refused, 403, "QUOTA_EXCEEDED")
        assert "retry-after" not in refused.headers
        details = error["details"]
        assert (details["resource"], details["used"], details["limit"]) == ("bytes", room, room)
        assert f"may store {room:,} bytes and has stored {room:,}" in error["message"]
        # What others store, and what is theirs as well, is counted for each.
        assert (await send(service, other, 3)).status_code == 200
        assert (await send(service, other, 1)).status_code == 200
        assert (await usage(service, other))["bytes"] == (len(three) + len(one), None)
        assert (await service.client.delete(f"/api/v1/media/{first}", headers=headers)).status_code == 200
        assert await usage(service, headers) | {"jobs": (0, None)} == {
            **{"bytes": (len(two), room), "files": (1, None)},
            **{"jobs": (0, None), "videos": (0, None)},
        }
        status = 200 if len(three) <= len(one) else 403
        assert (await send(service, headers, 3)).status_code == status


async def test_a_failed_upload_takes_nothing(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for()) as service:
        headers = await make_key(service, "bytes=1MB,files=1")
        for data in (b"no picture at all", b"\x89PNG\r\n\x1a\n broken"):
            assert (await send(service, headers, 1, data)).status_code == 400
        assert (await usage(service, headers))["files"] == (0, 1)
        assert (await send(service, headers, 1)).status_code == 200
        error = error_of(await send(service, headers, 2), 403, "QUOTA_EXCEEDED")
        assert error["details"]["resource"] == "files"


async def test_a_body_that_is_too_large_is_not_stored(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled = 0

    class Counting(Spool):
        def take(self, size: int) -> None:
            nonlocal spooled
            spooled += size
            super().take(size)

    async def pieces() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n'
        for _ in range(50):
            yield bytes(10_000)

    monkeypatch.setattr("graphs.web.context.Spool", Counting)
    async with serve(settings_for()) as service:
        headers = await make_key(service, "bytes=100kB")
        form = {**headers, "content-type": "multipart/form-data; boundary=b"}
        announced = {**form, "content-length": str(100_001 + FORM_BYTES)}
        error = error_of(await service.client.post(UPLOAD, headers=announced, content=pieces()), 403, "QUOTA_EXCEEDED")
        assert (spooled, error["details"]["requested"]) == (0, 100_001)
        error_of(await service.client.post(UPLOAD, headers=form, content=pieces()), 403, "QUOTA_EXCEEDED")
        assert 0 < spooled <= 100_000 + FORM_BYTES
        assert service.spooled == []


@pytest.mark.parametrize("gateways", [1, 2])
async def test_uploads_at_the_edge_of_a_quota_never_pass_it(
    settings_for: MakeSettings, serve: Serve, gateways: int
) -> None:
    config = settings_for()
    sizes = {number: len(picture(number)) for number in range(1, 21)}
    limit = sum(sizes.values()) // 2
    async with AsyncExitStack() as stack:
        services = [await stack.enter_async_context(serve(config)) for _ in range(gateways)]
        headers = await make_key(services[0], f"bytes={limit}")
        answers = await asyncio.gather(*(send(services[n % gateways], headers, n) for n in sizes))
        assert {answer.status_code for answer in answers} == {200, 403}
        stored = sum(answer.json()["file_size"] for answer in answers if answer.status_code == 200)
        assert limit - max(sizes.values()) < stored <= limit
        assert (await usage(services[0], headers))["bytes"] == (stored, limit)
        owner = headers["X-API-Key"].split("_")[1]
        assert (await services[0].context.documents.uploaded_by(owner))[1] == stored
        keys = [info.key async for info in services[0].context.objects.list()]
        assert len(keys) == sum(answer.status_code == 200 for answer in answers)


async def test_a_killed_upload_is_counted_once(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(settings_for()) as service:
        headers = await make_key(service, f"bytes={len(picture(1)) + len(picture(2))}")

        async def never(*_: object) -> None:
            """As if the process had died before."""

        with monkeypatch.context() as patch:
            patch.setattr(UsageStore, "settle", never)
            assert (await send(service, headers, 1)).status_code == 200
        assert (await usage(service, headers))["bytes"][0] == len(picture(1))
        monkeypatch.setattr("graphs.web.quotas.STORING_S", -1.0)
        assert (await send(service, headers, 2)).status_code == 200
        assert (await usage(service, headers))["bytes"][0] == len(picture(1)) + len(picture(2))


async def test_rate_classes_have_quotas_and_a_key_its_own(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(quota_standard="files=1", quota_high="files=2")) as service:
        standard, high = await make_key(service), await make_key(service, "", "high")
        unlimited, own = await make_key(service, "", "unlimited"), await make_key(service, "files=none")
        for headers, most in ((standard, 1), (high, 2), (unlimited, 3), (own, 3)):
            statuses = [(await send(service, headers, number)).status_code for number in (1, 2, 3)]
            assert statuses == [200] * most + [403] * (3 - most)
        assert await service.context.keys.set_limits(standard["X-API-Key"].split("_")[1], "standard", {"files": 2})
        assert (await send(service, standard, 2)).status_code == 200


async def test_an_open_service_and_keys_of_the_settings_have_no_quota(settings_for: MakeSettings, serve: Serve) -> None:
    for headers, config in (({}, {}), ({"X-API-Key": "env-key"}, {"api_key": "env-key"})):
        async with serve(settings_for(quota_standard="files=0,bytes=0", **config)) as service:
            assert (await send(service, headers, 1)).status_code == 200
            assert (await usage(service, headers))["files"] == (1, None)


async def test_any_key_may_ask_what_it_uses(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for()) as service:
        token, key = new_key("held", ["photos:read"], labels=["a"], quota={"jobs": 3})
        await service.context.keys.insert(key)
        assert (await usage(service, {"X-API-Key": token}))["jobs"] == (0, 3)
        assert (await service.client.get("/api/v1/usage")).status_code == 401


@contextmanager
def calling(limits: Mapping[Any, int]) -> Iterator[None]:
    """What is done in the block is done for a key with these limits."""
    token = access.caller.set(Caller("me", frozenset(), limits=limits))
    try:
        yield
    finally:
        access.caller.reset(token)


@pytest.fixture
async def quotas(settings_for: MakeSettings) -> Any:
    config = settings_for()
    stores = Stores.open(config)
    yield Quotas(config, stores)
    await stores.close()


async def test_a_429_of_a_quota_is_counted_as_one(settings_for: MakeSettings, recorded: Recorded) -> None:
    async with index_service(settings_for()) as service:
        headers = await make_key(service, "jobs=1")
        films = [await service.add(film()), await service.add(long_film(1))]
        indexes = [f"/api/v1/file/{each.asset_id}/index" for each in films]
        answers = [await service.client.post(index, headers=headers) for index in indexes]
        assert [answer.status_code for answer in answers] == [202, 429]
        assert answers[1].headers["retry-after"] == "30"
    assert recorded.of("requests_refused") == {(("api", "media"), ("reason", "quota")): 1}


async def test_jobs_are_refused_until_one_has_ended(quotas: Quotas) -> None:
    with calling({"jobs": 3}):
        made = await asyncio.gather(*(quotas.submit("k", f"{n}", f"{n}", {}) for n in range(8)), return_exceptions=True)
        jobs = [each for each in made if not isinstance(each, BaseException)]
        assert len(jobs) == 3
        refused = next(each for each in made if isinstance(each, QuotaExceeded))
        assert (refused.code, refused.status, refused.details["used"]) == ("QUOTA_EXCEEDED", 429, 3)
        assert refused.retry_after_s == 30
        again = await quotas.submit("k", jobs[0].subject, jobs[0].fingerprint, {})
        assert again.job_id == jobs[0].job_id  # the same job is no other
        await quotas._stores.jobs.cancel(jobs[0].job_id)
        assert (await quotas.submit("k", "9", "9", {})).owner == "me"
    assert (await quotas.submit("k", "10", "10", {})).owner == ""


async def test_videos_of_a_day_count_when_they_are_judged(quotas: Quotas) -> None:
    async def judged_in_vain() -> None:
        async with quotas.judging_video():
            assert {use.resource: use.used for use in await quotas.usage()}["jobs"] == 1
            with pytest.raises(QuotaExceeded, match="jobs at once"):
                await quotas.refuse_video()
            raise KeyError

    with calling({"videos": 2, "jobs": 1}):
        await quotas.refuse_video()
        with pytest.raises(KeyError):
            await judged_in_vain()
        for _ in range(2):
            async with quotas.judging_video():
                pass
        with pytest.raises(QuotaExceeded, match="2 videos judged a day and has had 2; the count begins anew") as caught:
            await quotas.refuse_video()
        free_at = datetime.fromisoformat(caught.value.details["free_at"])
        left = (free_at - datetime.now(UTC)).total_seconds()
        assert abs(caught.value.retry_after_s - left) < 5
        assert (free_at.hour, free_at.minute, 0 < left <= 86400) == (0, 0, True)
        with pytest.raises(QuotaExceeded, match="videos judged a day"):
            await quotas.judging_video().__aenter__()
