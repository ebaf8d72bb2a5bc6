"""Who sent a request: addresses, networks of one client, and chains of proxies of which some may lie."""

from ipaddress import ip_network
from typing import Any

import pytest

from graphs.web.rates import Clients

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def name(peer: Any, *forwarded: str) -> str:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return Clients(TRUSTED).name({"client": peer, "headers": [(b"host", b"a"), *headers]})


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (("9.9.9.9", 1), "9.9.9.9"),
        (("::ffff:9.9.9.9", 1), "9.9.9.9"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::"),
        (("2001:db8:1:2:ffff::1", 1), "2001:db8:1:2::"),
        (("2001:db8:1:3::1", 1), "2001:db8:1:3::"),
        (("10.0.0.1", 1), "10.0.0.1"),
        (("unix", 0), "unknown"),
        (None, "unknown"),
    ],
)
def test_a_client_without_proxies(peer: Any, expected: str) -> None:
    assert name(peer) == expected


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (["9.9.9.9"], "9.9.9.9"),
        (["9.9.9.9:4711"], "9.9.9.9"),
        (["[2001:db8::1]:4711"], "2001:db8::"),
        (["2001:db8::1"], "2001:db8::"),
        (["1.1.1.1, 9.9.9.9"], "9.9.9.9"),
        (["1.1.1.1,9.9.9.9,10.2.2.2"], "9.9.9.9"),
        (["1.1.1.1", "9.9.9.9", "10.2.2.2, fd12::3"], "9.9.9.9"),
        (["10.2.2.2, 10.3.3.3"], "10.2.2.2"),
        (["9.9.9.9, unknown"], "10.0.0.1"),
        (["9.9.9.9, unknown, 10.2.2.2"], "10.2.2.2"),
        (["9.9.9.9, " + "1" * 5000], "10.0.0.1"),
        (["9.9.9.9,"], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["ä, 9.9.9.9"], "9.9.9.9"),
    ],
)
def test_the_nearest_that_is_no_trusted_proxy(forwarded: list[str], expected: str) -> None:
    assert name(("10.0.0.1", 1), *forwarded) == expected


def test_what_strangers_say_of_themselves_counts_nothing() -> None:
    assert name(("9.9.9.9", 1), "1.1.1.1") == "9.9.9.9"
    assert Clients(()).name({"client": ("127.0.0.1", 1), "headers": [(b"x-forwarded-for", b"1.1.1.1")]}) == "127.0.0.1"
