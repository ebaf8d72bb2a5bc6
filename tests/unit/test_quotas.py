"""Quotas as text: what is read, what is shown, and what is refused."""

import pytest

from configs.quotas import Quota, limits_of, parse_quota, quota_text


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("", {}),
        ("bytes=50GB", {"bytes": 50 * 10**9}),
        ("bytes=512 MiB, jobs=4", {"bytes": 512 * 2**20, "jobs": 4}),
        ("bytes=1kB,files=0", {"bytes": 1000, "files": 0}),
        ("videos=none", {"videos": None}),
        ("bytes=17,", {"bytes": 17}),
        ("bytes=1TiB", {"bytes": 2**40}),
    ],
)
def test_text_is_read_and_shown(text: str, quota: Quota) -> None:
    assert parse_quota(text) == quota
    assert parse_quota(quota_text(quota)) == quota


@pytest.mark.parametrize(
    "text",
    [
        *("bytes", "bytes=", "bytes=-1", "bytes=1.5GB", "bytes=50gb", "jobs=4GB", "cpu=1", "bytes=1,bytes=2"),
        *("bytes=99999TB", "files=1 000", "jobs=four", "=4", "bytes=²"),
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"quota|counted"):
        parse_quota(text)


def test_a_key_has_its_own_limits_before_those_of_its_rate() -> None:
    of_class = parse_quota("bytes=1GB,jobs=2,videos=9")
    assert limits_of(parse_quota(["jobs=5", "bytes=none"]), of_class) == {"jobs": 5, "videos": 9}
    assert limits_of({}, {}) == {}
