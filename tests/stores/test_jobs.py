"""What every job store has to do."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stores.errors import StoreError
from stores.jobs import MAX_ATTEMPTS, Job, JobStore
from stores.open import Stores
from stores.sqlite.database import SqliteDatabase
from tests.stores.jobs import LONG, claim, nothing_due, now_of, submit


async def test_a_job_comes_back_as_it_was_submitted(jobs: JobStore) -> None:
    payload = {"models": ["ä", "\ud83d"], "limits": {"frames": None, "share": 0.1, "a.b": {"$c": 2**60}}}
    before = datetime.now(UTC)
    job = await submit(jobs, payload=payload)
    assert before <= job.created_at <= datetime.now(UTC)
    assert await jobs.get(job.job_id) == job
    assert job == Job(
        job.job_id, "index", "file 1", "file 1, model 1", payload, created_at=job.created_at, due_at=job.created_at
    )
    assert (job.status, job.progress, job.attempts, job.checkpoint, job.lease_until) == ("queued", 0, 0, {}, None)
    assert len(job.job_id) == 32
    assert await jobs.get("0" * 32) is None


async def test_the_same_work_is_the_same_job(jobs: JobStore) -> None:
    job = await submit(jobs, payload={"first": True})
    assert await submit(jobs, payload={"first": False}) == job
    running = await claim(jobs, "a")
    assert await submit(jobs) == running
    assert await jobs.succeed(job.job_id, "a", {"traces": 3})
    done = await submit(jobs)
    assert (done.status, done.result) == ("succeeded", {"traces": 3})
    assert await nothing_due(jobs)
    others = [await submit(jobs, fingerprint="file 1, model 2"), await submit(jobs, kind="other")]
    assert len({job.job_id, *(other.job_id for other in others)}) == 3


async def test_a_job_that_is_begun_is_nobody_elses(jobs: JobStore) -> None:
    made = await asyncio.gather(*(jobs.begin("index", "film", "run 1", {"by": n}, f"w{n}", LONG) for n in range(8)))
    (job,) = [each for each in made if each is not None]
    assert (job.status, job.attempts, job.worker) == ("running", 1, f"w{job.payload['by']}")
    assert await jobs.get(job.job_id) == job
    assert await nothing_due(jobs)
    assert await jobs.heartbeat(job.job_id, str(job.worker), 0.5, "half", 0.0)
    again = await claim(jobs, "next")
    assert again is not None
    assert (again.job_id, again.attempts, again.progress) == (job.job_id, 2, 0.5)
    assert await jobs.begin("index", "film", "run 1", {}, "late", LONG) is None


async def test_one_of_many_simultaneous_submits_makes_the_job(jobs: JobStore) -> None:
    made = await asyncio.gather(*(submit(jobs, payload={"by": caller}) for caller in range(16)))
    assert len({(job.job_id, job.payload["by"]) for job in made}) == 1
    assert len(await jobs.list()) == 1


async def test_what_failed_or_was_cancelled_is_queued_as_new(jobs: JobStore) -> None:
    first = await submit(jobs)
    await claim(jobs, "a")
    assert await jobs.save_checkpoint(first.job_id, "a", {"frame": 9})
    assert await jobs.fail(first.job_id, "a", "The file is damaged.")
    failed = await now_of(jobs, first)
    assert (failed.status, failed.error, failed.worker) == ("failed", "The file is damaged.", None)

    again = await submit(jobs, payload={"retry": 1})
    assert again.created_at > first.created_at
    fresh = replace(first, payload={"retry": 1}, created_at=again.created_at, due_at=again.due_at)
    assert [end["error"] for end in again.unannounced or ()] == ["The file is damaged."]
    fresh = replace(fresh, unannounced=again.unannounced)
    assert again == fresh == await now_of(jobs, first)

    assert await jobs.cancel(first.job_id) is not None
    assert (await submit(jobs)).status == "queued"
    assert (await claim(jobs, "b")).attempts == 1


async def test_the_job_that_waits_longest_comes_first(jobs: JobStore) -> None:
    made = [await submit(jobs, number) for number in range(20)]
    await submit(jobs, 99, kind="other")
    taken = [await claim(jobs, f"worker {number}") for number in range(20)]
    assert [job.job_id for job in taken] == [job.job_id for job in made]
    assert await nothing_due(jobs)
    assert await jobs.claim("nobody", [], LONG) is None
    other = await jobs.claim("another", ["index", "other"], LONG)
    assert other is not None
    assert other.subject == "file 99"


async def test_an_error_that_may_pass_is_tried_again_after_a_pause(jobs: JobStore) -> None:
    job = await submit(jobs)
    await claim(jobs, "a")
    assert await jobs.heartbeat(job.job_id, "a", 0.5, "working", LONG)
    before = datetime.now(UTC)
    assert await jobs.retry(job.job_id, "a", "The stage is restarting.", 60)
    waiting = await now_of(jobs, job)
    assert (waiting.status, waiting.error, waiting.worker, waiting.progress) == ("queued", None, None, 0.5)
    assert waiting.message == "Attempt 1 failed, and another one follows. The stage is restarting."
    assert timedelta(seconds=60) <= waiting.due_at - before < timedelta(seconds=90)
    assert await nothing_due(jobs)


async def test_the_last_error_is_the_reason_of_the_failure(jobs: JobStore) -> None:
    job = await submit(jobs)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert (await claim(jobs, f"worker {attempt}")).attempts == attempt
        assert await jobs.retry(job.job_id, f"worker {attempt}", f"Frame {attempt} is bad.", 0)
    assert await nothing_due(jobs)
    failed = await now_of(jobs, job)
    assert (failed.status, failed.error) == ("failed", "Gave up after 3 attempts. Frame 3 is bad.")
    assert failed.message == ""
    assert failed.finished_at is not None


async def test_a_released_job_is_the_next_one_and_its_attempt_does_not_count(jobs: JobStore) -> None:
    first, second = await submit(jobs, 1), await submit(jobs, 2)
    for number in range(MAX_ATTEMPTS + 2):
        taken = await claim(jobs, f"worker {number}")
        assert (taken.job_id, taken.attempts) == (first.job_id, 1)
        assert await jobs.save_checkpoint(first.job_id, f"worker {number}", {"frame": number})
        assert await jobs.release(first.job_id, f"worker {number}")
    current = await now_of(jobs, first)
    assert (current.status, current.attempts, current.checkpoint) == ("queued", 0, {"frame": MAX_ATTEMPTS + 1})
    assert (await claim(jobs, "a")).job_id == first.job_id
    assert (await claim(jobs, "b")).job_id == second.job_id


async def test_listing_is_by_age_and_by_what_is_asked_for(jobs: JobStore) -> None:
    made = [await submit(jobs, number, kind="index" if number % 2 else "other") for number in range(7)]
    again = await submit(jobs, 3, kind="again")
    seen: list[Job] = []
    sizes = []
    while page := await jobs.list(after=seen[-1] if seen else None, limit=3):
        seen += page
        sizes.append(len(page))
    assert sizes == [3, 3, 2]
    assert seen == [again, *reversed(made)]
    running = await claim(jobs, "a")
    assert running.subject == "file 1"
    assert await jobs.list(status="running") == [running]
    assert [job.subject for job in await jobs.list(kind="other")] == ["file 6", "file 4", "file 2", "file 0"]
    assert await jobs.list(subject="file 3") == [again, made[3]]
    assert await jobs.list(subject="file 3", kind="index", status="queued") == [made[3]]
    assert await jobs.list(subject="file 3", after=again) == [made[3]]
    assert await jobs.list(subject="nothing") == []


async def test_jobs_are_counted_by_kind_and_status(jobs: JobStore) -> None:
    assert await jobs.count() == []
    first = await submit(jobs, fingerprint="1")
    done = await claim(jobs, "a")
    await submit(jobs, fingerprint="2")
    running = await claim(jobs, "b")
    waiting = [await submit(jobs, fingerprint=str(number)) for number in (3, 4)]
    other = await submit(jobs, kind="other")
    assert done is not None
    assert running is not None
    assert await jobs.succeed(done.job_id, "a", {})
    assert done.job_id == first.job_id
    counts = {(each.kind, each.status): each for each in await jobs.count()}
    assert {key: each.number for key, each in counts.items()} == {
        ("index", "succeeded"): 1,
        ("index", "running"): 1,
        ("index", "queued"): 2,
        ("other", "queued"): 1,
    }
    assert counts["index", "queued"].due_at == min(job.due_at for job in waiting)
    assert counts["other", "queued"].due_at == other.due_at
    unfinished = await jobs.count(finished=False)
    assert sorted(unfinished) == sorted(each for key, each in counts.items() if key[1] != "succeeded")


async def test_a_forgotten_subject_has_no_jobs_and_no_leases(jobs: JobStore) -> None:
    job, other = await submit(jobs, 1), await submit(jobs, 2)
    await submit(jobs, 1, kind="other")
    await claim(jobs, "a")
    assert await jobs.forget("file 1") == 2
    assert await jobs.forget("file 1") == 0
    assert await jobs.list() == [other]
    assert not await jobs.heartbeat(job.job_id, "a", 0, "", LONG)
    assert not await jobs.succeed(job.job_id, "a", {})
    assert (await submit(jobs, 1)).status == "queued"
    assert not await jobs.heartbeat(job.job_id, "a", 0, "", LONG)


@pytest.mark.parametrize("bad", [{"share": float("nan")}, {"thing": object()}, {"bytes": b""}])
async def test_what_is_no_json_is_refused(jobs: JobStore, bad: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        await submit(jobs, payload=bad)
    assert await jobs.list() == []
    await submit(jobs)
    job = await claim(jobs, "a")
    for write in (jobs.save_checkpoint, jobs.succeed):
        with pytest.raises((TypeError, ValueError)):
            await write(job.job_id, "a", bad)
    assert await now_of(jobs, job) == job


async def test_it_answers(jobs: JobStore) -> None:
    await jobs.ping()
    assert jobs.type in {"sqlite", "mongodb"}


async def test_jobs_survive_a_restart(documents_url: str) -> None:
    stores = Stores(documents=documents_url)
    job = await submit(stores.jobs)
    await stores.close()
    await stores.close()
    if documents_url.startswith("sqlite"):
        with pytest.raises(StoreError):
            await submit(stores.jobs)
    reopened = Stores(documents=documents_url)
    assert await reopened.jobs.get(job.job_id) == job
    await reopened.close()


async def test_an_idle_worker_writes_nothing(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "d.sqlite")
    jobs = database.jobs
    await submit(jobs, kind="other")
    before = database.engine.transactions
    for _ in range(5):
        assert await nothing_due(jobs)
    assert database.engine.transactions == before
    await database.close()
