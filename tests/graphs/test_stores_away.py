"""A gateway whose stores are away at its start or in the middle: it says so, answers 503, and needs no restart."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deployments.serving.handle import AnyHandle
from stores.errors import StoreError, StoreRefused
from stores.mongo import engine
from stores.s3 import location, objects
from tests.graphs import harness
from tests.graphs.conftest import Service, serving
from tests.graphs.harness import settings_in
from tests.graphs.samples import error_of, picture
from tests.stores.conftest import s3_endpoint, s3_url  # noqa: F401 (fixtures)
from tests.stores.wire import Wire, wire
from tests.waiting import PATIENCE_S

# ruff: noqa: F811 (a fixture is an argument of its name)


@pytest.fixture
def s3_wire(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    monkeypatch.setattr(location, "CONNECT_TIMEOUT_S", 1.0)
    monkeypatch.setattr(location, "READ_TIMEOUT_S", 1.5)
    monkeypatch.setattr(objects, "ANSWER_S", 3.0)
    with wire(urlsplit(s3_endpoint).port or 0) as made:
        yield made


async def until_ready(service: Service) -> None:
    """Wait until the stores are back."""
    async with asyncio.timeout(PATIENCE_S):
        while "objects" in (await service.client.get("/readyz")).text:  # noqa: ASYNC110 (it is another process)
            await asyncio.sleep(0.1)


async def test_a_bucket_that_is_away_at_start_and_hangs_later(
    s3_wire: Wire,
    s3_url: str,
    analytics: dict[str, AnyHandle],
    tmp_path: Path,
) -> None:
    port = urlsplit(s3_url.partition("endpoint_url=")[2].partition("&")[0]).port
    url = s3_url.replace(f":{port}", f":{s3_wire.port}")
    s3_wire.set("refuse")
    with settings_in(tmp_path, objects_url=url) as config:
        async with serving(config, analytics) as service:
            waiting = await service.client.get("/readyz")
            assert waiting.status_code == 503
            assert "objects" in waiting.json()["for"]
            message = error_of(await service.send(picture(1)), 503, "STORAGE_ERROR")["message"]
            assert message == StoreError.message
            assert service.spooled == []
            s3_wire.set("none")
            await until_ready(service)
            asset_id = await service.upload(picture(1))
            s3_wire.set("hang")
            started = time.monotonic()
            answers = await asyncio.gather(
                *(service.client.get(f"/api/v1/media/{asset_id}/content") for _ in range(10)), service.send(picture(2))
            )
            assert time.monotonic() - started < 20
            for answer in answers:
                error_of(answer, 503, "STORAGE_ERROR")
            assert (await service.client.get("/livez")).status_code == 200
            assert (await service.client.get("/health")).json()["storage"]["connected"] is False
            assert [asset.asset_id for asset in await service.context.documents.list_assets()] == [asset_id]
            s3_wire.set("none")
            await until_ready(service)
            assert (await service.client.get(f"/api/v1/media/{asset_id}/content")).content == picture(1)
            await service.upload(picture(2))


async def test_a_database_that_is_away_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = {"serverSelectionTimeoutMS": 300, "connectTimeoutMS": 300, "timeoutMS": 600}
    monkeypatch.setattr(engine, "TIMEOUTS_MS", timeouts)
    with settings_in(tmp_path, documents_url="mongodb://127.0.0.1:1/db") as config:
        async with harness.serving(harness.Service, config, ["jobs"], {}) as service:
            waiting = await service.client.get("/readyz")
            assert waiting.status_code == 503
            assert waiting.json()["for"] == ["documents"]
            error_of(await service.client.get("/api/v1/jobs"), 503, "STORAGE_ERROR")
            assert (await service.client.get("/health")).json()["status"] == "unhealthy"


async def test_a_bucket_that_refuses_the_credentials_is_named_as_such(
    s3_wire: Wire,
    s3_url: str,
    analytics: dict[str, AnyHandle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-one")
    with settings_in(tmp_path, objects_url=s3_url) as config:
        async with serving(config, analytics) as service:
            error = error_of(await service.send(picture(1)), 503, "STORAGE_ERROR")
            assert error["message"] == StoreRefused.message
            assert "not-the-one" not in str(error)
            assert service.spooled == []
