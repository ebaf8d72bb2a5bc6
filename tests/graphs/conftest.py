"""The whole HTTP application in this process: real stores on disk, dummy stages, no Ray and no weights."""

import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from configs.settings import Settings
from deployments.analysis.anomalies import AnomalyDetector
from deployments.analysis.clusters import Clusters
from deployments.analysis.nearest import Nearest
from deployments.catalog import local_handle
from deployments.handle import StageHandle
from graphs.context import Context
from graphs.gateway import build_app, open_context
from ops.stores import valkey
from tests.dummies import DummyEmbed


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    with valkey.start(tmp_path_factory.mktemp("cache")) as server:
        yield server.url


@pytest.fixture
def settings_for(tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    def make(**values: object) -> Settings:
        from configs import settings as module

        monkeypatch.setenv("VISION_HOME", str(tmp_path))
        monkeypatch.setenv("VISION_CACHE_URL", valkey_url)
        for name, value in values.items():
            monkeypatch.setenv(f"VISION_{name.upper()}", str(value))
        module.settings.cache_clear()
        (tmp_path / "spool").mkdir(exist_ok=True)
        return module.settings()

    return make


@dataclass
class Service:
    """A client of a running application, and what it is made of."""

    client: httpx.AsyncClient
    context: Context

    async def upload(self, data: bytes, name: str = "photo.png") -> str:
        """The asset id of an upload that must succeed."""
        answer = await self.client.post("/api/v1/upload-media", files={"file": (name, data)})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["asset_id"])


async def stage_handles() -> dict[str, StageHandle]:
    """Every stage of the asset API in this process, the model replaced by a dummy."""
    handles = [
        await local_handle(DummyEmbed, {"max_batch_size": 8}),
        await local_handle(Nearest),
        await local_handle(Clusters),
        await local_handle(AnomalyDetector),
    ]
    return {handle.key: handle for handle in handles}


@pytest.fixture
async def service(settings_for: Callable[..., Settings]) -> AsyncIterator[Service]:
    async for made in serve(settings_for()):
        yield made


async def serve(config: Settings) -> AsyncIterator[Service]:
    """A service over fresh stores."""
    context = open_context(config, await stage_handles())
    app = build_app(context, ["assets"])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield Service(client, context)
    await context.close()


def picture(seed: int, *, size: tuple[int, int] = (64, 48), noise: float = 0.0, fmt: str = "PNG") -> bytes:
    """An encoded picture of smooth random colours; the same seed with some noise is a near-duplicate."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize(size, Image.Resampling.BICUBIC), np.float32)
    pixels = pixels + np.random.default_rng(seed + 1).normal(0, 255 * noise, pixels.shape) if noise else pixels
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, fmt)
    return file.getvalue()
