"""The files of the cases, each made once, and one service that answers about them over real stores, without Ray."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cases.files import CASES
from tests.dummies import DummyEmbed, LocalNearest
from tests.graphs.harness import Service, handles, serving, settings_in

CaseFile = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> CaseFile:
    """Path of a file that a function of ``tests.cases.files`` writes: ``case("slides", "slides.mp4")``."""
    folder = tmp_path_factory.mktemp("cases")
    written: set[str] = set()

    def path(maker: str, name: str) -> Path:
        if maker not in written:
            CASES[maker](folder)
            written.add(maker)
        return folder / name

    return path


@dataclass
class CaseService(Service):
    """Asset and media APIs with the stages that read pictures and videos."""

    async def upload(self, source: Path | bytes, name: str = "") -> dict[str, Any]:
        """The answer to an upload that must succeed."""
        answer = await self.try_upload(source, name)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def try_upload(self, source: Path | bytes, name: str = "") -> httpx.Response:
        """The answer to any upload."""
        data = source if isinstance(source, bytes) else source.read_bytes()  # noqa: ASYNC240
        own = "file.bin" if isinstance(source, bytes) else source.name
        return await self.client.post("/api/v1/upload-media", files={"file": (name or own, data)})

    async def of_file(self, asset_id: str, route: str, **query: Any) -> httpx.Response:
        """The answer of a route of ``/api/v1/file/{asset_id}``."""
        return await self.client.get(f"/api/v1/file/{asset_id}/{route}", params=query)

    async def poster(self, asset_id: str) -> httpx.Response:
        """The poster of a video."""
        return await self.client.get(f"/api/v1/media/{asset_id}/poster")


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CaseService]:
    """A service with empty stores for one module; it leaves nothing in its spool."""
    with settings_in(tmp_path_factory.mktemp("service")) as config:
        async with (
            handles(DummyEmbed, LocalNearest, "media/frames", "media/clips") as stages,
            serving(CaseService, config, ["assets", "media"], stages) as service,
        ):
            yield service
            assert service.spooled == []
