"""One service with every API on a socket of its own, for clients that connect as anybody does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from deployments.serving.handle import StageHandle
from graphs.indexing.finalize import analysis_version
from graphs.indexing.shots import ShotModels
from graphs.shots.schemas import AnalyzeShotsRequest
from graphs.web.api import find_apis
from graphs.web.connections import keep_what_came
from stores.shots import ShotAnalysis
from tests.dummies import DummyEmbed, LocalNearest
from tests.graphs.harness import handles, listening, serving, settings_in
from tests.graphs.media import MediaService, indexed
from tests.graphs.shots import analysed
from vision.errors import StageUnavailable
from visiongraph_client import Client, Retries

AT_ONCE = Retries(first_s=0.01)
"""Retries that do not keep a test waiting."""


@dataclass
class Served:
    """A service, its address, and a film in it with traces of two people and two shots."""

    service: MediaService
    url: str
    film: str

    def client(self) -> Client:
        return Client(self.url, retries=AT_ONCE)


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async def info() -> dict[str, object]:
        return {"loaded": True, "model_version": "dummy"}

    async def unused(*_: object) -> object:
        raise StageUnavailable("not here")

    keep_what_came()
    idle = {key: StageHandle(key, unused, info) for api in find_apis().values() for key in api.stage_keys}
    with settings_in(tmp_path_factory.mktemp("service"), allowed_hosts="test") as config:
        async with (
            handles(DummyEmbed, LocalNearest, "media/frames", "media/clips") as stages,
            serving(MediaService, config, list(find_apis()), {**idle, **stages}) as service,
            listening(service.app) as port,
        ):
            film = (await indexed(service)).asset_id
            shots = tuple(analysed(film, place, colour) for place, colour in enumerate(("red", "blue")))
            version = analysis_version(
                await ShotModels.of(service.context), AnalyzeShotsRequest(video_asset_id=film).shot_detection_threshold
            )
            await service.context.shots.put_analysis(ShotAnalysis(film, version, datetime.now(UTC), shots))
            yield Served(service, f"http://127.0.0.1:{port}", film)
            assert service.spooled == []


@dataclass
class CuttingProxy:
    """A proxy to a server that breaks connections when so many bytes of bodies of PATCH have passed, once for each.

    ``passed`` counts those bytes, ``port`` is its own. It does the same with ``answer_cuts`` bytes of answers, heads
    included, which ``answered`` counts; ``heads`` are those of requests.
    """

    upstream: int
    cuts: list[int]
    answer_cuts: list[int] = field(default_factory=list)
    answered: int = 0
    heads: list[str] = field(default_factory=list)
    port: int = 0
    passed: int = 0
    broken: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{self.port}"
        finally:
            server.close()
            for writer in list(self._open):
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        self._open |= {writer, up_writer}
        back = asyncio.create_task(self._back(up_reader, writer))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._request(reader, up_writer):
                pass
        up_writer.close()
        back.cancel()
        writer.transport.abort()
        self._open -= {writer, up_writer}

    async def _request(self, reader: asyncio.StreamReader, up: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head.decode())
        up.write(head)
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        left = int(lengths[0].split(b":")[1]) if lengths else 0
        counted = head.startswith(b"PATCH")
        while left:
            most = min(left, 65536)
            if counted and self.cuts:
                most = min(most, self.cuts[0] - self.passed)
            chunk = await reader.read(most)
            if not chunk:
                return False
            up.write(chunk)
            await up.drain()
            left -= len(chunk)
            if counted:
                self.passed += len(chunk)
                if self.cuts and self.passed == self.cuts[0]:
                    self.cuts.pop(0)
                    self.broken += 1
                    return False
        return True

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(min(65536, self._until_cut())):
                writer.write(chunk)
                await writer.drain()
                self.answered += len(chunk)
                if not self._until_cut():
                    self.answer_cuts.pop(0)
                    self.broken += 1
                    break
        writer.close()

    def _until_cut(self) -> int:
        return self.answer_cuts[0] - self.answered if self.answer_cuts else 65536
