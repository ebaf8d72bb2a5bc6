"""Hosts, origins and base URLs, as settings name them and as requests do."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

MAX_HOST: Final = 253
"""Characters of a host name (RFC 1035)."""
PORTS: Final = {"http": 80, "https": 443}

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+?)\.?(?::([0-9]{0,5}))?", re.ASCII)
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*", re.ASCII)


class Authority(NamedTuple):
    """A host, in lower case and an IPv6 address in brackets, and its port; None where none is named."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> "Authority | None":
        """Read ``host`` or ``host:port``; None for anything else, such as credentials, spaces or no such port."""
        match = _AUTHORITY.fullmatch(text.lower()) if len(text) <= MAX_HOST + len(".:65535") else None
        if match is None:
            return None
        host, port = match[1], int(match[2]) if match[2] else None
        if port is not None and not 0 < port < 2**16:
            return None
        if host.startswith("["):
            address = _address(host[1:-1])
            return cls(f"[{address}]", port) if isinstance(address, IPv6Address) else None
        return cls(host, port) if len(host) <= MAX_HOST and _NAME.fullmatch(host) else None

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine has this host."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        address = _address(self.host.strip("[]"))
        return address is not None and address.is_loopback

    def matches(self, pattern: str) -> bool:
        """Return whether the host is that of a pattern: the same, below ``*.domain``, or any for ``*``."""
        return pattern in ("*", self.host) or (pattern.startswith("*.") and self.host.endswith(pattern[1:]))

    def url(self, scheme: str) -> str:
        """Return the base URL, without the usual port of its scheme and without a slash at its end."""
        port = "" if self.port in (None, PORTS.get(scheme)) else f":{self.port}"
        return f"{scheme}://{self.host}{port}"


def host_pattern(text: str) -> str:
    """Return a host as ``Authority.matches`` takes it. Raises ValueError for what is none."""
    if text == "*":
        return text
    wildcard = "*." if text.startswith("*.") else ""
    authority = Authority.parse(_bracketed(text.removeprefix(wildcard)))
    if authority is None or authority.port is not None:
        raise ValueError("name hosts without scheme and port, such as vision.example or *.example")
    return wildcard + authority.host


def origin(text: str) -> str:
    """Return an origin as browsers send it, or ``*``. Raises ValueError for what is none."""
    if text == "*":
        return text
    parts = urlsplit(text)
    authority = Authority.parse(parts.netloc)
    if parts.scheme not in PORTS or authority is None or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("name origins as scheme://host or scheme://host:port, such as https://app.example, or *")
    return authority.url(parts.scheme)


def base_url(text: str) -> str:
    """Return a base URL without a slash at its end. Raises ValueError unless it is http(s)://host[:port][/prefix]."""
    parts = urlsplit(text)
    authority, prefix = Authority.parse(parts.netloc), parts.path.rstrip("/")
    if parts.scheme not in PORTS or authority is None or parts.query or parts.fragment or not _PREFIX.fullmatch(prefix):
        raise ValueError("write it as http://host, https://host:port or https://host/prefix")
    return authority.url(parts.scheme) + prefix


def is_confidential(url: str) -> bool:
    """Return whether nobody on the way can read or change what a URL gives: https, or this machine."""
    parts = urlsplit(url)
    authority = Authority.parse(parts.netloc)
    if parts.scheme == "http":
        return authority is not None and authority.is_loopback
    return authority is not None and parts.scheme == "https"


def _bracketed(text: str) -> str:
    return f"[{text}]" if isinstance(_address(text), IPv6Address) else text


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
