"""Deliveries of webhooks: what is posted, again after failures, across crashes, to slow and hostile receivers."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from configs.settings import settings
from graphs.jobs.webhooks import deliveries, outbox
from graphs.jobs.webhooks.outbox import announce
from stores.errors import StoreError
from stores.jobs import Job, JobStatus, JobStore
from tests.graphs.harness import configured
from tests.graphs.receiver import Receiver, receiving
from tests.graphs.webhooks import LOCAL, PREFIX, Service, at_once, receiver, service, serving, working
from tests.waiting import until

__all__ = ["at_once", "receiver", "service"]  # the fixtures


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
