"""The client that posts to URLs that clients name: to public addresses only, and it takes nothing but a status back."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Final

import httpcore
import httpx

from configs.settings import Settings
from graphs.web.fetch.network import AllowList, GuardedNetwork
from vision.errors import StageError

MAX_CONNECTIONS: Final = 64
IDLE_CONNECTIONS: Final = 16
IDLE_S: Final = 10.0
BODY_BYTES: Final = 16 * 1024
"""Of an answer that are read, and dropped, so that its connection can be used again; one with more is closed."""
MAX_URL: Final = 2048
HEADERS: Final = (
    (b"user-agent", f"visiongraph/{version('visiongraph')}".encode()),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"identity"),
)


class ReceiverRefused(StageError):
    """A URL that nothing is sent to; the message says why."""

    code = "WEBHOOK_URL_REFUSED"
    status = 400


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request: the status of the answer, or None and why there was none.

    ``retry_after_s``: when the receiver wants the next one; None where it does not say.
    """

    status: int | None
    error: str
    seconds: float
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        """Return whether the receiver has it."""
        return self.status is not None and 200 <= self.status < 300


class Poster:
    """Posts to https URLs whose host has public addresses only, or is on the allow-list; with ``http`` to http too.

    The addresses are checked at each connection, and connected to as checked. Redirects are not followed. Proxies of
    the environment are not used: they would connect to addresses that were not checked here. Certificates are verified
    against the host name; ``SSL_CERT_FILE`` adds authorities. ``timeout_s`` is for all of it, to the last byte.
    """

    def __init__(self, *, timeout_s: float, allowed: AllowList | None = None, http: bool = False) -> None:
        self._timeout_s = timeout_s
        self._schemes = ("https", "http") if http else ("https",)
        self._network = GuardedNetwork(allowed or AllowList(), ReceiverRefused)
        self._connections = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_S,
            network_backend=self._network,
        )

    async def check(self, url: str) -> str:
        """Return a URL as it is posted to. Raises ReceiverRefused, also where its host has an address inside."""
        at = self._checked(url)
        await self._network.check(at.host, at.port or (443 if at.scheme == "https" else 80))
        return str(at)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Send a body and return what came of it. Nothing that the receiver does raises."""
        started = time.monotonic()

        def outcome(status: int | None, error: str = "", retry_after_s: float | None = None) -> Outcome:
            return Outcome(status, error, round(time.monotonic() - started, 3), retry_after_s)

        answered: Outcome | None = None
        try:
            at = self._checked(url)
            target = httpcore.URL(scheme=at.raw_scheme, host=at.raw_host, port=at.port, target=at.raw_path)
            own = [(name.encode(), value.encode()) for name, value in headers.items()]
            sent = [(b"host", at.netloc), (b"content-length", b"%d" % len(body)), *HEADERS, *own]
            async with asyncio.timeout(self._timeout_s):
                async with self._connections.stream("POST", target, headers=sent, content=body) as answer:
                    error = "" if 200 <= answer.status < 300 else _text(answer.status)
                    answered = outcome(answer.status, error, _retry_after(answer.headers))
                    size = 0
                    async for chunk in answer.aiter_stream():
                        size += len(chunk)
                        if size > BODY_BYTES:
                            break
        except ReceiverRefused as error:
            return outcome(None, error.message)
        except httpcore.ConnectError as error:
            untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
            return outcome(None, "its certificate cannot be verified" if untrusted else "it cannot be reached")
        except TimeoutError:
            return answered or outcome(None, f"no answer within {self._timeout_s:g} s")
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
            return answered or outcome(None, "it closed the connection or did not speak HTTP")
        return answered

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.aclose()
        self._network.close()

    def _checked(self, url: str) -> httpx.URL:
        try:
            at = httpx.URL(url.strip())
            host = at.host  # raises for a name that is no valid punycode
        except (httpx.InvalidURL, UnicodeError):
            raise ReceiverRefused("This is not a valid URL.") from None
        if at.scheme not in self._schemes or not host:
            raise ReceiverRefused(
                f"Events are sent to {' and '.join(f'{each}://' for each in self._schemes)} URLs only."
            )
        if at.userinfo:
            raise ReceiverRefused("Leave the user and password out of the URL; events are signed instead.")
        return at.copy_with(fragment=None)


def open_poster(config: Settings) -> Poster:
    """Return a client with the limits of the settings."""
    return Poster(
        timeout_s=config.webhook_timeout_s, allowed=AllowList(config.webhook_allowed_hosts), http=config.webhook_http
    )


def _text(status: int) -> str:
    return f"it redirects ({status}), which is not followed" if 300 <= status < 400 else f"it answered {status}"


def _retry_after(headers: list[tuple[bytes, bytes]]) -> float | None:
    """Return the seconds of Retry-After (RFC 9110, section 10.2.3): a number of them, or a date."""
    value = next((value.decode("latin-1").strip() for name, value in headers if name.lower() == b"retry-after"), "")
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
