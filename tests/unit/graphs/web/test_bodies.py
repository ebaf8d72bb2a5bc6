"""Routes with large bodies: a few are in memory at a time, and none waits for its turn beyond the request's time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel

from configs.settings import Settings
from graphs.web import bodies
from graphs.web.api import Api, Contracts, RouteLimits
from graphs.web.bodies import large_body_route
from graphs.web.errors import install_error_handlers
from graphs.web.limits import SMALL, RequestLimits
from graphs.web.transfers import Transfers
from graphs.web.uploads.spool import Spool
from tests.waiting import until

PADDING = "x" * SMALL


class Message(BaseModel):
    text: str


@dataclass
class Held:
    """A route that holds its body until an event; ``at_work`` of them do."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    at_work: int = 0


@dataclass
class Served:
    """A client of an application with one such API, and what its routes do."""

    client: httpx.AsyncClient
    held: Held
    spool: Path


def _router(held: Held) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=large_body_route())

    @router.post("/length")
    async def length(message: Message) -> int:
        return len(message.text)

    @router.post("/hold")
    async def hold(message: Message) -> int:
        held.at_work += 1
        await held.go.wait()
        held.at_work -= 1
        return len(message.text)

    return router


@asynccontextmanager
async def serving(tmp_path: Path, **values: Any) -> AsyncIterator[Served]:
    held = Held()
    router, config = _router(held), Settings(**values)
    app, contracts = FastAPI(), Contracts(config)
    app.include_router(router)
    names = {route.name: RouteLimits(max_body=lambda _: 2**26) for route in iter_route_contexts(router.routes)}
    contracts.add(
        Api(title="Messages", router=lambda _: router, routes=names), "", iter_route_contexts(app.routes[-1:])
    )
    install_error_handlers(app, contracts.errors)
    app.add_middleware(RequestLimits, settings=config, contracts=contracts, spool=Spool(tmp_path / "spool", 2**26))
    app.add_middleware(Transfers, settings=config, contracts=contracts)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield Served(client, held, tmp_path / "spool")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as made:
        yield made


@pytest.fixture
def client(served: Served) -> httpx.AsyncClient:
    return served.client


@pytest.mark.parametrize("text", ["", "ä", PADDING])
async def test_bodies_of_any_size_are_parsed(client: httpx.AsyncClient, text: str) -> None:
    answer = await client.post("/v1/length", json={"text": text})
    assert (answer.status_code, answer.json()) == (200, len(text))


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'{"text": NaN}', b'{"text": 5}', b'"' + PADDING.encode()])
async def test_a_body_that_is_no_such_object(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/v1/length", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert PADDING not in answer.text


@pytest.mark.parametrize("part", [b"[]", b"{}", b"0"])
async def test_values_have_a_limit(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, part: bytes) -> None:
    async def length(values: int) -> httpx.Response:
        more = b", ".join([part] * values)
        body = b'{"text": "%s", "more": [%s]}' % (PADDING.encode(), more)
        return await client.post("/v1/length", content=body, headers={"content-type": "application/json"})

    # The object, the comma after the text, the list, and what is in it.
    monkeypatch.setattr(bodies, "MAX_VALUES", 3 + (1 if part == b"0" else 2) * 100 - 1)
    assert (await length(100)).json() == len(PADDING)
    refused = await length(101)
    assert refused.status_code == 413
    assert "values" in refused.json()["error"]["message"]


@pytest.mark.parametrize(("length", "status"), [("²", 200), ("9" * 5000, 413)])
async def test_a_content_length_that_is_none(client: httpx.AsyncClient, length: str, status: int) -> None:
    headers = {"content-length": length.encode("latin-1"), "content-type": "application/json"}
    answer = await client.post("/v1/length", content=b'{"text": "ab"}', headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == status


def post(client: httpx.AsyncClient, body: Any, route: str = "hold") -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(client.post(f"/v1/{route}", content=body, headers={"content-type": "application/json"}))


LARGE = f'{{"text": "{PADDING}"}}'.encode()


async def test_only_so_many_large_bodies_are_in_memory(served: Served) -> None:
    waiting = [post(served.client, LARGE) for _ in range(bodies.LARGE_AT_ONCE + 3)]
    await until(lambda: served.held.at_work == bodies.LARGE_AT_ONCE)
    small = await served.client.post("/v1/length", json={"text": "small"})
    assert small.json() == 5
    assert served.held.at_work == bodies.LARGE_AT_ONCE
    served.held.go.set()
    assert [answer.json() for answer in await asyncio.gather(*waiting)] == [len(PADDING)] * len(waiting)
    assert list(served.spool.iterdir()) == []


async def test_who_waits_for_its_turn_too_long_may_come_again(tmp_path: Path) -> None:
    async with serving(tmp_path, request_timeout_s=0.2) as served:
        waiting = [post(served.client, LARGE) for _ in range(bodies.LARGE_AT_ONCE)]
        await until(lambda: served.held.at_work == bodies.LARGE_AT_ONCE)
        late = await post(served.client, LARGE)
        assert (late.status_code, late.headers["retry-after"]) == (429, "2")
        served.held.go.set()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200] * len(waiting)
        assert (await post(served.client, LARGE)).status_code == 200


async def test_bodies_that_stop_hold_no_turn(served: Served) -> None:
    go = asyncio.Event()
    begun = 0

    async def stopping() -> AsyncIterator[bytes]:
        nonlocal begun
        begun += 1
        yield LARGE[:-1]
        await go.wait()
        yield LARGE[-1:]

    senders = 2 * bodies.LARGE_AT_ONCE
    waiting = [post(served.client, stopping(), "length") for _ in range(senders)]
    await until(lambda: begun == senders)
    assert (await post(served.client, LARGE, "length")).json() == len(PADDING)
    go.set()
    assert [answer.json() for answer in await asyncio.gather(*waiting)] == [len(PADDING)] * senders


async def test_bodies_on_disk_have_a_limit(served: Served) -> None:
    go = asyncio.Event()

    async def stopping() -> AsyncIterator[bytes]:
        yield b'{"text": "' + bytes(2**25)
        await go.wait()

    go.set()
    waiting = [post(served.client, stopping(), "length") for _ in range(2)]
    assert sorted(answer.status_code for answer in await asyncio.gather(*waiting)) == [422, 429]
    assert (await post(served.client, LARGE, "length")).json() == len(PADDING)
