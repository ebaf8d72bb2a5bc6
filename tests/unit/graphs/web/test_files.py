"""Ranges and conditions of RFC 9110, header by header."""

from datetime import UTC, datetime

import pytest
from fastapi import Request

from graphs.web.files import Selection, StoredFile, asks_for_range, select

FILE = StoredFile("a", "a", "a.mp4", "video/mp4", '"abc"', datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC), 1000)
BEFORE, SAME, LATER = (f"Sun, 01 Mar 2026 12:30:{second:02} GMT" for second in (14, 15, 16))
WHOLE = Selection(200, 0, 1000)


def get(**headers: str) -> Selection:
    return select("GET", {name.replace("_", "-"): value for name, value in headers.items()}, FILE)


def test_last_modified_is_a_date_of_http() -> None:
    assert FILE.last_modified == SAME


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-999", 0, 1000),
        ("bytes=10-19", 10, 20),
        ("bytes=990-5000", 990, 1000),
        ("bytes=999-", 999, 1000),
        ("bytes=0-", 0, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-1000", 0, 1000),
        ("bytes=-5000", 0, 1000),
        ("Bytes= 1-2 ", 1, 3),
        ("bytes=00-05", 0, 6),
    ],
)
def test_a_range_is_answered_with_its_bytes(header: str, start: int, end: int) -> None:
    assert get(range=header) == Selection(206, start, end)


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=999999999999999999-"])
def test_a_range_behind_the_end_cannot_be_answered(header: str) -> None:
    assert get(range=header).status == 416


@pytest.mark.parametrize(
    "header",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-1", "bytes=1", "bytes 0-1", "bytes=0x1-2"),
        *("items=0-1", "bytes=--1", "bytes=1-2-3", "bytes=+1-2", "bytes=1 -2", f"bytes={'9' * 5000}-", "bytes=١-٢"),
        *("bytes=0-1,5-6", "bytes=0-1,", "bytes=,0-1"),
    ],
)
def test_a_malformed_range_and_several_ranges_are_answered_with_the_file(header: str) -> None:
    assert get(range=header) == WHOLE


def test_a_range_of_another_version_is_answered_with_the_file() -> None:
    part = Selection(206, 0, 5)
    assert get(range="bytes=0-4", if_range='"abc"') == part
    assert get(range="bytes=0-4", if_range=SAME) == part
    for other in ('"abd"', 'W/"abc"', BEFORE, LATER, "nonsense", ""):
        assert get(range="bytes=0-4", if_range=other) == WHOLE
    assert get(range="bytes=5000-", if_range='"abd"') == WHOLE


@pytest.mark.parametrize("known", ['"abc"', 'W/"abc"', '"x", "abc"', "*", '"x",W/"abc" '])
def test_what_the_client_has_is_not_sent_again(known: str) -> None:
    assert get(if_none_match=known).status == 304
    assert get(if_none_match=known, range="bytes=0-4").status == 304


@pytest.mark.parametrize("known", ['"x"', "abc", 'W/"x"', ""])
def test_another_version_is_sent(known: str) -> None:
    assert get(if_none_match=known) == WHOLE


def test_dates_count_where_no_tags_are_given() -> None:
    assert get(if_modified_since=SAME).status == 304
    assert get(if_modified_since=LATER).status == 304
    assert get(if_modified_since=BEFORE) == WHOLE
    assert get(if_modified_since="yesterday") == WHOLE
    assert get(if_modified_since=LATER, if_none_match='"x"') == WHOLE
    assert get(if_unmodified_since=BEFORE).status == 412
    assert get(if_unmodified_since=SAME) == WHOLE
    assert get(if_unmodified_since=BEFORE, if_match='"abc"') == WHOLE


def test_a_version_that_is_not_there_is_refused() -> None:
    assert get(if_match='"abc"') == get(if_match="*") == get(if_match='"x", "abc"') == WHOLE
    assert get(if_match='"x"').status == 412
    assert get(if_match='W/"abc"').status == 412  # a weak tag promises no equal bytes


@pytest.mark.parametrize(
    ("method", "header", "asks"),
    [
        *(("GET", header, True) for header in ("bytes=0-1", "bytes=0-999", "bytes=1-", "bytes=-5", "bytes=00-0")),
        *(("GET", header, False) for header in ("", "bytes=0-", "bytes=000-", "bytes=0-1,5-6", "bytes=-", "x=0-1")),
        ("HEAD", "bytes=0-1", False),
    ],
)
def test_who_needs_a_file_that_is_whole(method: str, header: str, asks: bool) -> None:
    scope = {"type": "http", "method": method, "headers": [(b"range", header.encode())]}
    assert asks_for_range(Request(scope)) == asks


def test_only_get_has_ranges() -> None:
    assert select("HEAD", {"range": "bytes=0-4"}, FILE) == WHOLE
    assert select("HEAD", {"range": "bytes=5000-"}, FILE) == WHOLE
    assert select("HEAD", {"if-none-match": '"abc"'}, FILE).status == 304
