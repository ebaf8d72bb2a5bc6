"""Under which address a request was sent, and so where its links lead: never where a stranger's Host says."""

import logging
from typing import Final
from urllib.parse import quote, urlsplit

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from configs.addresses import PORTS, Authority
from configs.settings import Settings
from graphs.web.api import Contracts
from graphs.web.errors import Failure
from graphs.web.health import HEALTH_PATHS
from graphs.web.rates import Clients

logger = logging.getLogger("ray.serve")

REMEMBERED: Final = 32
"""Hosts that are named in the log, once each."""
MALFORMED: Final = Failure(
    400, "INVALID_HOST", "The request needs one Host header, with the host and port that it was sent to and no more."
)
NOT_ALLOWED: Final = Failure(
    400,
    "INVALID_HOST",
    "This service does not answer to the host that the request names. Whoever runs it can add that to "
    "VISION_ALLOWED_HOSTS.",
)
_QUERY: Final = bytes(range(0x21, 0x7F))


class Hosts:
    """ASGI middleware, the last before the routes: what they see as the address of a request is safe to put in links.

    That is ``VISION_PUBLIC_URL`` where it is set, else the Host of the request if it is of this machine alone or one
    of ``VISION_ALLOWED_HOSTS``. Of any other host nothing is left: links are then paths, which a client resolves
    against the address that it used. Where allowed hosts are set a request to any other is refused, and so is one
    whose Host is malformed (RFC 9112, section 3.2); health answers all of them.
    """

    def __init__(self, app: ASGIApp, settings: Settings, contracts: Contracts) -> None:
        self._app = app
        self._contracts = contracts
        self._clients = Clients(settings.trusted_proxies)
        self._allowed = settings.allowed_hosts
        self._public = urlsplit(settings.public_url) if settings.public_url else None
        self._logged: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        believed = self._clients.behind_proxy(scope)
        given = _host(scope, believed)
        host = None if given is None else Authority.parse(given)
        malformed = host is None if given is not None else scope.get("http_version") != "1.0"
        allowed = host is not None and (host.is_loopback or any(map(host.matches, self._allowed)))
        if scope["path"] not in HEALTH_PATHS and (malformed or (self._allowed and not allowed)):
            refusal = MALFORMED if malformed else NOT_ALLOWED
            await self._contracts.errors(scope).response(refusal)(scope, receive, send)
            return
        if self._public is not None:
            base = (self._public.scheme, self._public.netloc, self._public.path)
        elif host is not None and allowed:
            scheme = _scheme(scope, believed)
            base = (scheme, host.url(scheme).partition("://")[2], "")
        else:
            base = ("http", "", "")
            if host is not None:
                self._tell(host.host)
        await self._app(_addressed(scope, *base), receive, send)

    def _tell(self, host: str) -> None:
        if host not in self._logged and len(self._logged) < REMEMBERED:
            self._logged.add(host)
            logger.warning(
                "links in answers to requests for %s have no host: set VISION_PUBLIC_URL to the address that clients "
                "use, or name the host in VISION_ALLOWED_HOSTS",
                host,
            )


def link(request: Request, route: str, **parameters: str) -> str:
    """Return the URL of a route by its name: absolute where the address of the service is known, else a path."""
    return str(request.base_url).rstrip("/") + str(request.app.url_path_for(route, **parameters))


def _addressed(scope: Scope, scheme: str, netloc: str, prefix: str) -> Scope:
    """Return a scope that names this address only; without ``netloc`` the URLs that are made from it are paths."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    if netloc:
        headers.append((b"host", netloc.encode()))
    root = prefix + scope.get("root_path", "")
    return {
        **scope,
        "scheme": scheme,
        "server": None,
        "headers": headers,
        # By ASGI a path begins with the root path; a proxy that serves us below a prefix has removed it.
        "root_path": root,
        "path": prefix + scope["path"],
        # Bytes that are not ASCII have no place in a query (RFC 3986), and URLs of Starlette cannot be made of them.
        "query_string": quote(scope["query_string"], safe=_QUERY).encode(),
    }


def _host(scope: Scope, believed: bool) -> str | None:
    """Return what the request names as its host, "" for several; None for nothing."""
    names = [value for name, value in scope["headers"] if name == b"host"]
    given = names[0].decode("latin-1") if len(names) == 1 else "" if names else None
    forwarded = _forwarded(scope, b"x-forwarded-host") if believed else None
    return given if forwarded is None or given == "" else forwarded


def _scheme(scope: Scope, believed: bool) -> str:
    """Return how the client speaks to the service; uvicorn has put into the scope what X-Forwarded-Proto claims."""
    claimed = _forwarded(scope, b"x-forwarded-proto")
    if claimed is None:
        return "https" if scope["scheme"] == "https" else "http"
    return claimed if believed and claimed in PORTS else "http"


def _forwarded(scope: Scope, header: bytes) -> str | None:
    """Return the value that the nearest proxy has set or added."""
    values = [value for name, value in scope["headers"] if name == header]
    return values[-1].decode("latin-1").rpartition(",")[2].strip() if values else None
