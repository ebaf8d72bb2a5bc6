"""The job runner on a real store: what becomes of a job, whatever its function does."""

import asyncio
import time
from typing import Any

import pytest

from graphs.jobs.runner import JobContext, Timing
from stores.jobs import Job
from tests.unit.graphs.jobs.running_jobs import Jobs, Run, finished, submit
from tests.waiting import until
from vision.errors import InvalidMedia, StageOverloaded


async def test_a_job_is_done_and_tells_how_far_it_is(jobs: Jobs, run: Run) -> None:
    going_on = asyncio.Event()

    async def work(job: JobContext) -> dict[str, Any]:
        assert (job.subject, job.payload, job.checkpoint, job.attempt) == ("file 1", {"fps": 5}, {}, 1)
        await asyncio.to_thread(job.progress, 0.25, "Frame 25 of 100")
        await going_on.wait()
        for share in (float("nan"), -1, 7.0):
            job.progress(share, "\ud83d" * 1000)
        return {"traces": 2}

    run(work)
    job_id = await submit(jobs, fps=5)

    async def reported() -> bool:
        job = await jobs.get(job_id)
        return job is not None and (job.status, job.progress, job.message) == ("running", 0.25, "Frame 25 of 100")

    await until(reported)
    going_on.set()
    done = await finished(jobs, job_id, "succeeded")
    assert (done.progress, done.result, done.attempts, done.error) == (1, {"traces": 2}, 1, None)


async def test_progress_is_written_now_and_then_however_often_it_is_reported(jobs: Jobs, run: Run) -> None:
    async def work(job: JobContext) -> dict[str, Any]:
        started = time.monotonic()
        for number in range(200):
            job.progress(number / 200)
            await asyncio.sleep(0.001)
        return {"took": time.monotonic() - started}

    run(work, Timing(progress_s=0.05))
    done = await finished(jobs, await submit(jobs), "succeeded")
    assert 1 <= jobs.heartbeats <= (done.result or {})["took"] / 0.05 + 1


async def test_the_next_attempt_goes_on_from_the_checkpoint(jobs: Jobs, run: Run) -> None:
    seen = []

    async def work(job: JobContext) -> dict[str, Any]:
        seen.append((job.attempt, dict(job.checkpoint)))
        await job.save({"frame": 100 * job.attempt})
        assert job.checkpoint == {"frame": 100 * job.attempt}
        if job.attempt < 3:
            raise StageOverloaded("people/faces is at its queue limit; try again in a second.")
        return {}

    run(work)
    await finished(jobs, await submit(jobs), "succeeded")
    assert seen == [(1, {}), (2, {"frame": 100}), (3, {"frame": 200})]


async def test_bad_input_fails_at_once_with_its_reason(jobs: Jobs, run: Run) -> None:
    async def work(_: JobContext) -> dict[str, Any]:
        raise InvalidMedia("No frame of this file decodes.")

    run(work)
    failed = await finished(jobs, await submit(jobs), "failed")
    assert (failed.error, failed.attempts) == ("No frame of this file decodes.", 1)


async def test_what_never_passes_fails_with_the_last_reason(jobs: Jobs, run: Run) -> None:
    async def work(job: JobContext) -> dict[str, Any]:
        raise StageOverloaded(f"The queue was full {job.attempt} times.")

    run(work)
    failed = await finished(jobs, await submit(jobs), "failed")
    assert (failed.error, failed.attempts) == ("Gave up after 3 attempts. The queue was full 3 times.", 3)


async def test_a_bug_is_tried_again_and_tells_nothing_of_the_inside(jobs: Jobs, run: Run) -> None:
    async def work(_: JobContext) -> dict[str, Any]:
        raise KeyError("/srv/secret.py")

    run(work)
    failed = await finished(jobs, await submit(jobs), "failed")
    assert failed.attempts == 3
    reason = "It failed unexpectedly (KeyError); the log of its worker has the cause."
    assert failed.error == f"Gave up after 3 attempts. {reason}"


@pytest.mark.parametrize("result", [{"share": float("inf")}, {"thing": object()}])
async def test_a_result_that_cannot_be_kept_is_a_bug(jobs: Jobs, run: Run, result: dict[str, Any]) -> None:
    async def work(_: JobContext) -> dict[str, Any]:
        return result

    runner = run(work)
    assert "unexpectedly" in str((await finished(jobs, await submit(jobs), "failed")).error)
    runner.check_health()


async def test_a_function_that_cancels_itself_has_failed(jobs: Jobs, run: Run) -> None:
    async def work(_: JobContext) -> dict[str, Any]:
        raise asyncio.CancelledError

    run(work)
    assert "(CancelledError)" in str((await finished(jobs, await submit(jobs), "failed")).error)


async def test_a_pause_before_every_further_attempt(jobs: Jobs, run: Run) -> None:
    async def work(_: JobContext) -> dict[str, Any]:
        raise StageOverloaded("Full.")

    run(work, Timing(retry_s=1000))
    job_id = await submit(jobs)

    async def waiting() -> Job | None:
        job = await jobs.get(job_id)
        return job if job is not None and job.attempts and job.status == "queued" else None

    job = await until(waiting)
    assert job.message == "Attempt 1 failed, and another one follows. Full."
    assert 900 < (job.due_at - job.started_at).total_seconds() < 1100
