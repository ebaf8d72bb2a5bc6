"""What every response carries, also those of the framework, of the fences and of a bug: security headers and CORS."""

from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.settings import Settings
from graphs.web.api import Contracts
from graphs.web.connections import Methods
from graphs.web.errors import Failure

DOCUMENTATION: Final = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc"})
SECURITY: Final = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every response that does not set them itself."""
DOCUMENTATION_POLICY: Final = (
    b"default-src 'none'; script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    b"style-src 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    b"font-src https://fonts.gstatic.com; img-src 'self' data: https://fastapi.tiangolo.com https://cdn.redoc.ly; "
    b"connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of the pages that load Swagger UI and ReDoc, and show nothing that anybody has sent."""
EXPOSED: Final = (
    "Accept-Ranges",
    "Allow",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Location",
    "Retry-After",
    "Tus-Checksum-Algorithm",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Resumable",
    "Tus-Version",
    "Upload-Asset-Id",
    "Upload-Expires",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "WWW-Authenticate",
    "X-First-Frame",
    "X-Pages",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Request-Id",
    "X-Start-Time",
)
"""Headers that scripts of other origins may read, beside those that they always may."""
METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class SecurityHeaders:
    """ASGI middleware around the application: adds ``SECURITY`` to every response.

    An error that comes with a whole response has been answered and logged; the server need not log it again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        usual = SECURITY
        if scope["path"] in DOCUMENTATION:
            usual = SECURITY | {b"content-security-policy": DOCUMENTATION_POLICY}
        whole = False

        async def send_with_headers(message: Message) -> None:
            nonlocal whole
            if message["type"] == "http.response.start":
                headers = message.get("headers", [])
                own = {bytes(name).lower() for name, _ in headers}
                added = [(name, value) for name, value in usual.items() if name not in own]
                message = {**message, "headers": [*headers, *added]}
            await send(message)
            whole = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            if not whole:
                raise


class Cors(CORSMiddleware):
    """CORS for the origins of the settings. No route uses cookies, so credentials are never allowed.

    A preflight is answered before keys, limits and rates are looked at, and names the methods of its path.
    """

    def __init__(self, app: ASGIApp, settings: Settings, contracts: Contracts, methods: Methods) -> None:
        super().__init__(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
        self._contracts = contracts
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = Headers(scope=scope)
            if "origin" in headers and "access-control-request-method" in headers:
                await self._preflight(scope, headers)(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _preflight(self, scope: Scope, headers: Headers) -> Response:
        answer = self.preflight_response(headers)
        answer.headers["access-control-allow-methods"] = ", ".join(self._methods.of(scope) or METHODS)
        del answer.headers["content-type"], answer.headers["content-length"]
        if answer.status_code != HTTPStatus.OK:
            refusal = Failure(HTTPStatus.BAD_REQUEST, "CORS_REFUSED", _reason(self, headers))
            return self._contracts.errors(scope).response(refusal, dict(answer.headers))
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=dict(answer.headers))


def _reason(cors: CORSMiddleware, headers: Headers) -> str:
    if not cors.is_allowed_origin(headers["origin"]):
        return "Pages of this origin may not call this service. Whoever runs it can add it to VISION_CORS_ORIGINS."
    return f"The method must be one of {', '.join(METHODS)}, and the service must not be on a private network."


def with_headers(app: ASGIApp, settings: Settings, contracts: Contracts, methods: Methods) -> ASGIApp:
    """Return the application whose answers have the headers for browsers."""
    if settings.cors_origins:
        app = Cors(app, settings, contracts, methods)
    return SecurityHeaders(app)
