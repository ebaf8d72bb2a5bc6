"""The one harness of the HTTP application: real stores, chosen stages, no Ray; in this process or on a socket."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from configs import settings as settings_module
from configs.settings import Settings
from deployments.serving.catalog import AnyStage, find_stage, local_handle
from deployments.serving.handle import AnyHandle, StageHandle
from graphs.web.api import Contracts, find_apis
from graphs.web.context import Context
from graphs.web.gateway import build_app, mount, open_context
from graphs.web.status import status_api
from vision.errors import StageUnavailable

ROOT = Path(__file__).parents[2]
LEAKS = ("Traceback", 'File "', tempfile.gettempdir(), str(ROOT), ".py", "sqlite", "valkey")
"""What no answer may contain."""
DEFAULTS = {"cache_url": "", "rate_limit_enabled": False, "allowed_hosts": "test", "disk_reserve_bytes": 0}


@dataclass
class Service:
    """A client of a running application, and what it is made of."""

    client: httpx.AsyncClient
    context: Context
    app: FastAPI

    @property
    def spooled(self) -> list[Path]:
        """Files that uploads left behind."""
        spool = self.context.settings.spool
        return sorted(spool.rglob("*")) if spool.exists() else []


ServiceT = TypeVar("ServiceT", bound=Service)


@asynccontextmanager
async def handles(
    *stages: str | AnyStage, configs: Mapping[str, dict[str, Any]] | None = None
) -> AsyncIterator[dict[str, AnyHandle]]:
    """Handles by key to stages of this process: real ones by their key, dummies by their class."""
    chosen = [find_stage(stage) if isinstance(stage, str) else stage for stage in stages]
    async with AsyncExitStack() as closing:
        loaded: dict[str, AnyHandle] = {}
        for stage in chosen:
            local = await local_handle(stage, (configs or {}).get(stage.key))
            closing.push_async_callback(local.close)
            loaded[stage.key] = _gathering(local)
        yield loaded


def _gathering(local: AnyHandle) -> AnyHandle:
    """A handle as one to another process, which gathers calls and tries them again; tests replace what it calls."""
    return StageHandle(local.key, local._call, local._info, local._open_stream, local._close)


@asynccontextmanager
async def serving(
    service_class: type[ServiceT], config: Settings, apis: list[str], stages: Mapping[str, AnyHandle], **own: Any
) -> AsyncIterator[ServiceT]:
    """A service over the stores of the settings; there may be several over the same ones. ``own``: its other fields."""
    context = open_context(config, dict(stages))
    app = build_app(context, apis)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield service_class(client, context, app, **own)
    await context.close()


class _Idle(dict[str, AnyHandle]):
    """A handle to every stage, none of which is ever called."""

    def __missing__(self, key: str) -> AnyHandle:
        async def unused(*_: object) -> Any:
            raise NotImplementedError

        return StageHandle(key, unused, unused)


@asynccontextmanager
async def every_api(config: Settings) -> AsyncIterator[Service]:
    """A service with the routes of every API, whose stages say that they are loaded and cannot be called."""

    async def info() -> dict[str, Any]:
        return {"loaded": True}

    async def unused(*_: object) -> Any:
        raise StageUnavailable("not here")

    keys = {key for api in find_apis().values() for key in api.stage_keys}
    async with serving(
        Service, config, list(find_apis()), {key: StageHandle(key, unused, info) for key in keys}
    ) as made:
        yield made


def idle_handles() -> Mapping[str, AnyHandle]:
    """A handle to every stage, for applications whose stages are never called."""
    return _Idle()


async def contracts_of(config: Settings, *apis: str) -> Contracts:
    """The contracts of a gateway with these APIs, by default with every one."""
    context = open_context(config, _Idle())
    try:
        served = [find_apis()[name] for name in apis or find_apis()]
        return mount(FastAPI(), context, [*served, status_api(context, served)])
    finally:
        await context.close()


def document_of(config: Settings, apis: list[str]) -> dict[str, Any]:
    """The OpenAPI document of a gateway with these APIs over the stores of the settings."""

    async def describe() -> dict[str, Any]:
        context = open_context(config, _Idle())
        try:
            return build_app(context, apis).openapi()
        finally:
            await context.close()

    return asyncio.run(describe())


@asynccontextmanager
async def listening(app: FastAPI, http: Any = "auto") -> AsyncIterator[int]:
    """The port of a server of this application on this machine; ``http`` names uvicorn's parser."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_level="critical", http=http)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it has no event for it
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


async def raw_reply(port: int, request: bytes) -> bytes:
    """All that a server on this machine sends for these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    reply = await reader.read()
    writer.close()
    return reply


def configured(patch: pytest.MonkeyPatch, home: Path, **values: object) -> Settings:
    """The settings of this process from an environment that has these values."""
    variable = {name: variable for variable, name in settings_module.variables().items()}
    for name, value in {**DEFAULTS, "home": home, **values}.items():
        patch.setenv(variable[name], str(value))
    settings_module.settings.cache_clear()
    return settings_module.settings()


@contextmanager
def settings_in(home: Path, **values: object) -> Iterator[Settings]:
    """The settings of this process while the block runs: stores in ``home``, no cache unless ``cache_url`` is given."""
    with pytest.MonkeyPatch.context() as patch:
        yield configured(patch, home, **values)
    settings_module.settings.cache_clear()


def lasting(answer: httpx.Response) -> dict[str, str]:
    """The headers of an answer but those that differ from request to request."""
    return {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}


def body_of(answer: httpx.Response, status: int) -> Any:
    """The body of a failure that must have this status, say when to try again where that helps, and leak nothing."""
    assert answer.status_code == status, answer.text
    for leak in LEAKS:
        assert leak not in answer.text
    assert ("retry-after" in answer.headers) == (status in (429, 503, 504))
    return answer.json()
