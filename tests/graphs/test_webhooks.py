"""Webhooks over HTTP: which URLs are taken, whose they are, secrets, pings, repeats, and how long records are kept."""

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from configs.settings import settings
from graphs.jobs.webhooks import deliveries, outbox, routes
from graphs.jobs.webhooks.outbox import announce
from graphs.jobs.worker import Worker
from tests.graphs.harness import configured
from tests.graphs.receiver import Receiver, receiving
from tests.graphs.samples import error_of
from tests.graphs.webhooks import LOCAL, PREFIX, Service, at_once, receiver, service, serving, working
from tests.waiting import until

__all__ = ["at_once", "receiver", "service"]  # the fixtures


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
