"""The job runner on a real store: cancelling, lost leases, dying workers, stores that are away."""

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest

from graphs.jobs.runner import JobContext, LeaseLost, Timing
from stores.jobs import Job
from stores.open import Stores
from tests.unit.graphs.jobs.running_jobs import Jobs, Run, finished, for_ever, refused, submit
from tests.waiting import PATIENCE_S, until


async def test_a_lease_is_kept_for_as_long_as_the_work_takes(jobs: Jobs, run: Run, url: str) -> None:
    async def work(_: JobContext) -> dict[str, Any]:
        await asyncio.sleep(2.5)
        return {}

    run(work, Timing(lease_s=2.0))
    other = Stores(documents=url)
    job_id = await submit(jobs)
    await until(lambda: jobs.list(status="running"))
    while await jobs.list(status="running"):
        assert await other.jobs.claim("thief", ["index"], 60) is None
        await asyncio.sleep(0.02)
    assert (await finished(jobs, job_id, "succeeded")).attempts == 1
    await other.close()


def spawn(url: str) -> "subprocess.Popen[str]":
    """A worker in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.graphs.jobs.job_child", url], stdout=subprocess.PIPE, text=True
    )


async def test_a_killed_worker_s_job_goes_on_in_another_process(jobs: Jobs, run: Run, url: str) -> None:
    job_id = await submit(jobs)
    with spawn(url) as child:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "saved\n"
        child.kill()

    async def work(job: JobContext) -> dict[str, Any]:
        return {"from": job.checkpoint, "attempt": job.attempt}

    assert (await finished(jobs, job_id, "running")).attempts == 1
    run(work)
    done = await finished(jobs, job_id, "succeeded")
    assert done.result == {"from": {"frame": 70}, "attempt": 2}


async def test_a_cancelled_job_stops_and_stays_cancelled(jobs: Jobs, run: Run) -> None:
    seen = []

    async def work(job: JobContext) -> dict[str, Any]:
        def in_a_thread() -> None:
            while not job.cancelled:
                time.sleep(0.001)
            seen.append("thread")

        thread = asyncio.create_task(asyncio.to_thread(in_a_thread))
        try:
            await asyncio.Event().wait()
        finally:
            await thread
            with pytest.raises(LeaseLost):
                await job.save({"frame": 1})
            seen.append("coroutine")
        return {}

    run(work)
    job_id = await submit(jobs)
    await until(lambda: jobs.list(status="running"))
    assert await jobs.cancel(job_id) is not None
    cancelled = await finished(jobs, job_id, "cancelled")
    assert seen == ["thread", "coroutine"]
    assert (cancelled.checkpoint, cancelled.error) == ({}, None)
    assert await submit(jobs, 2)
    await until(lambda: jobs.list(status="running", subject="file 2"))


async def test_a_function_that_ends_early_because_it_was_cancelled_has_no_result(jobs: Jobs, run: Run) -> None:
    async def work(job: JobContext) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return {"partial": True}
        return {}

    runner = run(work)
    first = await submit(jobs)
    await until(lambda: jobs.list(status="running"))
    await jobs.cancel(first)
    assert (await finished(jobs, first, "cancelled")).result is None
    second = await submit(jobs, 2)
    await until(lambda: jobs.list(status="running"))
    await runner.stop()
    job = await finished(jobs, second, "queued")
    assert (job.result, job.attempts) == (None, 0)


async def test_a_job_that_is_taken_away_stops_and_changes_nothing(jobs: Jobs, run: Run) -> None:
    stopped = asyncio.Event()

    async def work(job: JobContext) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        finally:
            assert job.cancelled
            stopped.set()
        return {}

    runner = run(work)
    await submit(jobs)
    await until(lambda: jobs.list(status="running"))
    assert await jobs.forget("file 1") == 1
    job_id = (await jobs.submit("other", "file 1", "1", {})).job_id
    async with asyncio.timeout(PATIENCE_S):
        await stopped.wait()
    await runner.stop()
    assert [job.job_id for job in await jobs.list()] == [job_id]


async def test_saving_on_a_lost_lease_ends_the_work(jobs: Jobs, run: Run) -> None:
    saved, noticed = [], asyncio.Event()

    async def work(job: JobContext) -> dict[str, Any]:
        try:
            for frame in range(100):
                await job.save({"frame": frame})
                saved.append(frame)
                await jobs.forget("file 1")
        finally:
            assert job.cancelled
            noticed.set()
        return {}

    runner = run(work, Timing(lease_s=600, heartbeat_s=600, progress_s=600))  # no heartbeat tells it
    await submit(jobs)
    await noticed.wait()
    await runner.stop()
    assert saved == [0]
    assert await jobs.list() == []


async def test_work_stops_when_the_store_is_away_for_a_whole_lease(jobs: Jobs, run: Run) -> None:
    stopped = asyncio.Event()

    async def work(job: JobContext) -> dict[str, Any]:
        if job.attempt > 1:
            return {"attempt": job.attempt}
        try:
            jobs.away = ("heartbeat", "release", "claim")
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return {}

    runner = run(work, Timing(lease_s=0.5, heartbeat_s=0.05, progress_s=0.02))
    job_id = await submit(jobs)
    async with asyncio.timeout(PATIENCE_S):
        await stopped.wait()
    await until(refused(jobs, "release"))
    assert jobs.refused.count("heartbeat") > 3
    assert (await finished(jobs, job_id, "running")).attempts == 1
    jobs.away = ()
    assert (await finished(jobs, job_id, "succeeded")).result == {"attempt": 2}
    runner.check_health()


async def test_a_store_that_is_away_for_a_moment_costs_nothing(jobs: Jobs, run: Run) -> None:
    async def work(job: JobContext) -> dict[str, Any]:
        jobs.away = ("heartbeat", "succeed", "claim")
        await until(refused(jobs, "heartbeat"))
        return {"attempt": job.attempt}

    run(work)
    job_id = await submit(jobs)
    await until(refused(jobs, "succeed", 3))
    assert (await finished(jobs, job_id, "running")).attempts == 1
    jobs.away = ()
    assert (await finished(jobs, job_id, "succeeded")).result == {"attempt": 1}


async def test_an_orderly_end_gives_the_job_back(jobs: Jobs, run: Run) -> None:
    async def work(job: JobContext) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        finally:
            await job.save({"frame": 42})
        return {}

    runner = run(work)
    job_id = await submit(jobs)
    await until(lambda: jobs.list(status="running"))
    await runner.stop()
    job = await finished(jobs, job_id, "queued")
    assert (job.attempts, job.checkpoint, job.worker, job.error) == (0, {"frame": 42}, None, None)
    runner.check_health()


async def test_a_cancel_that_is_taken_back_only_interrupts(jobs: Jobs, run: Run) -> None:
    attempts = []

    async def work(job: JobContext) -> dict[str, Any]:
        attempts.append(job.checkpoint)
        if len(attempts) > 1:
            return {"from": job.checkpoint}
        await job.save({"frame": 5})
        try:
            await asyncio.Event().wait()
        finally:
            await submit(jobs)
        return {}

    run(work)
    job_id = await submit(jobs)
    await until(lambda: jobs.list(status="running"))
    await jobs.cancel(job_id)
    done = await finished(jobs, job_id, "succeeded")
    assert (done.result, done.attempts) == ({"from": {"frame": 5}}, 1)


async def test_as_many_at_once_as_asked_for(jobs: Jobs, run: Run) -> None:
    running, most, going_on = 0, 0, asyncio.Event()

    async def work(_: JobContext) -> dict[str, Any]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            going_on.set()
        await going_on.wait()
        await asyncio.sleep(0)
        running -= 1
        return {}

    run(work, at_once=3)
    made = [await submit(jobs, number) for number in range(7)]
    for job_id in made:
        await finished(jobs, job_id, "succeeded")
    assert most == 3


async def test_waking_is_faster_than_polling(jobs: Jobs, run: Run) -> None:
    async def work(_: JobContext) -> dict[str, Any]:
        return {}

    runner = run(work, poll_s=(600, 600), at_once=2)
    await asyncio.sleep(0.05)
    made = [await submit(jobs, number) for number in range(4)]
    runner.wake()
    for job_id in made:
        await finished(jobs, job_id, "succeeded")


async def test_a_runner_that_broke_is_not_healthy(jobs: Jobs, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = run(for_ever, at_once=2)
    await submit(jobs)
    await until(lambda: jobs.list(status="running"))
    runner.check_health()

    async def broken(*_: Any) -> Job | None:
        raise LookupError("a bug")

    monkeypatch.setattr(jobs, "claim", broken)
    runner.wake()

    async def unhealthy() -> bool:
        try:
            runner.check_health()
        except RuntimeError:
            return True
        return False

    await until(unhealthy)
    (job,) = await jobs.list()
    assert (job.status, job.attempts) == ("running", 1)  # until its lease runs out
    with pytest.raises(ExceptionGroup):
        await runner.stop()
    monkeypatch.undo()
    runner._slots = None
