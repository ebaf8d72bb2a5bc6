"""The client that fetches images, with limits of time and size."""

import asyncio
import re
from collections.abc import Collection
from http import HTTPStatus
from importlib.metadata import version
from typing import Final

import httpcore
import httpx
import idna

from configs.settings import Settings
from graphs.web.fetch.network import AllowList, GuardedNetwork, ImageFetchError
from vision.errors import MediaTooLarge

MAX_REDIRECTS: Final = 3
MAX_CONNECTIONS: Final = 64
IDLE_CONNECTIONS: Final = 16
IDLE_S: Final = 10.0
REDIRECTS: Final = (301, 302, 303, 307, 308)
PORTS: Final = (80, 443)
_AUTHORITY: Final = re.compile(r"((?:[a-z][a-z\d+.-]*:)?//)([^/?#]+)", re.IGNORECASE)
HEADERS: Final = (
    (b"user-agent", f"visiongraph/{version('visiongraph')}".encode()),
    (b"accept", b"image/*"),
    # An image is compressed already; a compressed response may be a decompression bomb.
    (b"accept-encoding", b"identity"),
)


class Fetcher:
    """Fetches from http and https URLs whose host has public addresses only, or is on the allow-list.

    Proxies of the environment are not used: they would connect to addresses that were not checked here. Certificates
    are verified against the host name; ``SSL_CERT_FILE`` adds authorities. Times in seconds, sizes in bytes.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 30 * 2**20,
        timeout_s: float = 15.0,
        ports: Collection[int] = PORTS,
        allowed: AllowList | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._ports = ports
        self._network = GuardedNetwork(allowed or AllowList())
        self._connections = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_S,
            network_backend=self._network,
        )

    async def fetch(self, url: str) -> bytes:
        """Return the bytes behind a URL, whatever content type it claims. Raises ImageFetchError and MediaTooLarge."""
        at = self._checked(url)
        try:
            async with asyncio.timeout(self._timeout_s):
                for _ in range(MAX_REDIRECTS + 1):
                    body_or_location = await self._get(at)
                    if isinstance(body_or_location, bytes):
                        return body_or_location
                    at = self._checked(body_or_location, at)
        except TimeoutError:
            raise ImageFetchError(
                f"{at.host} did not send the image within {self._timeout_s:g} s; try again."
            ) from None
        raise ImageFetchError(f"{at.host} redirects too often; give the address of the image itself.")

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.aclose()
        self._network.close()

    def _checked(self, url: str, base: httpx.URL | None = None) -> httpx.URL:
        try:
            url = _with_plain_host(url.strip())
            at = base.join(url) if base else httpx.URL(url)
            host = at.host  # raises for a name that is no valid punycode
        except (httpx.InvalidURL, UnicodeError):
            raise ImageFetchError("This is not a valid URL.") from None
        if at.scheme not in ("http", "https") or not host:
            raise ImageFetchError("Pictures are fetched from http:// and https:// URLs only.")
        if at.userinfo:
            raise ImageFetchError("Leave the user and password out of the URL; they are not sent.")
        port = at.port or (443 if at.scheme == "https" else 80)
        if port not in self._ports:
            raise ImageFetchError(f"Pictures are not fetched from port {port}.")
        return at

    async def _get(self, at: httpx.URL) -> bytes | str:
        """Return the body, or the address that the host redirects to."""
        url = httpcore.URL(scheme=at.raw_scheme, host=at.raw_host, port=at.port, target=at.raw_path)
        try:
            async with self._connections.stream("GET", url, headers=[(b"host", at.netloc), *HEADERS]) as response:
                headers = {name.lower(): _text(value) for name, value in response.headers}
                if response.status in REDIRECTS and b"location" in headers:
                    return headers[b"location"]
                if response.status != HTTPStatus.OK:
                    raise ImageFetchError(f"{at.host} answered {_status(response.status)}.")
                encoding = headers.get(b"content-encoding", "").strip().lower()
                if encoding not in ("", "identity"):
                    raise ImageFetchError(
                        f"{at.host} sent a compressed response ({encoding[:20]}), though asked not to."
                    )
                return await self._body(at, response, headers.get(b"content-length", ""))
        except httpcore.ConnectError as error:
            raise ImageFetchError(_unreachable(at, error)) from None
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
            raise ImageFetchError(f"{at.host} closed the connection or did not speak HTTP; try again.") from None

    async def _body(self, at: httpx.URL, response: httpcore.Response, length: str) -> bytes:
        if length.isdigit() and int(length) > self._max_bytes:
            raise self._too_large(at)
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self._max_bytes:
                raise self._too_large(at)
        if not body:
            raise ImageFetchError(f"{at.host} sent an empty response.")
        return bytes(body)

    def _too_large(self, at: httpx.URL) -> MediaTooLarge:
        return MediaTooLarge(f"The file at {at.host} is larger than the limit of {self._max_bytes / 2**20:.3g} MB.")


def open_fetcher(config: Settings) -> Fetcher:
    """Return a client with the limits of the settings."""
    return Fetcher(
        max_bytes=config.max_image_size_bytes,
        timeout_s=config.max_image_fetch_timeout_seconds,
        ports=config.fetch_ports,
        allowed=AllowList(config.fetch_allowed_hosts),
    )


def _with_plain_host(url: str) -> str:
    """Return a URL or a reference with its host as browsers read it (UTS 46): composed, lower case, no wide letters."""
    authority = _AUTHORITY.match(url)
    if authority is None or authority[2].isascii():
        return url
    return authority[1] + idna.uts46_remap(authority[2], std3_rules=False) + url[authority.end() :]


def _text(header: bytes) -> str:
    """Return a header as text: UTF-8 that a host forgot to encode, or other bytes as they are, in URL encoding."""
    try:
        return header.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in header)


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _unreachable(at: httpx.URL, error: Exception) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return f"The certificate of {at.host} cannot be verified, so nothing is fetched from it."
    return f"{at.host} cannot be reached; try again."
