"""Accounts of what keys use: one contract, over every backend."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import cast

import pytest

from stores import usage as module
from stores.open import Stores
from stores.uploads import Upload
from stores.usage import Account, Amounts, Hold, Taken, UsageStore, from_json, to_json
from tests.stores.samples import MOMENT, make_asset

LASTS = timedelta(minutes=1)


@pytest.fixture
def usage(stores: Stores) -> UsageStore:
    return stores.usage


class Counted:
    """Counts of what an owner has, as the stores of assets and jobs give them; ``asked`` how often."""

    def __init__(self, size: int = 0, files: int = 0, jobs: int = 0) -> None:
        self.size, self.files, self.jobs, self.asked = size, files, jobs, 0

    async def stored(self) -> Amounts:
        self.asked += 1
        return {"bytes": self.size, "files": self.files}

    async def working(self) -> Amounts:
        return {"jobs": self.jobs}


async def take(
    usage: UsageStore, counted: Counted, amounts: Amounts, limits: Mapping[str, int], lasts: timedelta = LASTS
) -> Taken:
    return await usage.take("me", amounts, cast(Amounts, limits), lasts, counted.stored, counted.working)


async def used(usage: UsageStore, counted: Counted) -> Amounts:
    return await usage.used("me", counted.stored, counted.working)


async def test_what_is_held_counts_and_what_is_settled_stays(usage: UsageStore) -> None:
    counted = Counted(size=10, files=1)
    limits: Amounts = {"bytes": 100, "files": 3}
    first = await take(usage, counted, {"bytes": 60, "files": 1}, limits)
    assert first.hold
    assert first.used["bytes"] == 10
    refused = await take(usage, counted, {"bytes": 31, "files": 1}, limits)
    assert (refused.hold, refused.over, refused.used["bytes"]) == (None, "bytes", 70)
    second = await take(usage, counted, {"bytes": 30, "files": 1}, limits)
    assert second.hold
    assert (await take(usage, counted, {"bytes": 0, "files": 1}, limits)).over == "files"
    await usage.settle("me", first.hold, {"bytes": 60, "files": 1})
    await usage.settle("me", second.hold, {})  # its file came to nothing
    assert await used(usage, counted) == {"bytes": 70, "files": 2, "jobs": 0, "videos": 0}
    mark = await usage.mark_change("me", LASTS)
    assert mark
    await usage.settle("me", mark, {"bytes": -60, "files": -1})
    assert (await used(usage, counted))["bytes"] == 10
    assert counted.asked == 1
    assert (await usage.used("another", counted.stored, counted.working))["bytes"] == 10  # not known: counted


async def test_whoever_is_killed_loses_no_count(usage: UsageStore) -> None:
    counted = Counted()
    limits: Amounts = {"bytes": 100}
    held = await take(usage, counted, {"bytes": 80}, limits, timedelta(seconds=0.2))
    counted.size = 80  # it was stored, and the process killed before it said so
    assert (await take(usage, counted, {"bytes": 30}, limits)).used["bytes"] == 80
    await asyncio.sleep(0.25)
    late = await take(usage, counted, {"bytes": 30}, limits)
    assert (late.hold, late.used["bytes"], counted.asked) == (None, 80, 2)
    assert (await take(usage, counted, {"bytes": 20}, limits)).hold
    # It was not killed after all: what it says now is not added, and all is counted again.
    counted.size = 100
    assert held.hold
    await usage.settle("me", held.hold, {"bytes": 80})
    assert (await usage.used("me", counted.stored, counted.working))["bytes"] == 120  # 20 of them are still held
    assert counted.asked == 3


async def test_a_count_that_saw_half_of_a_change_is_not_believed(usage: UsageStore) -> None:
    counted, limits = Counted(), {"bytes": 100}
    first = await take(usage, counted, {"bytes": 10}, limits)
    assert first.hold
    await usage.forget_sum("me")
    counted.size = 10
    second = await take(usage, counted, {"bytes": 10}, limits)
    assert second.used["bytes"] == 20  # the first one is there and held: counted twice, never not at all
    await usage.settle("me", first.hold, {"bytes": 10})
    assert second.hold
    counted.size = 20
    await usage.settle("me", second.hold, {"bytes": 10})
    assert await used(usage, counted) == {"bytes": 20, "files": 0, "jobs": 0, "videos": 0}
    await take(usage, counted, {"bytes": 1}, limits)
    asked = counted.asked
    await take(usage, counted, {"bytes": 1}, limits)
    assert counted.asked == asked


async def test_the_sum_is_counted_again_from_time_to_time(usage: UsageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(size=5)
    assert (await take(usage, counted, {"bytes": 1}, {"bytes": 9}, timedelta(0))).hold
    assert (await take(usage, counted, {"jobs": 1}, {"jobs": 9})).hold
    monkeypatch.setattr(module, "BELIEVED", timedelta(0))
    counted.size = 9
    assert (await used(usage, counted))["bytes"] == 9


async def test_jobs_are_those_of_the_records_and_those_on_their_way(usage: UsageStore) -> None:
    counted, limits = Counted(jobs=2), {"jobs": 4}
    holds = [await take(usage, counted, {"jobs": 1}, limits) for _ in range(3)]
    assert [each.over for each in holds] == [None, None, "jobs"]
    assert holds[2].used["jobs"] == 4
    assert holds[0].hold
    await usage.settle("me", holds[0].hold, {})
    assert (await take(usage, counted, {"jobs": 1}, limits)).hold
    assert counted.asked == 0


async def test_videos_count_by_the_day(usage: UsageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, limits = Counted(), {"videos": 2}
    first = await take(usage, counted, {"videos": 1}, limits)
    second = await take(usage, counted, {"videos": 1}, limits)
    assert (await take(usage, counted, {"videos": 1}, limits)).over == "videos"
    assert first.hold
    assert second.hold
    await usage.settle("me", first.hold, {"videos": -1})  # it could not be judged
    await usage.settle("me", second.hold, {})
    assert (await used(usage, counted))["videos"] == 1
    monkeypatch.setattr(module, "day_of", lambda _: "2999-01-01")
    assert (await used(usage, counted))["videos"] == 0


async def test_no_limit_is_passed_by_many_at_once(documents_url: str, usage: UsageStore) -> None:
    others = [Stores(documents=documents_url) for _ in range(3)]
    everyone = [usage, *(each.usage for each in others)]
    counted = Counted()
    taken = await asyncio.gather(
        *(take(everyone[n % 4], counted, {"bytes": 10, "files": 1, "videos": 1}, {"bytes": 75}) for n in range(20))
    )
    assert sum(each.hold is not None for each in taken) == 7
    assert {each.over for each in taken} == {None, "bytes"}
    assert (await used(usage, counted))["videos"] == 7
    for each in others:
        await each.close()


async def test_nobody_has_an_account_before_something_was_taken(usage: UsageStore) -> None:
    assert await usage.mark_change("me", LASTS) is None
    await usage.forget_sum("me")
    await usage.settle("me", "gone", {"bytes": 1})
    assert await used(usage, Counted(size=3)) == {"bytes": 3, "files": 0, "jobs": 0, "videos": 0}


def test_an_account_is_stored_as_it_is() -> None:
    whole = Account("me", {"bytes": 1, "files": 2}, MOMENT, "2026-01-15", 3, {"a": Hold({"jobs": 1}, MOMENT)})
    assert from_json("me", to_json(whole)) == whole
    assert from_json("me", to_json(Account("me"))) == Account("me")


async def test_uploads_and_jobs_know_their_owner(stores: Stores) -> None:
    documents, jobs = stores.documents, stores.jobs
    assets = [make_asset(number) for number in (1, 2, 3)]
    for asset in assets:
        await documents.insert_asset(asset, "me")
    assert await documents.add_upload(assets[0].asset_id, Upload("you", "x", MOMENT)) == "added"
    assert await documents.add_upload(assets[0].asset_id, Upload("you", "y", MOMENT)) == "there"
    assert await documents.add_upload("f" * 32, Upload("you", "y", MOMENT)) == ""
    size = assets[0].file_size
    assert await documents.uploaded_by("me") == (3, size + assets[1].file_size + assets[2].file_size)
    assert await documents.uploaded_by("you") == (1, size)
    assert await documents.uploaded_by("them") == (0, 0)
    assert await documents.withdraw(assets[0].asset_id, "me", {"me", "you"}) == "withdrawn"
    assert await documents.withdraw(assets[1].asset_id, "me", {"me", "you"}) == "last"
    assert await documents.uploaded_by("me") == (1, assets[2].file_size)
    first = await jobs.submit("index", "a", "1", {}, "me")
    await jobs.submit("index", "b", "2", {})
    assert (await jobs.submit("index", "a", "1", {}, "you")).owner == "me"
    assert [await jobs.count_unfinished(each) for each in ("me", "you")] == [1, 0]
    assert (await jobs.cancel(first.job_id)) is not None
    assert await jobs.count_unfinished("me") == 0
    assert (await jobs.submit("index", "a", "1", {}, "you")).owner == "you"
    assert [await jobs.count_unfinished(each) for each in ("me", "you")] == [0, 1]


async def test_ended_jobs_are_removed_when_they_are_old(stores: Stores) -> None:
    jobs = stores.jobs
    made = [await jobs.submit(kind, f"{number}", f"{number}", {}) for number, kind in enumerate(["a", "a", "b", "b"])]
    for job in made[:3]:
        await jobs.cancel(job.job_id)
    assert await jobs.delete_finished(made[0].created_at, 10) == 0
    later = made[0].created_at + timedelta(hours=1)
    assert await jobs.delete_finished(later, 1, "a") == 1
    assert await jobs.delete_finished(later, 10, "a") == 1
    assert await jobs.delete_finished(later, 10) == 1
    assert [job.job_id for job in await jobs.list()] == [made[3].job_id]
