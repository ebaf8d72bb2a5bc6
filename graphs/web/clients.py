"""Who sent a request, behind the proxies that are trusted to say so."""

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from starlette.types import Scope

from configs.settings import Networks

KNOWN: Final = 4096
LONGEST: Final = 64
"""Characters of an address with scope, port and brackets."""


class _Peer(NamedTuple):
    name: str
    trusted: bool


class Clients:
    """Names of clients by address; addresses of one IPv6 network of 64 bits are one client."""

    def __init__(self, trusted: Networks) -> None:
        self._trusted = trusted
        self._peer = lru_cache(KNOWN)(self._look)

    def name(self, scope: Scope) -> str:
        """The nearest address that is no trusted proxy, as the proxies before it tell in X-Forwarded-For."""
        client = scope.get("client")
        nearest = (client and self._peer(client[0])) or _Peer("unknown", False)
        if nearest.trusted:
            for hop in _forwarded(scope):
                peer = self._peer(hop) if len(hop) <= LONGEST else None
                if peer is None:
                    break
                nearest = peer
                if not nearest.trusted:
                    break
        return nearest.name

    def _look(self, text: str) -> _Peer | None:
        address = _address(text.strip())
        if address is None:
            return None
        trusted = any(address in network for network in self._trusted)
        if isinstance(address, IPv6Address) and not trusted:
            return _Peer(str(IPv6Address(int(address) >> 64 << 64)), trusted)
        return _Peer(str(address), trusted)


def _forwarded(scope: Scope) -> Iterator[str]:
    """Hops, the last one first."""
    for name, value in reversed(scope["headers"]):
        if name == b"x-forwarded-for":
            yield from reversed(value.decode("latin-1").split(","))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without brackets and port."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
