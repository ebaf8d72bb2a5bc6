"""A server takes many new connections in a turn of the event loop, not one."""

import asyncio
import socket

import pytest
import uvicorn
import uvloop

from graphs.web.connections import ACCEPTED_AT_ONCE, accept_many

CLIENTS = 96


async def accepted_by_turn(listening: socket.socket) -> list[int]:
    """How many of ``CLIENTS`` that wait already a new server has taken after each turn, until it has all."""

    async def app(scope: object, receive: object, send: object) -> None: ...

    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    listening.listen(2 * CLIENTS)
    clients = [socket.create_connection(listening.getsockname()) for _ in range(CLIENTS)]
    await server.startup(sockets=[listening])
    taken = []
    while not taken or (taken[-1] < CLIENTS and len(taken) < 4 * CLIENTS):
        await asyncio.sleep(0)
        taken.append(len(server.server_state.connections))
    for client in clients:
        client.close()
    await server.shutdown(sockets=[listening])
    return taken


def run() -> list[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return uvloop.run(accepted_by_turn(listening))


def test_new_connections_are_taken_many_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn.Server, "startup", uvicorn.Server.startup)  # put back at the end
    one_by_one = run()
    accept_many()
    accept_many()
    many = run()
    assert one_by_one[-1] == many[-1] == CLIENTS
    assert len(one_by_one) >= CLIENTS
    assert len(many) <= 2 * CLIENTS / ACCEPTED_AT_ONCE + 4
