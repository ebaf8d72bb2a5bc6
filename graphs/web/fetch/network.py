"""Which addresses a client may make this service connect to: resolved once, checked, and connected to as checked."""

import asyncio
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from httpcore import SOCKET_OPTION, AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream, ConnectError, ConnectTimeout

from vision.errors import StageError

RESOLVERS: Final = 8
CONNECT_TIMEOUT_S: Final = 4.0
"""For each address of a host: one that does not answer must not use up the time of the others."""

# IANA's special-purpose registries, as far as the standard library of some Python 3.11 or 3.12 still calls them
# global, and addresses that are public by their number only.
_SPECIAL_V4: Final = tuple(
    map(
        ip_network,
        (
            "192.0.0.0/24",  # IETF protocol assignments; a cloud's metadata among them
            "192.88.99.0/24",  # 6to4 relays
            "168.63.129.16/32",  # the platform's own host inside Azure
        ),
    )
)
_SPECIAL_V6: Final = tuple(
    map(
        ip_network,
        (
            "2001::/23",  # IETF protocol assignments, Teredo
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "3fff::/20",  # documentation
        ),
    )
)
_UNICAST_V6: Final = ip_network("2000::/3")
_NAT64: Final = ip_network("64:ff9b::/96")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether this is the address of a host on the internet; for an embedded IPv4 address that decides."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None:
            return address in _UNICAST_V6 and not any(address in network for network in _SPECIAL_V6)
        address = inner
    return address.is_global and not address.is_multicast and not any(address in network for network in _SPECIAL_V4)


class ImageFetchError(StageError):
    """A URL that is not fetched from, or whose host sent no image; the message says which."""

    code = "IMAGE_FETCH_ERROR"
    status = 422


class AllowList:
    """Host names (exact, in any case) and networks that are fetched from although they are not public.

    Raises ValueError for an entry that is neither.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._names = set()
        self._networks = []
        for entry in entries:
            try:
                self._networks.append(ip_network(entry))
            except ValueError:
                if "/" in entry or ":" in entry or not entry.strip("."):
                    raise ValueError(f"{entry!r} is neither a host name nor a network, such as 10.1.0.0/16") from None
                self._names.add(entry.lower().rstrip("."))

    def permits(self, host: str, address: str) -> bool:
        """Return whether a connection to this address of the host is allowed."""
        ip = ip_address(address)
        if is_public(ip) or host.lower().rstrip(".") in self._names:
            return True
        plain = (ip.ipv4_mapped if isinstance(ip, IPv6Address) else None) or ip
        return any(plain in network for network in self._networks)


class GuardedNetwork(AsyncNetworkBackend):
    """httpcore's network backend. Raises ``refusal`` unless every address of a host is permitted."""

    def __init__(self, allowed: AllowList, refusal: type[StageError] = ImageFetchError) -> None:
        self._allowed = allowed
        self._refusal = refusal
        self._network = AnyIOBackend()
        # Not asyncio's default threads: names that are slow to resolve would block those that decode images.
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
        raise self._refusal("Sockets are not connected to.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def check(self, host: str, port: int) -> None:
        """Raise ``refusal`` unless the host has addresses, and every one is permitted."""
        await self._permitted(host, port)

    def close(self) -> None:
        """Shut the threads down without waiting; one that still resolves ends by itself."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def _permitted(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            addresses = await loop.run_in_executor(self._resolvers, _addresses, host, port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses or not all(self._allowed.permits(host, address) for address in addresses):
            # One message for both: clients must not learn whether an internal name exists.
            raise self._refusal(f"No public address was found for {host}.")
        return addresses


def _addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a host in the system's order of preference; a host may be a number in any notation."""
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in infos))
