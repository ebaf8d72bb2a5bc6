"""Which bytes of a stored file a request wants: ranges and conditions as RFC 9110 has them (sections 13 and 14)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

_RANGES: Final = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL)
_RANGE: Final = re.compile(r"[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII)
_ETAG: Final = re.compile(r'(?:W/)?("[^"]*")')


@dataclass(frozen=True, slots=True)
class StoredFile:
    """``etag`` with its quotes, strong; ``modified`` in UTC and whole seconds; ``size`` in bytes."""

    etag: str
    modified: datetime
    size: int

    @property
    def last_modified(self) -> str:
        """``modified`` as headers have it."""
        return format_datetime(self.modified, usegmt=True)


@dataclass(frozen=True, slots=True)
class Selection:
    """The answer's status (200, 206, 304, 412 or 416) and its bytes, from ``start`` to before ``end``."""

    status: int
    start: int = 0
    end: int = 0


def select(method: str, headers: Mapping[str, str], file: StoredFile) -> Selection:
    """What to answer to a GET or HEAD with these headers; the names of ``headers`` in any case.

    A malformed range is as good as none, and so are several ranges at once: the whole file has them all.
    """
    if not _wanted_version(headers, file):
        return Selection(412)
    if _known_already(headers, file):
        return Selection(304)
    whole = Selection(200, 0, file.size)
    if method != "GET" or not _still_of_range(headers, file):
        return whole
    given = _RANGES.fullmatch(headers.get("range", ""))
    found = _RANGE.fullmatch(given[1]) if given else None
    return _part(found[1], found[2], file.size) or whole if found else whole


def _part(first: str, last: str, size: int) -> Selection | None:
    """Of ``first-last``, ``first-`` or ``-length``; None when it is none of them."""
    if first:
        if last and int(last) < int(first):
            return None
        start, end = int(first), min(int(last) + 1, size) if last else size
    elif last:
        start, end = max(size - int(last), 0), size
    else:
        return None
    return Selection(206, start, end) if start < end else Selection(416)


def _wanted_version(headers: Mapping[str, str], file: StoredFile) -> bool:
    if wanted := headers.get("if-match"):
        return wanted.strip() == "*" or file.etag in _strong(wanted)
    since = _date(headers.get("if-unmodified-since"))
    return since is None or file.modified <= since


def _known_already(headers: Mapping[str, str], file: StoredFile) -> bool:
    if known := headers.get("if-none-match"):
        return known.strip() == "*" or file.etag in _ETAG.findall(known)
    since = _date(headers.get("if-modified-since"))
    return since is not None and file.modified <= since


def _still_of_range(headers: Mapping[str, str], file: StoredFile) -> bool:
    """Whether the range is of this version of the file. Section 13.1.5: only an exact date will do."""
    condition = headers.get("if-range")
    return condition is None or condition.strip() == file.etag or _date(condition) == file.modified


def _strong(etags: str) -> list[str]:
    return [found[1] for found in _ETAG.finditer(etags) if found[0] == found[1]]


def _date(value: str | None) -> datetime | None:
    """None for what is no date, which is to be ignored."""
    try:
        found = parsedate_to_datetime(value or "")
    except (ValueError, IndexError, OverflowError):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
