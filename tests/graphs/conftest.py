"""The whole HTTP application in this process: real stores on disk, a dummy model, no Ray and no weights."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from configs import settings as settings_module
from configs.settings import Settings
from deployments.analysis.anomalies import AnomalyDetector
from deployments.analysis.clusters import Clusterer
from deployments.analysis.groups import Grouper
from deployments.quality.blur import BlurDetector
from deployments.quality.composition import CompositionAnalyzer
from deployments.quality.exposure import ExposureAnalyzer
from deployments.quality.maps import PictureMapper
from deployments.serving.handle import AnyHandle
from stores import valkey
from tests.dummies import DummyEmbed, LocalNearest
from tests.dummies.objects import DummyDetector
from tests.dummies.people import DummyIdentity
from tests.dummies.photos import STATELESS, DummyDescribe, DummyNima
from tests.graphs import harness
from tests.graphs.harness import configured, handles, settings_in
from tests.graphs.samples import picture

MakeSettings = Callable[..., Settings]


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey.start(tmp_path_factory.mktemp("cache")) as server:
        yield server.url


@pytest.fixture
def settings_for(tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeSettings]:
    """Makes settings with empty stores of this test."""
    with Redis.from_url(valkey_url) as cache:
        cache.flushall()
    yield lambda **values: configured(monkeypatch, tmp_path, **{"cache_url": valkey_url, **values})
    settings_module.settings.cache_clear()


@dataclass
class Service(harness.Service):
    """Running asset and photo APIs, and that of accounts."""

    embed: DummyEmbed
    nima: DummyNima
    describe: DummyDescribe

    async def upload(self, data: bytes, name: str = "photo.png") -> str:
        """The asset id of an upload that must succeed."""
        return str((await self.uploaded(data, name))["asset_id"])

    async def uploaded(self, data: bytes, name: str = "photo.png") -> dict[str, Any]:
        """The answer to an upload that must succeed."""
        return _ok(await self.send(data, name))

    async def send(self, data: bytes, name: str = "photo.png") -> httpx.Response:
        """The answer to any upload."""
        return await self.client.post("/api/v1/upload-media", files={"file": (name, data)})

    async def post(self, route: str, **body: Any) -> dict[str, Any]:
        """The answer to a request that must succeed."""
        return _ok(await self.try_post(route, **body))

    async def try_post(self, route: str, **body: Any) -> httpx.Response:
        """The answer to any request."""
        return await self.client.post(f"/api/v1/{route}", json=body)

    async def photo(self, route: str, **body: Any) -> dict[str, Any]:
        """The answer of the photo API to a request that must succeed."""
        answer = await self.try_photo(route, **body)
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def try_photo(self, route: str, **body: Any) -> httpx.Response:
        """The answer of the photo API to any request."""
        return await self.client.post(f"/v1/{route}", json=body)

    async def get(self, route: str) -> dict[str, Any]:
        """The answer to a request that must succeed."""
        return _ok(await self.client.get(f"/api/v1/{route}"))

    async def delete(self, asset_id: str) -> dict[str, Any]:
        """The answer to a delete that must succeed."""
        return _ok(await self.client.delete(f"/api/v1/media/{asset_id}"))


def _ok(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert 0 <= body["processing_time"] < 60
    return body


Serve = Callable[[Settings], AbstractAsyncContextManager[Service]]


@pytest.fixture(scope="session")
async def analytics() -> AsyncIterator[dict[str, AnyHandle]]:
    """The stages that keep nothing, shared by all tests."""
    stages = (Clusterer, AnomalyDetector, Grouper, BlurDetector, ExposureAnalyzer, CompositionAnalyzer, *STATELESS)
    async with handles(*stages) as made:
        yield made


@asynccontextmanager
async def serving(config: Settings, analytics: dict[str, AnyHandle]) -> AsyncIterator[Service]:
    """A service over the stores of the settings; there may be several over the same ones."""
    async with (
        handles(DummyEmbed, LocalNearest, DummyNima, DummyDescribe, DummyIdentity, DummyDetector, PictureMapper) as own,
        harness.serving(
            Service,
            config,
            ["assets", "photos", "accounts"],
            {**own, **analytics},
            embed=DummyEmbed.running,
            nima=DummyNima.running,
            describe=DummyDescribe.running,
        ) as service,
    ):
        yield service


@pytest.fixture
def serve(analytics: dict[str, AnyHandle]) -> Serve:
    """Serves with the settings given."""
    return partial(serving, analytics=analytics)


@pytest.fixture
async def service(settings_for: MakeSettings, serve: Serve) -> AsyncIterator[Service]:
    """A service with empty stores; no upload may leave anything in its spool."""
    async with serve(settings_for()) as made:
        yield made
        assert made.spooled == []


@pytest.fixture(scope="session")
async def refusing(analytics: dict[str, AnyHandle], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """One service for all requests that must change nothing; it has one asset."""
    with settings_in(tmp_path_factory.mktemp("refusing")) as config:
        started = serving(config, analytics)
        made = await started.__aenter__()
    only = await made.upload(picture(1))
    yield made
    assert [asset.asset_id for asset in await made.context.documents.list_assets()] == [only]
    assert [info.key async for info in made.context.objects.list()] == [only]
    assert (made.spooled, made.embed.calls) == ([], 0)
    await started.__aexit__(None, None, None)
