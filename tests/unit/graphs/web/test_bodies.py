"""Routes with large bodies: a few are read at a time, and none is waited for beyond the request's time."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from deployments.serving.handle import request_deadline
from graphs.web import bodies
from graphs.web.bodies import large_body_route
from graphs.web.errors import install_error_handlers

PADDING = "x" * bodies.SMALL


class Message(BaseModel):
    text: str


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app, router = FastAPI(), APIRouter(prefix="/v1", route_class=large_body_route())

    @router.post("/length")
    async def length(message: Message) -> int:
        return len(message.text)

    app.include_router(router)
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as made:
        yield made


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


@pytest.mark.parametrize("length", ["²", "9" * 5000])
async def test_a_content_length_that_is_none(client: httpx.AsyncClient, length: str) -> None:
    headers = {"content-length": length.encode("latin-1"), "content-type": "application/json"}
    answer = await client.post("/v1/length", content=b'{"text": "ab"}', headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()) == (200, 2)


class Slow:
    """A large body whose end waits for an event; counts how many are being read."""

    reading = 0
    full: asyncio.Event

    def __init__(self, go: asyncio.Event) -> None:
        self._go = go

    async def __aiter__(self) -> AsyncIterator[bytes]:
        Slow.reading += 1
        if Slow.reading == bodies.LARGE_AT_ONCE:
            Slow.full.set()
        yield b'{"text": "'
        await self._go.wait()
        Slow.reading -= 1
        yield f'{PADDING}"}}'.encode()


def post(client: httpx.AsyncClient, body: Any) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(client.post("/v1/length", content=body, headers={"content-type": "application/json"}))


async def test_only_so_many_large_bodies_are_read_at_once(client: httpx.AsyncClient) -> None:
    Slow.reading, Slow.full = 0, asyncio.Event()
    go = asyncio.Event()
    waiting = [post(client, Slow(go)) for _ in range(bodies.LARGE_AT_ONCE + 3)]
    await Slow.full.wait()
    small = await client.post("/v1/length", json={"text": "small"})
    assert small.json() == 5
    assert Slow.reading == bodies.LARGE_AT_ONCE
    go.set()
    assert [answer.json() for answer in await asyncio.gather(*waiting)] == [len(PADDING)] * len(waiting)


async def test_a_body_that_never_ends_ends_with_the_request(client: httpx.AsyncClient) -> None:
    token = request_deadline.set(time.time() + 0.05)
    answer = await post(client, Slow(asyncio.Event()))
    request_deadline.reset(token)
    assert answer.status_code == 504
    assert (await client.post("/v1/length", json={"text": PADDING})).status_code == 200
