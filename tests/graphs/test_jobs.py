"""Durable jobs over HTTP, and the worker that runs them beside the gateway."""

import asyncio
import gc
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.settings import settings
from graphs.jobs import events
from graphs.jobs import worker as worker_module
from graphs.jobs.kinds import JobKind
from graphs.jobs.runner import JobContext
from graphs.jobs.worker import Worker, worker
from graphs.web.context import Context
from graphs.web.gateway import build_app, open_context
from stores.jobs import Job, JobStore
from tests.graphs.harness import configured
from tests.graphs.samples import error_of
from tests.waiting import PATIENCE_S
from vision.errors import InvalidMedia
from vision.tracing import Origin, log_request_ids, origin

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

FIELDS = {
    *("job_id", "kind", "subject", "status", "progress", "message"),
    *("created_at", "started_at", "finished_at", "error", "result", "request_id"),
}


@dataclass
class Service:
    """A gateway that serves jobs, and its store of them."""

    client: httpx.AsyncClient
    jobs: JobStore

    async def submit(self, number: int = 1, kind: str = "index") -> str:
        return (await self.jobs.submit(kind, f"file {number}", f"{number}", {"internal": 1})).job_id

    async def claim(self, worker: str = "a", lease_s: float = 60) -> Job:
        job = await self.jobs.claim(worker, ["index"], lease_s)
        assert job is not None
        return job

    async def get(self, path: str = "", **query: Any) -> Any:
        answer = await self.client.get(f"/api/v1/jobs{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def cancel(self, job_id: str, status: int) -> Any:
        answer = await self.client.delete(f"/api/v1/jobs/{job_id}")
        assert answer.status_code == status, answer.text
        return answer.json()

    async def wait(self, job_id: str, status: str) -> Any:
        """The job in this state, in which it must arrive."""
        async with asyncio.timeout(PATIENCE_S):
            while (job := await self.get(f"/{job_id}"))["status"] != status:
                assert job["finished_at"] is None, job
                await asyncio.sleep(0.01)  # as a client does
        return job


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    context = open_context(configured(monkeypatch, tmp_path), {})
    transport = httpx.ASGITransport(build_app(context, ["jobs"]), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield Service(client, context.jobs)
    await context.close()
    settings.cache_clear()


async def events_of(service: Service, job_id: str) -> list[dict[str, Any]]:
    """Every event of a job until it has ended."""
    answer = await service.client.get(f"/api/v1/jobs/{job_id}/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert answer.headers["cache-control"] == "no-store"
    blocks = [block.split("\n") for block in answer.text.split("\n\n") if block]
    assert {block[0] for block in blocks} <= {"event: job", ": still here"}
    return [json.loads(block[1].removeprefix("data: ")) for block in blocks if len(block) == 2]


async def test_a_job_is_followed_until_it_has_ended(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOOK_S", 0.01)
    monkeypatch.setattr(events, "QUIET_S", 0.03)
    job_id = await service.submit()
    following = asyncio.create_task(events_of(service, job_id))
    await asyncio.sleep(0.1)
    await service.cancel(job_id, 200)
    states = await following
    assert [state["status"] for state in states] == ["queued", "cancelled"]
    assert states[-1] == await service.get(f"/{job_id}")
    assert [state["status"] for state in await events_of(service, job_id)] == ["cancelled"]
    error_of(await service.client.get("/api/v1/jobs/nothing/events"), 404, "JOB_NOT_FOUND")


async def test_only_so_many_follow_jobs_at_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "AT_ONCE", 1)
    monkeypatch.setattr(events, "LOOK_S", 0.01)
    job_id = await service.submit()
    following = asyncio.create_task(events_of(service, job_id))
    await asyncio.sleep(0.1)
    error_of(await service.client.get(f"/api/v1/jobs/{job_id}/events"), 429, "OVERLOADED")
    await service.cancel(job_id, 200)
    assert len(await following) == 2
    assert len(await events_of(service, job_id)) == 1  # there is a place again


async def test_a_job_from_its_queue_to_its_result(service: Service) -> None:
    job_id = await service.submit()
    queued = await service.get(f"/{job_id}")
    assert set(queued) == FIELDS
    assert (queued["job_id"], queued["kind"], queued["subject"]) == (job_id, "index", "file 1")
    assert (queued["status"], queued["progress"], queued["message"]) == ("queued", 0, "")
    assert [queued[name] for name in ("started_at", "finished_at", "error", "result")] == [None] * 4
    assert abs((datetime.now(UTC) - datetime.fromisoformat(queued["created_at"])).total_seconds()) < 60

    await service.claim("a")
    await service.jobs.heartbeat(job_id, "a", 0.25, "Frame 25 of 100", 60)
    running = await service.get(f"/{job_id}")
    assert (running["status"], running["progress"], running["message"]) == ("running", 0.25, "Frame 25 of 100")
    assert running["created_at"] <= running["started_at"]
    assert running["finished_at"] is None

    await service.jobs.succeed(job_id, "a", {"traces": 3, "models": ["yunet"]})
    done = await service.get(f"/{job_id}")
    assert (done["status"], done["progress"], done["result"]) == ("succeeded", 1, {"traces": 3, "models": ["yunet"]})
    assert done["error"] is None
    assert done["started_at"] <= done["finished_at"]


async def test_a_failed_job_says_why(service: Service) -> None:
    job_id = await service.submit()
    await service.claim("a")
    await service.jobs.fail(job_id, "a", "No frame of this file decodes.")
    failed = await service.get(f"/{job_id}")
    assert (failed["status"], failed["error"], failed["result"]) == ("failed", "No frame of this file decodes.", None)


async def test_jobs_are_listed_by_page_and_by_what_is_asked_for(service: Service) -> None:
    made = [await service.submit(number) for number in range(5)]
    other = await service.submit(2, kind="other")
    await service.claim("a")
    assert [job["job_id"] for job in (await service.get())["jobs"]] == [other, *reversed(made)]
    seen, after, pages = [], {}, 0
    while True:
        page = await service.get(limit=2, **after)
        seen += [job["job_id"] for job in page["jobs"]]
        pages += 1
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert (seen, pages) == ([other, *reversed(made)], 3)
    for query, expected in [
        ({"status": "running"}, [made[0]]),
        ({"kind": "other"}, [other]),
        ({"subject": "file 2"}, [other, made[2]]),
        ({"subject": "file 2", "kind": "index", "status": "queued"}, [made[2]]),
        ({"status": "failed"}, []),
    ]:
        answer = await service.get(**query)
        assert ([job["job_id"] for job in answer["jobs"]], answer["next"]) == (expected, None)
    assert all(set(job) == FIELDS for job in (await service.get())["jobs"])


async def test_cancelling_a_queued_job_is_done_at_once(service: Service) -> None:
    job_id = await service.submit()
    assert (await service.cancel(job_id, 200))["status"] == "cancelled"
    cancelled = await service.get(f"/{job_id}")
    assert (cancelled["status"], cancelled["error"]) == ("cancelled", None)
    assert cancelled["finished_at"] is not None


async def test_cancelling_a_running_job_waits_for_its_worker(service: Service) -> None:
    job_id = await service.submit()
    await service.claim("a")
    for _ in range(2):
        asked = await service.cancel(job_id, 202)
        assert asked["status"] == "running"
        assert "Being cancelled" in asked["message"]
    assert await service.jobs.release(job_id, "a")
    assert (await service.get(f"/{job_id}"))["status"] == "cancelled"


@pytest.mark.parametrize("ending", ["succeeded", "failed", "cancelled"])
async def test_a_finished_job_is_not_cancelled(service: Service, ending: str) -> None:
    job_id = await service.submit()
    await service.claim("a")
    if ending == "succeeded":
        await service.jobs.succeed(job_id, "a", {})
    elif ending == "failed":
        await service.jobs.fail(job_id, "a", "bad")
    else:
        await service.jobs.cancel(job_id)
        await service.jobs.release(job_id, "a")
    before = await service.get(f"/{job_id}")
    error = error_of(await service.client.delete(f"/api/v1/jobs/{job_id}"), 409, "JOB_FINISHED")
    assert f"{ending} already" in error["message"]
    assert await service.get(f"/{job_id}") == before


@pytest.mark.parametrize("job_id", ["0" * 32, "x", "' OR 1=1 --", "ä", "%00"])
async def test_an_unknown_job(service: Service, job_id: str) -> None:
    await service.submit()
    for method in ("GET", "DELETE"):
        error_of(await service.client.request(method, f"/api/v1/jobs/{job_id}"), 404, "JOB_NOT_FOUND")
    error_of(await service.client.get("/api/v1/jobs", params={"after": job_id}), 404, "JOB_NOT_FOUND")


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"status": "done"}])
async def test_a_query_that_is_none(service: Service, query: dict[str, Any]) -> None:
    error_of(await service.client.get("/api/v1/jobs", params=query), 422, "VALIDATION_ERROR")


async def index(context: Context, job: JobContext) -> dict[str, Any]:
    """A job kind that uses the stores, and can fail or go on for ever."""
    config = await context.documents.get_config()
    job.progress(0.5, "half")
    if job.subject == "file 2":
        raise InvalidMedia("No frame of this file decodes.")
    if job.subject == "file 3":
        await asyncio.Event().wait()
    return {"config": config, "payload": job.payload}


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "find_job_kinds", lambda: {"index": JobKind("index", index, ())})


@pytest.mark.usefixtures("kinds")
async def test_the_worker_runs_what_the_gateway_shows(service: Service) -> None:
    good, bad, endless, unknown = [await service.submit(number) for number in (1, 2, 3)] + [
        await service.submit(4, kind="nobody does this")
    ]
    running = Worker({})
    done = await service.wait(good, "succeeded")
    assert done["result"] == {"config": {}, "payload": {"internal": 1}}
    assert (await service.wait(bad, "failed"))["error"] == "No frame of this file decodes."
    await service.wait(endless, "running")
    running.check_health()
    await service.cancel(endless, 202)
    await service.wait(endless, "cancelled")

    assert await service.submit(3) == endless
    await service.wait(endless, "running")
    await running.stop()
    assert (await service.get(f"/{endless}"))["status"] == "queued"
    running.check_health()

    again = Worker({})
    await service.wait(endless, "running")
    for each in (running, again):
        closing = each.__del__()
        assert closing is not None
        await closing
    assert (await service.get(f"/{endless}"))["status"] == "queued"
    assert (await service.get(f"/{unknown}"))["status"] == "queued"
    del running, again, each
    gc.collect()


async def test_a_job_says_which_request_made_it_and_its_worker_logs_that(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(context: Context, job: JobContext) -> dict[str, Any]:
        logging.getLogger("ray.serve").warning("frame %d of %s", 7, job.subject)
        return {"request_id": origin.get().request_id}

    monkeypatch.setattr(worker_module, "find_job_kinds", lambda: {"index": JobKind("index", work, ())})
    token = origin.set(Origin("upload-77", TRACE, "vendor=1"))
    made = await service.submit(1)
    origin.reset(token)
    nobodys = await service.submit(2)
    stored = await service.jobs.get(made)
    assert stored is not None
    assert stored.origin == Origin("upload-77", TRACE, "vendor=1")
    log_request_ids()
    running = Worker({})
    done = await service.wait(made, "succeeded")
    other = await service.wait(nobodys, "succeeded")
    closing = running.__del__()
    assert closing is not None
    await closing
    assert (done["request_id"], done["result"]) == ("upload-77", {"request_id": "upload-77"})
    assert (other["request_id"], other["result"]) == ("", {"request_id": ""})
    lines = {record.getMessage(): getattr(record, "request_id", None) for record in caplog.records}
    assert lines["frame 7 of file 1"] == lines[f"job {made} (index) done"] == "upload-77"
    assert lines["frame 7 of file 2"] is lines[f"job {nobodys} (index) done"] is None


async def test_a_job_that_is_submitted_again_is_of_the_request_that_made_it_run(service: Service) -> None:
    ids = []
    for request_id in ("first", "second"):
        token = origin.set(Origin(request_id))
        ids.append(await service.submit())
        origin.reset(token)
    assert ids[0] == ids[1]
    assert (await service.get(f"/{ids[0]}"))["request_id"] == "first"
    await service.cancel(ids[0], 200)
    token = origin.set(Origin("third"))
    await service.submit()
    origin.reset(token)
    assert (await service.get(f"/{ids[0]}"))["request_id"] == "third"


def test_the_worker_application_checks_its_arguments() -> None:
    for unknown in ({"apis": ["media"]}, {"kinds": ["index"]}):
        with pytest.raises(ValueError, match="extra"):
            worker(unknown)
