"""What every job store promises of leases: one at a time, whoever dies, is late or cancels."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from stores.jobs import MAX_ATTEMPTS, JobStore
from tests.stores.children import spawn
from tests.stores.jobs import LONG, OVER, claim, nothing_due, now_of, submit


async def test_a_claim_is_a_lease_and_an_attempt(jobs: JobStore) -> None:
    await submit(jobs)
    before = datetime.now(UTC)
    job = await claim(jobs, "a", lease_s=60)
    after = datetime.now(UTC)
    assert job.attempts == 1
    assert job.started_at is not None
    assert before <= job.started_at <= after
    assert job.lease_until == job.started_at + timedelta(seconds=60)
    assert await now_of(jobs, job) == job


async def test_of_many_who_claim_at_once_one_gets_the_job(jobs: JobStore) -> None:
    made = {(await submit(jobs, number)).job_id for number in range(5)}
    claims = [jobs.claim(f"worker {number}", ["index"], LONG) for number in range(24)]
    taken = [job for job in await asyncio.gather(*claims) if job is not None]
    assert sorted(job.job_id for job in taken) == sorted(made)
    assert len({job.worker for job in taken}) == 5


async def test_a_certain_job_is_claimed_where_it_is_due(jobs: JobStore) -> None:
    first, second = await submit(jobs, 1), await submit(jobs, 2)
    job = await jobs.claim_job(second.job_id, "a", LONG)
    assert job is not None
    assert (job.job_id, job.status, job.worker, job.attempts) == (second.job_id, "running", "a", 1)
    assert await jobs.claim_job(second.job_id, "b", LONG) is None
    assert await jobs.claim_job("unknown", "b", LONG) is None
    assert (await claim(jobs, "b")).job_id == first.job_id
    assert await jobs.succeed(first.job_id, "b", {})
    assert await jobs.claim_job(first.job_id, "c", LONG) is None
    assert await jobs.retry(second.job_id, "a", "Broken.", LONG)
    assert await jobs.claim_job(second.job_id, "c", LONG) is None


async def test_a_certain_job_that_was_begun_too_often_ends_when_it_is_claimed(jobs: JobStore) -> None:
    job = await submit(jobs)
    for number in range(MAX_ATTEMPTS):
        assert await jobs.claim_job(job.job_id, f"worker {number}", OVER) is not None
    assert await jobs.claim_job(job.job_id, "one more", LONG) is None
    assert (await now_of(jobs, job)).status == "failed"


async def test_of_many_who_claim_a_certain_job_one_gets_it(jobs: JobStore) -> None:
    job_id = (await submit(jobs)).job_id
    claims = [jobs.claim_job(job_id, f"worker {number}", LONG) for number in range(12)]
    assert sum(job is not None for job in await asyncio.gather(*claims)) == 1


async def test_processes_that_claim_at_once_get_every_job_once(jobs: JobStore, documents_url: str) -> None:
    made = {(await submit(jobs, number)).job_id for number in range(80)}
    children = [spawn("claim_jobs", documents_url, f"process-{number}") for number in range(4)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    taken = [child.communicate(timeout=120)[0].split() for child in children]
    assert [child.returncode for child in children] == [0] * 4
    assert sum(map(len, taken)) == 80
    assert {job_id for ids in taken for job_id in ids} == made
    by = {job.job_id: (job.attempts, (job.result or {})["by"]) for job in await jobs.list()}
    assert by == {job_id: (1, f"process-{number}") for number, ids in enumerate(taken) for job_id in ids}


async def test_a_heartbeat_renews_the_lease(jobs: JobStore) -> None:
    job = await submit(jobs)
    await claim(jobs, "a", lease_s=0.05)
    assert await jobs.heartbeat(job.job_id, "a", 0.25, "Frame 25 of 100", LONG)
    await asyncio.sleep(0.06)
    assert await nothing_due(jobs)
    current = await now_of(jobs, job)
    assert (current.progress, current.message) == (0.25, "Frame 25 of 100")
    assert current.lease_until is not None
    assert current.lease_until > datetime.now(UTC) + timedelta(seconds=LONG - 10)


async def test_a_lease_that_is_over_is_renewed_unless_somebody_took_the_job(jobs: JobStore) -> None:
    job = await submit(jobs)
    await claim(jobs, "a", OVER)
    assert await jobs.heartbeat(job.job_id, "a", 0, "", OVER)
    assert (await claim(jobs, "b")).attempts == 2
    assert not await jobs.heartbeat(job.job_id, "a", 0, "", LONG)


async def test_who_lost_the_lease_changes_nothing(jobs: JobStore) -> None:
    job = await submit(jobs)
    await claim(jobs, "a", OVER)
    assert await jobs.save_checkpoint(job.job_id, "a", {"frame": 100})
    now = await claim(jobs, "b")
    assert (now.attempts, now.checkpoint) == (2, {"frame": 100})
    for worker in ("a", "nobody"):
        assert not await jobs.heartbeat(job.job_id, worker, 0.9, "mine", LONG)
        assert not await jobs.save_checkpoint(job.job_id, worker, {"frame": 50})
        assert not await jobs.succeed(job.job_id, worker, {})
        assert not await jobs.fail(job.job_id, worker, "mine")
        assert not await jobs.retry(job.job_id, worker, "mine", 0)
        assert not await jobs.release(job.job_id, worker)
        assert await now_of(jobs, job) == now
    assert await jobs.succeed(job.job_id, "b", {"traces": 1})
    done = await now_of(jobs, job)
    assert not await jobs.succeed(job.job_id, "b", {"traces": 2})
    assert not await jobs.heartbeat(job.job_id, "b", 0, "", LONG)
    assert await now_of(jobs, job) == done
    assert (done.status, done.progress, done.result, done.worker) == ("succeeded", 1, {"traces": 1}, None)
    assert done.finished_at is not None


async def test_a_job_whose_workers_die_fails_after_its_last_attempt(jobs: JobStore) -> None:
    job = await submit(jobs)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert (await claim(jobs, f"worker {attempt}", OVER)).attempts == attempt
    assert await nothing_due(jobs)
    failed = await now_of(jobs, job)
    assert (failed.status, failed.attempts) == ("failed", 3)
    assert failed.error == "Gave up after 3 attempts. Its worker died."
    assert not await jobs.heartbeat(job.job_id, "worker 3", 0, "", LONG)
    assert await now_of(jobs, job) == failed


async def test_a_killed_process_loses_its_job_with_its_lease(jobs: JobStore, documents_url: str) -> None:
    job = await submit(jobs)
    for attempt, lease_s in ((1, 2.0), (2, 0.3), (3, 0.3)):
        with spawn("hold_job", documents_url, f"process {attempt}", str(lease_s)) as child:
            assert child.stdout is not None
            assert (await asyncio.to_thread(child.stdout.readline)).strip() == job.job_id
            if attempt == 1:
                await asyncio.sleep(lease_s + 0.3)
                assert await nothing_due(jobs)  # it is alive, and renews its lease
            child.kill()
        current = await now_of(jobs, job)
        assert (current.status, current.attempts, current.checkpoint) == ("running", attempt, {"frame": 100 * attempt})
        assert current.lease_until is not None
        await asyncio.sleep(max(0.0, (current.lease_until - datetime.now(UTC)).total_seconds()) + 0.01)
    assert await nothing_due(jobs)
    failed = await now_of(jobs, job)
    assert (failed.status, failed.error) == ("failed", "Gave up after 3 attempts. Its worker died.")


async def test_a_queued_job_is_cancelled_at_once(jobs: JobStore) -> None:
    job = await submit(jobs)
    cancelled = await jobs.cancel(job.job_id)
    assert cancelled is not None
    assert (cancelled.status, cancelled.attempts) == ("cancelled", 0)
    assert cancelled.finished_at is not None
    assert await now_of(jobs, job) == cancelled
    assert await nothing_due(jobs)
    assert await jobs.cancel(job.job_id) is None
    assert await jobs.cancel("0" * 32) is None


@pytest.mark.parametrize("ending", ["release", "retry", "lease over"])
async def test_a_running_job_is_cancelled_when_its_worker_lets_go(jobs: JobStore, ending: str) -> None:
    job = await submit(jobs)
    await claim(jobs, "a", 0.2 if ending == "lease over" else LONG)
    asked = await jobs.cancel(job.job_id)
    assert asked is not None
    assert (asked.status, asked.cancel_requested, asked.worker) == ("running", True, "a")
    assert "Being cancelled" in asked.message
    assert not await jobs.heartbeat(job.job_id, "a", 0.5, "still at it", LONG)
    assert await now_of(jobs, job) == asked
    if ending == "release":
        assert await jobs.release(job.job_id, "a")
    elif ending == "retry":
        assert await jobs.retry(job.job_id, "a", "interrupted", 0)
    else:
        await asyncio.sleep(0.21)
        assert await nothing_due(jobs)
    cancelled = await now_of(jobs, job)
    assert (cancelled.status, cancelled.error, cancelled.worker) == ("cancelled", None, None)
    assert (cancelled.cancel_requested, cancelled.message) == (False, "")
    assert await jobs.cancel(job.job_id) is None


async def test_a_job_whose_worker_died_is_cancelled_at_once(jobs: JobStore) -> None:
    job = await submit(jobs)
    await claim(jobs, "a", OVER)
    cancelled = await jobs.cancel(job.job_id)
    assert cancelled is not None
    assert cancelled.status == "cancelled"
    assert not await jobs.heartbeat(job.job_id, "a", 0, "", LONG)


async def test_cancelling_comes_too_late_for_work_that_is_done(jobs: JobStore) -> None:
    job = await submit(jobs)
    await claim(jobs, "a")
    await jobs.cancel(job.job_id)
    assert await jobs.succeed(job.job_id, "a", {"traces": 1})
    assert (await now_of(jobs, job)).status == "succeeded"
    assert await jobs.cancel(job.job_id) is None
    assert (await now_of(jobs, job)).status == "succeeded"


async def test_submitting_again_takes_the_cancelling_back(jobs: JobStore) -> None:
    job = await submit(jobs)
    await claim(jobs, "a")
    await jobs.save_checkpoint(job.job_id, "a", {"frame": 7})
    await jobs.cancel(job.job_id)
    again = await submit(jobs)
    assert (again.status, again.cancel_requested, again.worker, again.message) == ("running", False, "a", "")
    # A worker that has stopped already lets go of it, and it resumes elsewhere.
    assert await jobs.release(job.job_id, "a")
    assert (await claim(jobs, "b")).checkpoint == {"frame": 7}


async def test_a_cancel_and_a_claim_at_once_leave_no_job_running_unasked(jobs: JobStore) -> None:
    for number in range(40):
        job = await submit(jobs, number)
        calls = [jobs.claim(f"worker {number}", ["index"], LONG), jobs.cancel(job.job_id)]
        if number % 2:
            calls.reverse()
        await asyncio.gather(*calls)
        current = await now_of(jobs, job)
        assert current.status == "cancelled" or (current.status == "running" and current.cancel_requested)
        if current.status == "running":
            assert not await jobs.heartbeat(job.job_id, f"worker {number}", 0, "", LONG)
            assert await jobs.release(job.job_id, f"worker {number}")
