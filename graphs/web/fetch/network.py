"""Connections that go where they were allowed to go: resolved once, judged, and made to that very address."""

import asyncio
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from httpcore import SOCKET_OPTION, AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream, ConnectError, ConnectTimeout

from graphs.web.fetch.addresses import AllowList
from graphs.web.fetch.errors import ImageFetchError

RESOLVERS: Final = 8
CONNECT_TIMEOUT_S: Final = 4.0
"""For each of a host's addresses: one that is gone must not use up the time of the others."""


class GuardedNetwork(AsyncNetworkBackend):
    """The network as httpcore sees it. Raises ImageFetchError unless every address of a host is permitted."""

    def __init__(self, allowed: AllowList) -> None:
        self._allowed = allowed
        self._network = AnyIOBackend()
        # Of its own: names that take their time to resolve would hold the threads that decode pictures.
        self._resolvers = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolve")

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's interface)
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        failure: Exception = ConnectError()
        for address in await self._permitted(host, port):
            try:
                return await self._network.connect_tcp(address, port, CONNECT_TIMEOUT_S, local_address, socket_options)
            except (ConnectError, ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        raise ImageFetchError("Pictures are not fetched from sockets.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def close(self) -> None:
        """Let the threads go; one that still resolves ends by itself."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def _permitted(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._resolvers, _addresses, host, port)
        except (OSError, UnicodeError):
            found = []
        if not found or not all(self._allowed.permits(host, address) for address in found):
            # One message for both: whether an internal name exists is nobody's business.
            raise ImageFetchError(f"No public address was found for {host}.")
        return found


def _addresses(host: str, port: int) -> list[str]:
    """The addresses of a host in the system's order of preference; a host may be a number in any notation."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
