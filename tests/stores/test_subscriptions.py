"""Subscriptions, the ends of jobs that they are told of, and their deliveries: one contract, over every backend."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stores.deletion import delete_derived
from stores.jobs import JobStore
from stores.open import Stores
from stores.subscriptions import SigningSecret, Subscription, Subscriptions, new_secret
from tests.stores.jobs import LONG, OVER, claim, submit

NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def subscriptions(stores: Stores) -> Subscriptions:
    return stores.subscriptions


def subscription(number: int, owner: str = "me") -> Subscription:
    secrets = (SigningSecret(f"whsec_{number}"), SigningSecret("whsec_old", NOW))
    return Subscription(
        f"{number:032x}", owner, f"https://{number}.example/ä", ("job.failed",), secrets, NOW + number * HOUR
    )


async def test_subscriptions_come_back_as_they_were_and_oldest_first(subscriptions: Subscriptions) -> None:
    given = [
        subscription(2),
        replace(
            subscription(1, owner=""),
            kinds=("index-video", "retention"),
            events=("job.succeeded", "job.cancelled"),
            description="ä 'b'",
            delivered_at=NOW,
            failing_since=NOW + HOUR,
            disabled_at=NOW + 2 * HOUR,
            disabled_reason="why",
        ),
        subscription(3, "other"),
    ]
    for each in given:
        await subscriptions.insert(each)
    assert await subscriptions.list() == [given[1], given[0], given[2]]
    assert await subscriptions.list("me") == [given[0]]
    assert await subscriptions.list("") == [given[1]]
    assert [await subscriptions.get(each.subscription_id) for each in given] == given
    assert await subscriptions.get("unknown") is None


async def test_a_change_writes_the_fields_that_it_names_and_no_others(subscriptions: Subscriptions) -> None:
    one, two = subscription(1), subscription(2)
    for each in (one, two):
        await subscriptions.insert(each)
    stale = replace(one, url="https://stale.example", failing_since=NOW)
    assert await subscriptions.set(stale, "failing_since")
    rotated = replace(one, secrets=(new_secret(), SigningSecret("whsec_1", NOW + HOUR)), failing_since=None)
    assert await subscriptions.set(rotated, "secrets")
    assert await subscriptions.list() == [replace(one, failing_since=NOW, secrets=rotated.secrets), two]
    assert await subscriptions.delete(one.subscription_id)
    assert not await subscriptions.delete(one.subscription_id)
    assert not await subscriptions.set(stale, "url")
    assert await subscriptions.list() == [two]


def test_a_secret_is_random_and_in_no_text_of_its_subscription() -> None:
    made = [new_secret().secret for _ in range(3)]
    assert len(set(made)) == 3
    assert {(each[:6], len(each)) for each in made} == {("whsec_", 50)}  # 32 bytes in base64
    assert made[0] not in repr(replace(subscription(1), secrets=(SigningSecret(made[0]),)))
    assert SigningSecret("x", NOW).signs(NOW - HOUR)
    assert not SigningSecret("x", NOW).signs(NOW)


async def test_every_end_of_a_job_is_kept_until_it_was_announced(jobs: JobStore) -> None:
    job = await submit(jobs)
    assert await jobs.list_unannounced(10) == []
    await claim(jobs, "a")
    assert await jobs.fail(job.job_id, "a", "The file is damaged.")
    again = await submit(jobs, owner="me")
    await claim(jobs, "b")
    assert await jobs.succeed(job.job_id, "b", {"traces": 3})

    (found,) = await jobs.list_unannounced(10)
    ends = found.unannounced
    assert ends is not None
    failed, succeeded = (found.as_of(end) for end in ends)
    assert (failed.status, failed.error, failed.result, failed.owner) == ("failed", "The file is damaged.", None, "")
    assert (succeeded.status, succeeded.error, succeeded.result) == ("succeeded", None, {"traces": 3})
    assert (failed.created_at, succeeded.created_at, succeeded.owner) == (job.created_at, again.created_at, "me")
    assert failed.finished_at is not None
    assert failed.finished_at < again.created_at
    assert succeeded == replace(found, unannounced=None)

    assert await jobs.announced(job.job_id, ends[:1])
    (left,) = await jobs.list_unannounced(10)
    assert left.unannounced == ends[1:]
    assert await jobs.announced(job.job_id, ends)
    assert await jobs.list_unannounced(10) == []
    assert (await submit(jobs)).status == "succeeded"
    assert not await jobs.announced("unknown", ends)


@pytest.mark.parametrize("ending", ["cancelled in the queue", "cancelled at work", "no attempt left"])
async def test_a_job_ends_in_many_ways_and_each_is_kept(jobs: JobStore, ending: str) -> None:
    job = await submit(jobs)
    if ending == "cancelled at work":
        await claim(jobs, "a")
        await jobs.cancel(job.job_id)
        assert await jobs.list_unannounced(10) == []
        await jobs.release(job.job_id, "a")
    elif ending == "cancelled in the queue":
        await jobs.cancel(job.job_id)
    else:
        for attempt in range(3):
            await claim(jobs, f"{attempt}", OVER)
        assert await jobs.claim("late", ["index"], LONG) is None
    (found,) = await jobs.list_unannounced(10)
    (end,) = found.unannounced or ()
    assert end["status"] == ("failed" if ending == "no attempt left" else "cancelled")


async def test_of_many_who_announce_at_once_nobody_loses_an_end(jobs: JobStore) -> None:
    made = [await submit(jobs, number) for number in range(4)]
    for job in made:
        await jobs.cancel(job.job_id)
    found = await jobs.list_unannounced(10)
    assert len(found) == 4
    assert len(await jobs.list_unannounced(3)) == 3
    await asyncio.gather(
        *(jobs.announced(each.job_id, each.unannounced or ()) for each in found for _ in range(3)),
        *(submit(jobs, number) for number in range(4)),
    )
    assert await jobs.list_unannounced(10) == []
    assert [job.status for job in await jobs.list()] == ["queued"] * 4


async def test_deliveries_are_jobs_apart_whose_ends_nobody_announces(stores: Stores) -> None:
    jobs, deliveries = stores.jobs, stores.deliveries
    made = [await submit(deliveries, number, owner=f"owner {number % 2}") for number in range(4)]
    assert await jobs.list() == []
    assert await jobs.get(made[0].job_id) is None
    assert await jobs.claim("w", ["index"], LONG) is None
    assert [job.job_id for job in await deliveries.list(owner="owner 1")] == [made[3].job_id, made[1].job_id]
    assert await deliveries.count_unfinished("owner 0") == 2
    for number in range(2):
        got = await deliveries.claim(f"w{number}", ["index"], LONG, ["owner 1", "somebody"])
        assert got is not None
        assert got.owner == "owner 0"
    assert await deliveries.claim("w2", ["index"], LONG, ["owner 1"]) is None
    assert await deliveries.succeed(made[0].job_id, "w0", {})
    assert await deliveries.list_unannounced(10) == []
    assert await deliveries.forget_owner("owner 1") == 2
    assert [each.owner for each in await deliveries.list()] == ["owner 0"] * 2
    assert await deliveries.delete_finished(datetime.now(UTC) + HOUR, 10) == 1
    assert (await stores.deliveries.count(finished=False))[0].number == 1


async def test_what_was_deleted_is_not_announced(stores: Stores) -> None:
    asset = "a" * 32
    job = await submit(stores.jobs, subject=asset)
    await stores.jobs.cancel(job.job_id)
    await submit(stores.deliveries, subject=asset, payload={"about": asset}, owner="it")
    await submit(stores.deliveries, 2, owner="it")
    assert set(await stores.mentions(asset)) == {"jobs", "deliveries"}
    await delete_derived(stores, asset)
    assert await stores.jobs.list_unannounced(10) == []
    assert await stores.mentions(asset) == {}
    assert await stores.deliveries.count_unfinished("it") == 1
