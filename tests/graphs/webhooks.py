"""A service of jobs and webhooks with receivers on loopback, for the tests of both sides."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.settings import Settings, settings
from graphs.jobs.runner import Timing
from graphs.jobs.webhooks import deliveries
from graphs.jobs.webhooks.outbox import Outbox
from graphs.web import access
from graphs.web.context import Context
from graphs.web.gateway import build_app, open_context
from stores.jobs import JobStatus, JobStore
from stores.keys import new_key
from tests.graphs.harness import configured
from tests.graphs.receiver import Receiver, receiving
from tests.waiting import PATIENCE_S

PREFIX = "/api/v1/webhooks"
QUICK = Timing(lease_s=5.0, heartbeat_s=1.0, progress_s=0.02, retry_s=0.01)
LOCAL: dict[str, Any] = {"webhook_http": True, "webhook_allowed_hosts": "127.0.0.1", "webhook_timeout_s": 5}


@dataclass
class Service:
    """A gateway that serves jobs and webhooks, and its stores."""

    client: httpx.AsyncClient
    context: Context
    home: Path

    async def key(self, *scopes: str, labels: tuple[str, ...] = ()) -> tuple[dict[str, str], str]:
        """Headers with a new key, and its id."""
        token, key = new_key("a test", scopes, labels=labels)
        assert await self.context.keys.insert(key)
        return {"X-API-Key": token}, key.key_id

    async def subscribe(self, url: str, headers: dict[str, str] | None = None, **values: Any) -> tuple[str, str]:
        """The id and the secret of a new webhook."""
        answer = await self.client.post(PREFIX, json={"url": url, **values}, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json()["webhook"]["webhook_id"], answer.json()["secret"]

    async def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> Any:
        answer = await self.client.get(f"{PREFIX}{path}", headers=headers, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def change(self, webhook_id: str, **values: Any) -> Any:
        answer = await self.client.patch(f"{PREFIX}/{webhook_id}", json=values)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def ended(self, webhook_id: str, number: int = 1) -> list[dict[str, Any]]:
        """The deliveries of a webhook, newest first, of which so many must end."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = (await self.get(f"/{webhook_id}/deliveries", limit=100))["deliveries"]
                if len(found) == number and all(each["finished_at"] for each in found):
                    made: list[dict[str, Any]] = found
                    return made
                await asyncio.sleep(0.01)

    async def end_job(self, number: int = 1, status: JobStatus = "succeeded", kind: str = "index-video") -> str:
        return await end_job(self.context.jobs, number, status, kind)


async def end_job(jobs: JobStore, number: int = 1, status: JobStatus = "succeeded", kind: str = "index-video") -> str:
    """The id of a job that has ended so."""
    job = await jobs.submit(kind, f"file {number}", f"{kind} {number}", {})
    if status == "cancelled":
        await jobs.cancel(job.job_id)
        return job.job_id
    assert await jobs.claim_job(job.job_id, "w", 60)
    if status == "failed":
        await jobs.fail(job.job_id, "w", "No frame of this file decodes.")
    else:
        await jobs.succeed(job.job_id, "w", {"traces": 3})
    return job.job_id


@asynccontextmanager
async def working(context: Context, **options: Any) -> AsyncIterator[Outbox]:
    """A worker's outbox while this lasts."""
    made = Outbox(context, poll_s=0.01, claim_s=(0.005, 0.02), timing=QUICK, **options)
    made.start()
    yield made
    made.check_health()
    await made.stop()


@asynccontextmanager
async def serving(config: Settings, home: Path) -> AsyncIterator[Service]:
    context = open_context(config, {})
    transport = httpx.ASGITransport(build_app(context, ["jobs"]), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield Service(client, context, home)
    await context.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of keys are seen with the next request, and what failed is tried again soon."""
    monkeypatch.setattr(access, "FRESH_S", 0.0)
    monkeypatch.setattr(access, "RETRY_S", 0.0)
    monkeypatch.setattr(deliveries, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(deliveries, "LONGEST_PAUSE_S", 0.05)


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    async with serving(configured(monkeypatch, tmp_path, **LOCAL), tmp_path) as made:
        yield made
    settings.cache_clear()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made
