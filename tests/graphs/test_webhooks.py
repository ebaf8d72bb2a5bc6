"""Webhooks over HTTP: receivers on real sockets, workers that announce and deliver, and what their owners see."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.settings import Settings, settings
from graphs.jobs.runner import Timing
from graphs.jobs.webhooks import deliveries, outbox, routes
from graphs.jobs.webhooks.outbox import Outbox, announce
from graphs.jobs.worker import Worker
from graphs.web import access
from graphs.web.context import Context
from graphs.web.gateway import build_app, open_context
from stores.errors import StoreError
from stores.jobs import Job, JobStatus, JobStore
from stores.keys import new_key
from tests.graphs.harness import configured
from tests.graphs.receiver import Receiver, receiving
from tests.graphs.samples import error_of

PREFIX = "/api/v1/webhooks"
QUICK = Timing(lease_s=5.0, heartbeat_s=1.0, progress_s=0.02, retry_s=0.01)
LOCAL: dict[str, Any] = {"webhook_http": True, "webhook_allowed_hosts": "127.0.0.1", "webhook_timeout_s": 5}


@dataclass
class Service:
    """A gateway that serves jobs and webhooks, and its stores."""

    client: httpx.AsyncClient
    context: Context
    home: Path

    async def key(self, *scopes: str, labels: tuple[str, ...] = ()) -> tuple[dict[str, str], str]:
        """Headers with a new key, and its id."""
        token, key = new_key("a test", scopes, labels=labels)
        assert await self.context.keys.insert(key)
        return {"X-API-Key": token}, key.key_id

    async def subscribe(self, url: str, headers: dict[str, str] | None = None, **values: Any) -> tuple[str, str]:
        """The id and the secret of a new webhook."""
        answer = await self.client.post(PREFIX, json={"url": url, **values}, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json()["webhook"]["webhook_id"], answer.json()["secret"]

    async def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> Any:
        answer = await self.client.get(f"{PREFIX}{path}", headers=headers, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def change(self, webhook_id: str, **values: Any) -> Any:
        answer = await self.client.patch(f"{PREFIX}/{webhook_id}", json=values)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def ended(self, webhook_id: str, number: int = 1) -> list[dict[str, Any]]:
        """The deliveries of a webhook, newest first, of which so many must end."""
        async with asyncio.timeout(20):
            while True:
                found = (await self.get(f"/{webhook_id}/deliveries", limit=100))["deliveries"]
                if len(found) == number and all(each["finished_at"] for each in found):
                    made: list[dict[str, Any]] = found
                    return made
                await asyncio.sleep(0.01)

    async def end_job(self, number: int = 1, status: JobStatus = "succeeded", kind: str = "index-video") -> str:
        return await end_job(self.context.jobs, number, status, kind)


async def end_job(jobs: JobStore, number: int = 1, status: JobStatus = "succeeded", kind: str = "index-video") -> str:
    """The id of a job that has ended so."""
    job = await jobs.submit(kind, f"file {number}", f"{kind} {number}", {})
    if status == "cancelled":
        await jobs.cancel(job.job_id)
        return job.job_id
    assert await jobs.claim_job(job.job_id, "w", 60)
    if status == "failed":
        await jobs.fail(job.job_id, "w", "No frame of this file decodes.")
    else:
        await jobs.succeed(job.job_id, "w", {"traces": 3})
    return job.job_id


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """What the condition gives as soon as it gives something."""
    async with asyncio.timeout(20):
        while not (found := await condition()):  # noqa: ASYNC110 (as a client looks)
            await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def working(context: Context, **options: Any) -> AsyncIterator[Outbox]:
    """A worker's outbox while this lasts."""
    made = Outbox(context, poll_s=0.01, claim_s=(0.005, 0.02), timing=QUICK, **options)
    made.start()
    yield made
    made.check_health()
    await made.stop()


@asynccontextmanager
async def serving(config: Settings, home: Path) -> AsyncIterator[Service]:
    context = open_context(config, {})
    transport = httpx.ASGITransport(build_app(context, ["jobs"]), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield Service(client, context, home)
    await context.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of keys are seen with the next request, and what failed is tried again soon."""
    monkeypatch.setattr(access, "FRESH_S", 0.0)
    monkeypatch.setattr(access, "RETRY_S", 0.0)
    monkeypatch.setattr(deliveries, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(deliveries, "LONGEST_PAUSE_S", 0.05)


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    async with serving(configured(monkeypatch, tmp_path, **LOCAL), tmp_path) as made:
        yield made
    settings.cache_clear()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
async def test_the_end_of_a_job_is_posted_signed(service: Service, receiver: Receiver, status: JobStatus) -> None:
    webhook_id, secret = await service.subscribe(receiver.url)
    job_id = await service.end_job(status=status)
    async with working(service.context):
        (got,) = await receiver.wait(1)
        (delivery,) = await service.ended(webhook_id)
    job = (await service.client.get(f"/api/v1/jobs/{job_id}")).json()
    assert got.event == {
        "id": got.headers["webhook-id"],
        "type": f"job.{status}",
        "timestamp": job["finished_at"],
        "data": job,
    }
    assert got.is_signed_with(secret)
    assert not got.is_signed_with("whsec_" + "A" * 44)
    assert abs(int(got.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    assert got.headers["content-type"] == "application/json"
    (attempt,) = delivery.pop("attempts")
    assert (attempt["status"], attempt["error"]) == (204, "")
    assert delivery == {
        "delivery_id": delivery["delivery_id"],
        "event_id": got.headers["webhook-id"],
        "type": f"job.{status}",
        "job_id": job_id,
        "status": "delivered",
        "created_at": delivery["created_at"],
        "finished_at": delivery["finished_at"],
        "next_attempt_at": None,
        "error": None,
    }
    path = f"/{webhook_id}/deliveries/{delivery['delivery_id']}"
    assert await service.get(path) == {**delivery, "attempts": [attempt]}
    found = await service.get(f"/{webhook_id}")
    assert (found["enabled"], found["waiting"], found["failing_since"]) == (True, 0, None)
    assert found["delivered_at"] is not None
    assert (await service.client.get("/api/v1/jobs")).json()["jobs"] == [job]  # deliveries are none of these


async def test_only_what_was_asked_for_is_sent(service: Service, receiver: Receiver) -> None:
    await service.subscribe(receiver.url, events=["job.failed", "job.failed"], kinds=["index-video"])
    async with receiving() as everything:
        webhook_id, _ = await service.subscribe(everything.url)
        await service.end_job(1)
        await service.end_job(2, "failed")
        await service.end_job(3, "failed", "analyze-shots")
        await service.end_job(4, "failed", "retention")  # of the service's own upkeep
        async with working(service.context):
            await service.ended(webhook_id, 3)
            await receiver.wait(1)
        assert sorted(each.event["data"]["subject"] for each in everything.got) == ["file 1", "file 2", "file 3"]
        assert [each.event["data"]["subject"] for each in receiver.got] == ["file 2"]
        assert await service.context.jobs.list_unannounced(10) == []


async def test_a_receiver_that_fails_gets_the_same_again(service: Service) -> None:
    statuses = ["500 No", "503 No", "404 No", "302 No", "200 OK"]
    async with receiving(answer=lambda number: (statuses[number], [])) as receiver, working(service.context):
        webhook_id, secret = await service.subscribe(receiver.url)
        await service.end_job()
        got = await receiver.wait(5)
        (delivery,) = await service.ended(webhook_id)
    assert [each["status"] for each in delivery["attempts"]] == [500, 503, 404, 302, 200]
    assert delivery["status"] == "delivered"
    assert len({(each.body, each.headers["webhook-id"]) for each in got}) == 1
    assert all(each.is_signed_with(secret) for each in got)
    found = await service.get(f"/{webhook_id}")
    assert (found["failing_since"], found["enabled"]) == (None, True)


async def test_what_waits_says_when_it_is_tried_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "FIRST_PAUSE_S", 600.0)
    monkeypatch.setattr(deliveries, "LONGEST_PAUSE_S", 600.0)
    async with (
        receiving(answer=lambda _: ("429 Slow Down", ["Retry-After: 1800"])) as receiver,
        working(service.context),
    ):
        webhook_id, _ = await service.subscribe(receiver.url)
        await service.end_job()
        await receiver.wait(1)

        async def waiting() -> Any:
            return (await service.get(f"/{webhook_id}/deliveries", status="waiting"))["deliveries"]

        found = await until(waiting)
        wait = datetime.fromisoformat(found[0]["next_attempt_at"]) - datetime.now(UTC)
        assert timedelta(minutes=29) < wait <= timedelta(minutes=30)
        assert found[0]["attempts"][0]["error"] == "it answered 429"
        assert (await service.get(f"/{webhook_id}"))["waiting"] == 1
        for other in ("sending", "delivered", "failed"):
            assert (await service.get(f"/{webhook_id}/deliveries", status=other))["deliveries"] == []


async def test_it_is_given_up_in_the_end_and_long_failure_disables(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "GIVE_UP", timedelta(seconds=0.2))
    async with receiving(answer=lambda _: ("500 No", [])) as receiver, working(service.context):
        webhook_id, _ = await service.subscribe(receiver.url)
        await service.end_job(1)
        (delivery,) = await service.ended(webhook_id)
        assert delivery["status"] == "failed"
        assert delivery["error"] == f"Given up after {len(delivery['attempts'])} attempts: it answered 500."
        assert len(delivery["attempts"]) > 2
        found = await service.get(f"/{webhook_id}")
        assert (found["enabled"], found["failing_since"] is not None) == (True, True)

        stored = await service.context.subscriptions.get(webhook_id)
        assert stored is not None
        long_ago = datetime.now(UTC) - timedelta(days=4)
        await service.context.subscriptions.set(replace(stored, failing_since=long_ago), "failing_since")
        await service.end_job(2)
        await service.ended(webhook_id, 2)
        found = await service.get(f"/{webhook_id}")
        assert (found["enabled"], found["disabled_reason"]) == (
            False,
            "No delivery has succeeded for 4 days: it answered 500.",
        )


async def test_gone_disables_at_once_until_it_is_enabled_again(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    status = "410 Gone"
    async with receiving(answer=lambda _: (status, [])) as receiver, working(service.context):
        webhook_id, secret = await service.subscribe(receiver.url)
        await service.end_job(1)
        (delivery,) = await service.ended(webhook_id)
        assert (delivery["status"], len(delivery["attempts"])) == ("failed", 1)
        found = await service.get(f"/{webhook_id}")
        assert (found["enabled"], found["disabled_reason"]) == (False, "Its receiver answered 410 Gone.")
        assert found["disabled_at"] is not None
        (entry,) = await service.context.audit.list(object_id=webhook_id, key="webhook")
        assert (entry.action, entry.details["reason"]) == ("webhook disabled", found["disabled_reason"])

        await service.end_job(2)

        async def announced() -> bool:
            return not await service.context.jobs.list_unannounced(1)

        await until(announced)
        assert len(await service.ended(webhook_id, 1)) == 1

        status = "200 OK"
        found = await service.change(webhook_id, enabled=True)
        assert (found["enabled"], found["disabled_at"], found["disabled_reason"]) == (True, None, None)
        await service.end_job(3)
        await service.ended(webhook_id, 2)
        assert [each.event["data"]["subject"] for each in receiver.got] == ["file 1", "file 3"]
    assert f"webhook {webhook_id} is disabled" in caplog.text
    assert secret not in caplog.text
    assert receiver.url not in caplog.text


async def test_an_end_is_told_by_the_next_process_when_this_one_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    config = configured(monkeypatch, tmp_path, **LOCAL)
    async with serving(config, tmp_path) as service:
        webhook_id, _ = await service.subscribe(receiver.url)
        job_id = await service.end_job()  # nobody announces it before everything has ended
    async with serving(config, tmp_path) as service, working(service.context):
        await service.ended(webhook_id)
    assert [each.event["data"]["job_id"] for each in receiver.got] == [job_id]
    settings.cache_clear()


@pytest.mark.parametrize("fails", ["before the deliveries", "between two", "after them"])
async def test_an_end_whose_announcing_was_cut_short_is_delivered_once_to_each(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    ids = [(await service.subscribe(receiver.url))[0] for _ in range(2)]
    await service.end_job()
    failing = {"before the deliveries": 0, "between two": 1, "after them": 2}[fails]
    submit, announced = JobStore.submit, JobStore.announced

    async def submit_some(self: JobStore, *args: Any) -> Job:
        nonlocal failing
        if failing == 0:
            raise StoreError("away")
        failing -= 1
        return await submit(self, *args)

    async def away(*_: Any) -> bool:
        raise StoreError("away")

    with monkeypatch.context() as patch:
        patch.setattr(JobStore, "submit", submit_some)
        patch.setattr(JobStore, "announced", away)
        with pytest.raises(StoreError):
            await announce(service.context)
    assert JobStore.announced is announced
    assert len(await service.context.deliveries.list()) == {"before the deliveries": 0, "between two": 1}.get(fails, 2)
    async with working(service.context), working(service.context):
        for webhook_id in ids:
            (delivery,) = await service.ended(webhook_id)
            assert delivery["status"] == "delivered"
    assert len(receiver.got) == 2
    assert len({each.headers["webhook-id"] for each in receiver.got}) == 1


async def test_a_worker_that_is_killed_while_it_sends_loses_nothing(service: Service) -> None:
    async with receiving(delay_s=60.0) as receiver:
        webhook_id, secret = await service.subscribe(receiver.url)
        await service.end_job()
        argv = [sys.executable, "-m", "tests.graphs.outbox_child"]
        child = await asyncio.to_thread(subprocess.Popen, argv)
        (first,) = await receiver.wait(1)
        child.kill()
        await asyncio.to_thread(child.wait)
        assert (await service.get(f"/{webhook_id}/deliveries"))["deliveries"][0]["status"] == "sending"
        receiver.delay_s = 0.0
        async with working(service.context):
            (delivery,) = await service.ended(webhook_id)
    assert delivery["status"] == "delivered"
    second = receiver.got[1]
    assert (second.body, second.headers["webhook-id"]) == (first.body, first.headers["webhook-id"])
    assert second.is_signed_with(secret)


async def test_a_receiver_that_is_slow_leaves_places_to_the_others(service: Service, receiver: Receiver) -> None:
    async with receiving(delay_s=0.3) as slow:
        slow_id, _ = await service.subscribe(slow.url)
        for number in range(12):
            await service.end_job(number)
        async with working(service.context):
            await slow.wait(4)
            quick_id, _ = await service.subscribe(receiver.url)
            await service.end_job(99)
            await service.ended(quick_id)
            assert len(slow.got) < 12
            await service.ended(slow_id, 13)
        assert slow.most_at_once == outbox.PER_SUBSCRIPTION == 4
        assert len({each.headers["webhook-id"] for each in slow.got}) == len(slow.got) == 13


async def test_a_receiver_that_never_answers_fails_after_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "GIVE_UP", timedelta(seconds=0.3))
    config = configured(monkeypatch, tmp_path, **{**LOCAL, "webhook_timeout_s": 0.15})
    async with serving(config, tmp_path) as service, receiving(delay_s=60.0) as receiver, working(service.context):
        webhook_id, _ = await service.subscribe(receiver.url)
        await service.end_job()
        (delivery,) = await service.ended(webhook_id)
        assert {(each["status"], each["error"]) for each in delivery["attempts"]} == {(None, "no answer within 0.15 s")}
    settings.cache_clear()


async def test_a_redirect_to_an_address_inside_is_not_followed(service: Service) -> None:
    to = "http://169.254.169.254/latest/meta-data/iam/"
    async with receiving(answer=lambda _: ("302 Found", [f"Location: {to}"])) as receiver:
        webhook_id, _ = await service.subscribe(receiver.url)
        delivery = (await service.client.post(f"{PREFIX}/{webhook_id}/ping")).json()
    (attempt,) = delivery["attempts"]
    assert (delivery["status"], attempt["status"]) == ("failed", 302)
    assert "169.254" not in str(delivery)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://127.0.0.2/", "No public address was found for 127.0.0.2."),
        ("https://169.254.169.254/latest", "No public address was found for 169.254.169.254."),
        ("https://metadata.invalid/", "No public address was found for metadata.invalid."),
        ("https://[::1]:8443/", "No public address was found for ::1."),
        ("ftp://127.0.0.1/", "Events are sent to https:// and http:// URLs only."),
        ("https://me@127.0.0.1/", "Leave the user and password out"),
        ("no url", "URLs only"),
    ],
)
async def test_what_nothing_is_sent_to(service: Service, url: str, says: str) -> None:
    error = error_of(await service.client.post(PREFIX, json={"url": url}), 400, "WEBHOOK_URL_REFUSED")
    assert says in error["message"]
    webhook_id, _ = await service.subscribe("http://127.0.0.1:9/")
    error_of(await service.client.patch(f"{PREFIX}/{webhook_id}", json={"url": url}), 400, "WEBHOOK_URL_REFUSED")
    assert [each["url"] for each in (await service.get(""))["webhooks"]] == ["http://127.0.0.1:9/"]


async def test_without_the_settings_nothing_local_and_no_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(configured(monkeypatch, tmp_path), tmp_path) as service:
        for url in ("http://example.org/", "https://127.0.0.1/", "https://localhost/"):
            error_of(await service.client.post(PREFIX, json={"url": url}), 400, "WEBHOOK_URL_REFUSED")
    settings.cache_clear()


@pytest.mark.parametrize(
    "body",
    [
        *(
            {},
            {"url": ""},
            {"url": 5},
            {"url": "https://a.example/" + "x" * 2048},
            {"url": "http://127.0.0.1/", "events": []},
        ),
        {"url": "http://127.0.0.1/", "events": ["job.started"]},
        {"url": "http://127.0.0.1/", "kinds": ["Index Video"]},
        {"url": "http://127.0.0.1/", "description": "x" * 201},
    ],
)
async def test_a_malformed_webhook(service: Service, body: dict[str, Any]) -> None:
    error_of(await service.client.post(PREFIX, json=body), 422, "VALIDATION_ERROR")
    assert (await service.get(""))["webhooks"] == []


async def test_a_webhook_is_its_keys_own(service: Service, receiver: Receiver) -> None:
    (one, one_id), (two, _), (admin, _) = [
        await service.key("jobs:read", "jobs:write"),
        await service.key("read", "write"),
        await service.key("admin"),
    ]
    webhook_id, secret = await service.subscribe(receiver.url, one)
    ping = await service.client.post(f"{PREFIX}/{webhook_id}/ping", headers=one)
    delivery_id = ping.json()["delivery_id"]
    for method, path in [
        ("GET", ""),
        ("PATCH", ""),
        ("POST", "/secret"),
        ("POST", "/ping"),
        ("GET", "/deliveries"),
        ("GET", f"/deliveries/{delivery_id}"),
        ("POST", f"/deliveries/{delivery_id}/redeliver"),
        ("DELETE", ""),
    ]:
        body = {"json": {"enabled": False}} if method == "PATCH" else {}
        answer = await service.client.request(method, f"{PREFIX}/{webhook_id}{path}", headers=two, **body)
        error = error_of(answer, 404, "WEBHOOK_NOT_FOUND")
        unknown = await service.client.request(method, f"{PREFIX}/{'0' * 32}{path}", headers=two, **body)
        assert error["message"].replace(webhook_id, "0" * 32) == error_of(unknown, 404, "WEBHOOK_NOT_FOUND")["message"]
    other_id, _ = await service.subscribe(receiver.url, two)
    answer = await service.client.get(f"{PREFIX}/{other_id}/deliveries/{delivery_id}", headers=two)
    error_of(answer, 404, "WEBHOOK_NOT_FOUND")
    assert [each["webhook_id"] for each in (await service.get("", two))["webhooks"]] == [other_id]
    seen = (await service.get("", admin))["webhooks"]
    assert [each["webhook_id"] for each in seen] == [webhook_id, other_id]
    assert seen[0]["owner"] == one_id
    assert (await service.get(f"/{webhook_id}", one))["enabled"]
    answers = [await service.get(path, one) for path in ("", f"/{webhook_id}", f"/{webhook_id}/deliveries")]
    assert secret not in str([answers, await service.context.audit.list()])


async def test_who_may_have_one(service: Service, receiver: Receiver) -> None:
    body = {"url": receiver.url}
    reader, _ = await service.key("jobs:read")
    error_of(await service.client.post(PREFIX, json=body, headers=reader), 403, "FORBIDDEN")
    writer, _ = await service.key("jobs:write")
    error = error_of(await service.client.post(PREFIX, json=body, headers=writer), 403, "FORBIDDEN")
    assert "jobs:read" in error["message"]
    held, _ = await service.key("read", "write", labels=("a",))
    error_of(await service.client.post(PREFIX, json=body, headers=held), 403, "FORBIDDEN")
    error_of(await service.client.post(PREFIX, json=body), 401, "UNAUTHORIZED")
    assert (await service.get("", reader))["webhooks"] == []


async def test_a_key_has_so_many_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    async with serving(configured(monkeypatch, tmp_path, **LOCAL, max_webhooks=3), tmp_path) as service:
        (one, _), (two, _) = [await service.key("read", "write") for _ in range(2)]
        body = {"url": receiver.url}
        answers = await asyncio.gather(*(service.client.post(PREFIX, json=body, headers=one) for _ in range(8)))
        made = [each.json()["webhook"]["webhook_id"] for each in answers if each.status_code == 201]
        assert len((await service.get("", one))["webhooks"]) == len(made) <= 3
        while len(made) < 3:
            made.append((await service.subscribe(receiver.url, one))[0])
        error = error_of(await service.client.post(PREFIX, json=body, headers=one), 403, "QUOTA_EXCEEDED")
        assert "3 webhooks" in error["message"]
        await service.subscribe(receiver.url, two)
        assert (await service.client.delete(f"{PREFIX}/{made[0]}", headers=one)).status_code == 200
        await service.subscribe(receiver.url, one)
    settings.cache_clear()


@pytest.mark.parametrize("way", ["revoked", "expired", "first key"])
async def test_nothing_is_sent_for_who_may_not_call_any_more(service: Service, receiver: Receiver, way: str) -> None:
    if way == "first key":
        webhook_id, _ = await service.subscribe(receiver.url)
        await service.key("read")
    else:
        headers, key_id = await service.key("read", "write")
        webhook_id, _ = await service.subscribe(receiver.url, headers)
        await service.context.keys.revoke(key_id, datetime.now(UTC))
    admin, _ = await service.key("admin")
    await service.end_job()

    async def disabled() -> Any:
        found = await service.get(f"/{webhook_id}", admin)
        return None if found["enabled"] or found["waiting"] else found

    async with working(service.context):
        found = await until(disabled)
    assert "revoked or has expired" in found["disabled_reason"]
    assert receiver.got == []


async def test_a_secret_is_replaced_while_events_go_on(service: Service, receiver: Receiver) -> None:
    webhook_id, first = await service.subscribe(receiver.url)
    answer = await service.client.post(f"{PREFIX}/{webhook_id}/secret")
    second = answer.json()["secret"]
    until = datetime.fromisoformat(answer.json()["previous_until"]) - datetime.now(UTC)
    assert timedelta(hours=23) < until <= timedelta(hours=24)
    await service.client.post(f"{PREFIX}/{webhook_id}/ping")
    third = (await service.client.post(f"{PREFIX}/{webhook_id}/secret", json={"grace_s": 0})).json()["secret"]
    await service.client.post(f"{PREFIX}/{webhook_id}/ping")
    signed = [[each.is_signed_with(secret) for secret in (first, second, third)] for each in receiver.got]
    assert signed == [[True, True, False], [False, False, True]]
    assert len({first, second, third}) == 3
    for grace_s in (-1, 8 * 24 * 3600, "1", True):
        refused = await service.client.post(f"{PREFIX}/{webhook_id}/secret", json={"grace_s": grace_s})
        error_of(refused, 422, "VALIDATION_ERROR")


async def test_a_ping_says_at_once_what_came_of_it(service: Service) -> None:
    status = "200 OK"
    async with receiving(answer=lambda _: (status, [])) as receiver:
        webhook_id, secret = await service.subscribe(receiver.url)
        await service.change(webhook_id, enabled=False)
        delivered = (await service.client.post(f"{PREFIX}/{webhook_id}/ping")).json()
        status = "500 No"
        failed = (await service.client.post(f"{PREFIX}/{webhook_id}/ping")).json()
    assert [(each["status"], each["error"]) for each in (delivered, failed)] == [
        ("delivered", None),
        ("failed", "it answered 500"),
    ]
    (got, _) = receiver.got
    assert (got.event["type"], got.event["data"]) == ("webhook.ping", {"webhook_id": webhook_id})
    assert got.is_signed_with(secret)
    async with working(service.context):
        await asyncio.sleep(0.1)
    assert len(receiver.got) == 2  # it is not tried again
    assert [each["delivery_id"] for each in (await service.get(f"/{webhook_id}/deliveries"))["deliveries"]] == [
        failed["delivery_id"],
        delivered["delivery_id"],
    ]


async def test_a_delivery_is_repeated_with_the_same_event(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "GIVE_UP", timedelta(0))
    status = "500 No"
    async with receiving(answer=lambda _: (status, [])) as receiver, working(service.context):
        webhook_id, _ = await service.subscribe(receiver.url)
        await service.end_job()
        (failed,) = await service.ended(webhook_id)
        status = "200 OK"
        path = f"{PREFIX}/{webhook_id}/deliveries/{failed['delivery_id']}/redeliver"
        for number in (2, 3):
            again = await service.client.post(path)
            assert (again.status_code, again.json()["status"]) == (202, "waiting")
            await service.ended(webhook_id, number)
        found = await service.ended(webhook_id, 3)
    assert [each["status"] for each in found] == ["delivered", "delivered", "failed"]
    assert {each["event_id"] for each in found} == {failed["event_id"]}
    assert len({(each.body, each.headers["webhook-id"]) for each in receiver.got}) == 1


async def test_deliveries_are_listed_by_page(service: Service, receiver: Receiver) -> None:
    webhook_id, _ = await service.subscribe(receiver.url)
    made = [(await service.client.post(f"{PREFIX}/{webhook_id}/ping")).json()["delivery_id"] for _ in range(5)]
    seen, after, pages = [], {}, 0
    while True:
        page = await service.get(f"/{webhook_id}/deliveries", limit=2, **after)
        seen += [each["delivery_id"] for each in page["deliveries"]]
        pages += 1
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert (seen, pages) == (made[::-1], 3)
    answer = await service.client.get(f"{PREFIX}/{webhook_id}/deliveries", params={"after": "0" * 32})
    error_of(answer, 404, "WEBHOOK_NOT_FOUND")


async def test_a_webhook_is_changed_and_removed(service: Service, receiver: Receiver) -> None:
    webhook_id, _ = await service.subscribe("http://127.0.0.1:9/", description="old")
    changed = await service.change(
        webhook_id, url=receiver.url, events=["job.cancelled"], kinds=["index-video"], description="new"
    )
    assert (changed["url"], changed["events"], changed["kinds"]) == (receiver.url, ["job.cancelled"], ["index-video"])
    assert changed == await service.get(f"/{webhook_id}")
    assert await service.change(webhook_id) == changed
    found = await service.change(webhook_id, enabled=False)
    assert (found["enabled"], found["disabled_reason"]) == (False, routes.OWN)
    await service.change(webhook_id, enabled=True)
    await service.end_job(1, "cancelled")
    assert await announce(service.context) == 1
    assert (await service.get(f"/{webhook_id}"))["waiting"] == 1
    removed = (await service.client.delete(f"{PREFIX}/{webhook_id}")).json()
    assert removed == {"webhook_id": webhook_id, "deliveries": 1}
    error_of(await service.client.delete(f"{PREFIX}/{webhook_id}"), 404, "WEBHOOK_NOT_FOUND")
    await service.end_job(2, "cancelled")
    async with working(service.context):
        await asyncio.sleep(0.1)
    assert receiver.got == []
    actions = [each.action for each in await service.context.audit.list(object_id=webhook_id)]
    assert actions[::-1] == [
        "POST /api/v1/webhooks",
        *["PATCH /api/v1/webhooks/{webhook_id}"] * 4,
        *["DELETE /api/v1/webhooks/{webhook_id}"] * 2,
    ]


async def test_a_receiver_with_too_much_waiting_is_disabled(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST_WAITING", 3)
    webhook_id, _ = await service.subscribe(receiver.url)
    for number in range(5):
        await service.end_job(number)
    assert await announce(service.context) == 5
    found = await service.get(f"/{webhook_id}")
    assert (found["enabled"], found["waiting"]) == (False, 3)
    assert found["disabled_reason"] == "3 deliveries wait for its receiver."
    assert await service.context.jobs.list_unannounced(1) == []


async def test_records_of_deliveries_go_after_their_days(service: Service, receiver: Receiver) -> None:
    webhook_id, _ = await service.subscribe(receiver.url)
    for _ in range(2):
        await service.client.post(f"{PREFIX}/{webhook_id}/ping")
    (new, old) = await service.context.deliveries.list()
    long_ago = datetime.now(UTC) - timedelta(days=7, seconds=1)
    moved = await service.context.deliveries._change(old.job_id, lambda job: replace(job, finished_at=long_ago))
    assert moved is not None

    async def cleaned() -> bool:
        return len(await service.context.deliveries.list()) == 1

    async with working(service.context):
        await until(cleaned)
    assert [each.job_id for each in await service.context.deliveries.list()] == [new.job_id]


async def test_the_worker_of_jobs_tells_of_them(
    service: Service, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    webhook_id, secret = await service.subscribe(receiver.url)
    await service.end_job()
    running = Worker({})
    await service.ended(webhook_id)
    running.check_health()
    closing = running.__del__()
    assert closing is not None
    await closing
    assert receiver.got[0].is_signed_with(secret)
    assert secret not in caplog.text
