"""The console: its page and what that loads. It holds nothing of anybody, so it opens without a key, and asks for one.

The page is made of ES modules in ``static`` as they are, with no build step; ``preact.js`` alone is vendored. It loads
nothing from other hosts, and its policy runs no script and no style that is not a file of ``static``.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from graphs.web.api import Api, RateLimit, RouteLimits
from graphs.web.context import Context

TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
PAGE: Final = "index.html"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the console."""

    body: bytes
    media_type: str
    etag: str


def _files() -> dict[str, _File]:
    """Return the files of the console by name."""
    served = {}
    for path in files(__package__).joinpath("static").iterdir():
        kind = path.name.rpartition(".")[2]
        if kind in TYPES:
            body = path.read_bytes()
            served[path.name] = _File(body, TYPES[kind], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return served


def _router(context: Context) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    served = _files()

    def answer(request: Request, name: str) -> Response:
        file = served.get(name)
        if file is None:
            raise HTTPException(404, "The console has no such file.")
        # The files change together, with the version of the service; a browser asks each time whether they did.
        headers = {"etag": file.etag, "cache-control": "no-cache", "content-security-policy": POLICY}
        known = request.headers.get("if-none-match", "")
        if file.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(file.body, media_type=file.media_type, headers=headers)

    @router.get("/")
    async def root() -> Response:
        """Lead to the console."""
        return RedirectResponse("/console")

    @router.get("/console")
    async def console(request: Request) -> Response:
        """Return the page of the console."""
        return answer(request, PAGE)

    @router.get("/console/{name}")
    async def console_file(name: str, request: Request) -> Response:
        """Return a file of the console."""
        return answer(request, name)

    return router


FILES: Final = RouteLimits(RateLimit("console", 1200))

API: Final = Api(
    title="Console",
    router=_router,
    routes={"console": FILES, "console_file": FILES, "root": FILES},
    scoped=False,
    keyless=True,
)
