"""What whoever runs the service sees of it: everything, in bounded time, and nobody else sees it."""

import asyncio
import logging
import time
from pathlib import Path

import pytest

from graphs.web import recent
from graphs.web.recent import MAX_TEXT, MOST, RecentFaults
from stores.errors import StoreError
from stores.sqlite.documents import SqliteDocuments
from stores.sqlite.jobs import SqliteJobs
from tests.graphs.conftest import Service
from tests.graphs.samples import error_of, picture
from tests.graphs.test_keys import make_key


async def test_everything_is_there(service: Service) -> None:
    asset_id = await service.upload(picture(1))
    await service.context.jobs.submit("index-video", asset_id, "1", {})
    answer = await service.client.get("/status")
    assert answer.status_code == 200, answer.text
    status = answer.json()
    assert (status["unknown"], status["recent_errors"]) == ({}, [])
    assert [each["name"] for each in status["graph"]][:2] == ["assets", "photos"]
    assert "embed/dinov3" in status["graph"][0]["stages"]
    stages = {each["name"]: each for each in status["stages"]}
    assert set(stages) == set(service.context.stages)
    embed = stages["embed/dinov3"]
    assert (embed["loaded"], embed["place"], embed["queue"], embed["refused"]) == (True, "here", 0, 0)
    (model,) = embed["models"]
    assert (model["model"], model["version"]) == ("dummy", "dummy@00000000")
    (jobs,) = status["jobs"]
    assert (jobs["kind"], jobs["status"], jobs["number"]) == ("index-video", "queued", 1)
    assert 0 <= jobs["oldest_waits_s"] < 60
    stores = {each["name"]: each for each in status["stores"]}
    assert {name: each["type"] for name, each in stores.items()} == {
        "documents": "sqlite",
        "objects": "file",
        "cache": "redis",
    }
    assert all(each["connected"] and 0 <= each["latency_ms"] < 5000 for each in stores.values())


async def test_only_an_admin_sees_it(service: Service) -> None:
    admin, reader = await make_key(service, "admin"), await make_key(service, "read", "write")
    service.context.access._fresh_until = 0
    assert (await service.client.get("/status", headers=admin)).status_code == 200
    error = error_of(await service.client.get("/status", headers=reader), 403, "FORBIDDEN")
    assert error["details"] == {"scope": "admin"}
    error_of(await service.client.get("/status"), 401, "UNAUTHORIZED")


async def test_a_store_that_hangs_does_not_hang_it(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(SqliteJobs, "count", hang)
    monkeypatch.setattr(SqliteDocuments, "ping", hang)
    monkeypatch.setattr("graphs.web.status.ANSWER_WITHIN_S", 0.2)
    monkeypatch.setattr("graphs.web.states.ANSWER_WITHIN_S", 0.3)
    started = time.monotonic()
    status = (await service.client.get("/status")).json()
    assert time.monotonic() - started < 5
    assert status["unknown"] == {"jobs": "no answer within 0.2 s"}
    documents = next(each for each in status["stores"] if each["name"] == "documents")
    assert (documents["connected"], documents["error"]) == (False, "no answer within 0.3 s")
    assert documents["latency_ms"] >= 299


async def test_what_fails_is_remembered_with_its_route(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreError("mongodb://user:secret@host does not answer")

    monkeypatch.setattr(SqliteDocuments, "get_assets", away)
    answer = await service.client.get("/api/v1/media/abc", params={"token": "in-the-query"})
    assert answer.status_code == 503
    text = (await service.client.get("/status")).text
    assert "GET /api/v1/media/{asset_id}" in text
    assert f"answered 503, request {answer.headers['x-request-id']}" in text
    assert "in-the-query" not in text


def test_faults_are_few_short_and_of_one_line() -> None:
    faults = RecentFaults()
    for number in range(3 * MOST):
        faults.add("GET /x", f"{number}\n\x1b[31m" + "x" * 5000)
    assert len(faults.faults) == MOST
    first = faults.faults[0]
    assert first.message.startswith(f"{3 * MOST - 1} [31m")
    assert len(first.message) == MAX_TEXT


def test_warnings_of_this_software_are_faults_and_a_traceback_is_none() -> None:
    faults, logger = RecentFaults(), logging.getLogger("stores.somewhere")
    faults.attach()
    try:
        logger.info("all is well")
        logger.warning("%s is down", "it")
        try:
            Path("/secret/path").read_bytes()
        except OSError:
            logger.exception("it failed")
        logging.getLogger("other.library").error("password=1")
    finally:
        faults.detach()
    logger.warning("nobody listens any more")
    assert [each.message for each in faults.faults] == ["it failed (FileNotFoundError)", "it is down"]
    assert {each.source for each in faults.faults} == {"stores.somewhere"}
    assert set(recent.LOGGERS) >= {"ray.serve", "stores"}
