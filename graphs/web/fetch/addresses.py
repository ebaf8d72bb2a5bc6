"""Which addresses a stranger may make this service talk to."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

# IANA's special-purpose registries, as far as the standard library of some Python 3.11 or 3.12 still calls them
# global, and what is public by number only.
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
    """Whether the address is one of the internet's hosts; one that holds an IPv4 address is judged by that."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None:
            return address in _UNICAST_V6 and not any(address in network for network in _SPECIAL_V6)
        address = inner
    return address.is_global and not address.is_multicast and not any(address in network for network in _SPECIAL_V4)


class AllowList:
    """Host names (exact, any case) and networks that are fetched from though they are not public.

    :raises ValueError: an entry is neither.
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
        """Whether this address, which the host name stands for, may be connected to."""
        found = ip_address(address)
        if is_public(found) or host.lower().rstrip(".") in self._names:
            return True
        plain = (found.ipv4_mapped if isinstance(found, IPv6Address) else None) or found
        return any(plain in network for network in self._networks)
