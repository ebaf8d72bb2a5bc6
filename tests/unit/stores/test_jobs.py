"""The table of ``stores/jobs.py``: which step leads from where, and what no sequence of steps can bring about."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stores.jobs import MAX_ATTEMPTS, Job, JobStatus, changes, from_row, new_job, to_row

NOW = datetime(2026, 3, 4, 5, 6, 7, 123457, tzinfo=UTC)
LATER = NOW + timedelta(seconds=10)
QUEUED = Job("id", "index", "file", "print", {"fps": 5}, created_at=NOW, due_at=NOW)
RUNNING = replace(QUEUED, status="running", worker="a", attempts=1, started_at=NOW, due_at=LATER)
JOBS = {
    "queued": QUEUED,
    "queued, due later": replace(QUEUED, attempts=1, due_at=LATER),
    "running": RUNNING,
    "running, cancel asked": replace(RUNNING, cancel_requested=True),
    "running, last attempt": replace(RUNNING, attempts=MAX_ATTEMPTS),
    "over": replace(RUNNING, due_at=NOW),
    "over, cancel asked": replace(RUNNING, due_at=NOW, cancel_requested=True),
    "over, last attempt": replace(RUNNING, due_at=NOW, attempts=MAX_ATTEMPTS),
    "succeeded": replace(QUEUED, status="succeeded", finished_at=NOW, result={}),
    "failed": replace(QUEUED, status="failed", finished_at=NOW, error="bad"),
    "cancelled": replace(QUEUED, status="cancelled", finished_at=NOW),
}
STEPS: dict[str, Callable[[Job], Job | None]] = {
    "submit": lambda job: job.resubmitted(QUEUED),
    "claim": lambda job: job.claimed("b", 30, NOW),
    "heartbeat": lambda job: job.renewed("a", 0.5, "half", 30, NOW),
    "checkpoint": lambda job: job.checkpointed("a", {"frame": 1}),
    "succeed": lambda job: job.succeeded("a", {"n": 1}, NOW),
    "fail": lambda job: job.failed("a", "bad", NOW),
    "retry": lambda job: job.retried("a", "bad", 5, NOW),
    "release": lambda job: job.released("a", NOW),
    "cancel": lambda job: job.cancelled(NOW),
}
TABLE = """
                        submit  claim     heartbeat checkpoint succeed   fail   retry     release   cancel
queued                  -       running   -         -          -         -      -         -         cancelled
queued, due later       -       -         -         -          -         -      -         -         cancelled
running                 -       -         running   running    succeeded failed queued    queued    running
running, cancel asked   running -         -         running    succeeded failed cancelled cancelled running
running, last attempt   -       -         running   running    succeeded failed failed    queued    running
over                    -       running   running   running    succeeded failed queued    queued    cancelled
over, cancel asked      running cancelled -         running    succeeded failed cancelled cancelled cancelled
over, last attempt      -       failed    running   running    succeeded failed failed    queued    cancelled
succeeded               -       -         -         -          -         -      -         -         -
failed                  queued  -         -         -          -         -      -         -         -
cancelled               queued  -         -         -          -         -      -         -         -
"""


def table() -> list[tuple[str, str, JobStatus | None]]:
    head, *lines = TABLE.strip("\n").split("\n")
    return [
        (line[:24].strip(), step, None if word == "-" else word)  # type: ignore[misc]
        for line in lines
        for step, word in zip(head.split(), line[24:].split(), strict=True)
    ]


@pytest.mark.parametrize(("start", "step", "status"), table())
def test_a_step_leads_where_the_table_says(start: str, step: str, status: JobStatus | None) -> None:
    after = STEPS[step](JOBS[start])
    assert (after and after.status) == status
    if after is not None:
        sound(after)


def test_the_table_has_every_state_and_every_step() -> None:
    assert {(start, step) for start, step, _ in table()} == {(start, step) for start in JOBS for step in STEPS}


@pytest.mark.parametrize("step", ["heartbeat", "checkpoint", "succeed", "fail", "retry", "release"])
def test_what_is_for_the_worker_of_the_lease_is_for_no_other(step: str) -> None:
    for job in JOBS.values():
        assert STEPS[step](replace(job, worker="c" if job.worker else None)) is None


def sound(job: Job) -> None:
    """What holds in every state."""
    running, finished = job.status == "running", job.status in ("succeeded", "failed", "cancelled")
    assert (job.worker is not None) == running == (job.lease_until is not None)
    assert (job.finished_at is not None) == finished == job.finished
    assert (job.error is not None) == (job.status == "failed")
    assert (job.result is not None) == (job.status == "succeeded")
    assert running or not job.cancel_requested
    assert 0 <= job.attempts <= MAX_ATTEMPTS
    assert not running or job.attempts >= 1
    assert from_row(to_row(job)) == job


def outcomes(job: Job, worker: str, newcomer: str, now: datetime) -> dict[str, Job | None]:
    """What each step would make of the job."""
    return {
        "submit": job.resubmitted(replace(QUEUED, created_at=now, due_at=now)),
        "claim": job.claimed(newcomer, 10, now),
        "heartbeat": job.renewed(worker, 0.5, "", 10, now),
        "checkpoint": job.checkpointed(worker, {"by": worker}),
        "retry": job.retried(worker, "bad", 3, now),
        "release": job.released(worker, now),
        "cancel": job.cancelled(now),
        "fail": job.failed(worker, "bad", now),
        "succeed": job.succeeded(worker, {}, now),
    }


@pytest.mark.parametrize("seed", range(20))
def test_no_walk_through_the_states_breaks_a_promise(seed: int) -> None:
    draw = random.Random(seed)
    job, now, claims = QUEUED, NOW, 0
    taken = dict.fromkeys(STEPS, 0)
    for _ in range(2000):
        now += timedelta(seconds=draw.choice([0, 1, 4, 12]))
        worker = f"worker {claims - draw.randrange(2)}"
        step, after = draw.choice(list(outcomes(job, worker, f"worker {claims + 1}", now).items()))
        if after is None:
            continue
        sound(after)
        taken[step] += 1
        if job.finished:
            assert (step, job.status == "succeeded") == ("submit", False)
        if after.worker not in (None, job.worker):
            assert step == "claim"
            assert job.lease_until is None or job.lease_until <= now
            assert after.checkpoint == job.checkpoint
            claims += 1
        if step in ("heartbeat", "checkpoint", "retry", "release", "fail", "succeed"):
            assert worker == job.worker
        job = QUEUED if after.status == "succeeded" else after
    assert min(taken.values()) > 0
    assert claims > 50


def test_only_what_changed_is_written() -> None:
    after = RUNNING.renewed("a", 0.5, "half", 30, NOW)
    assert after is not None
    assert set(changes(RUNNING, after)) == {"progress", "message", "due_at"}
    assert changes(after, after) == {}


def test_the_id_of_a_job_is_its_kind_and_its_fingerprint() -> None:
    made = {new_job(kind, "s", fingerprint, {}).job_id for kind in ("ab", "a") for fingerprint in ("c", "bc")}
    assert len(made) == 4
    assert new_job("ab", "other", "c", {"x": 1}).job_id in made
