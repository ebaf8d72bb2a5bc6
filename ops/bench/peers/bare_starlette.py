"""Bare Starlette that answers a ready-made body, with a process for each core. ``python -m … PORT FILE``.

The ceiling of requests whose answer is stored: HTTP alone, no routes, no look-up, no proxy.
"""

import os
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BODY = "PEER_BODY"


def build() -> Starlette:
    """Build the application; the environment names the file of the body."""
    body = Path(os.environ[BODY]).read_bytes()

    async def answer(request: Request) -> Response:
        await request.body()
        return Response(body, media_type="application/json")

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])


if __name__ == "__main__":
    os.environ[BODY] = sys.argv[2]
    uvicorn.run(
        "ops.bench.peers.bare_starlette:build",
        factory=True,
        port=int(sys.argv[1]),
        host="127.0.0.1",
        workers=os.cpu_count(),
        log_level="warning",
        access_log=False,
    )
