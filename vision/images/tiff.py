"""Finds the page of a TIFF that is its picture, among thumbnails, masks and the previews of a camera.

A page is reduced by bit 0 of NewSubfileType (254) or value 2 of SubfileType (255), and pages may hang below others by
SubIFDs (330): TIFF 6.0, Adobe's technical note 1, BigTIFF.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

MOST_PAGES: Final = 64
MOST_ENTRIES: Final = 1024
_SIZES: Final = {1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}
_FORMATS: Final = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_REDUCED, _MASK = 1, 4
_UNDEVELOPED: Final = {32803, 34892}
"""PhotometricInterpretation of data of a camera's sensor."""


@dataclass(frozen=True, slots=True)
class _Page:
    offset: int
    tags: dict[int, tuple[int, ...]]
    below: bool

    def tag(self, number: int, default: int = 0) -> int:
        values = self.tags.get(number, ())
        return values[0] if values else default

    @property
    def is_full(self) -> bool:
        return not self.tag(254) & (_REDUCED | _MASK) and self.tag(255) != 2 and self.can_be_shown

    @property
    def can_be_shown(self) -> bool:
        return not self.tag(254) & _MASK and self.tag(262) not in _UNDEVELOPED and self.area > 0

    @property
    def area(self) -> int:
        return self.tag(256) * self.tag(257)


def full_page(data: bytes) -> bytes:
    """Return the TIFF with a header that points to its picture, the same bytes where it does already.

    That is the first page that is not reduced, else the largest such page below another, else the largest of all.
    """
    directory = _Directories(data)
    pages = list(directory.pages())
    shown = [page for page in pages if page.can_be_shown]
    if not shown:
        return data
    full = [page for page in shown if page.is_full]
    chain = [page for page in full if not page.below]
    page = chain[0] if chain else max(full or shown, key=lambda page: page.area)
    return data if page is pages[0] else directory.pointing_to(page.offset)


@dataclass(slots=True)
class _Directories:
    """Reader of the directories of a TIFF; what points outside of the file is not there."""

    data: bytes
    order: str = field(init=False)
    big: bool = field(init=False)

    def __post_init__(self) -> None:
        self.order = "<" if self.data[:2] == b"II" else ">"
        self.big = b"+" in self.data[2:4]

    def pages(self) -> Iterator[_Page]:
        """Yield the pages of the chain, each with those below it behind it."""
        offset, seen = self._number("Q" if self.big else "I", 8 if self.big else 4), set[int]()
        while offset and offset not in seen and len(seen) < MOST_PAGES:
            seen.add(offset)
            tags, following = self._tags(offset)
            yield _Page(offset, tags, below=False)
            for below in tags.get(330, ())[:MOST_PAGES]:
                if below not in seen and len(seen) < MOST_PAGES:
                    seen.add(below)
                    yield _Page(below, self._tags(below)[0], below=True)
            offset = following

    def pointing_to(self, offset: int) -> bytes:
        """Return the file with another first page."""
        if self.big:
            return self.data[:8] + struct.pack(f"{self.order}Q", offset) + self.data[16:]
        return self.data[:4] + struct.pack(f"{self.order}I", offset) + self.data[8:]

    def _tags(self, offset: int) -> tuple[dict[int, tuple[int, ...]], int]:
        """Return whole-number tags of a directory, and where the next one is, 0 for none."""
        count_format, step = ("Q", 20) if self.big else ("H", 12)
        start = offset + struct.calcsize(count_format)
        count = self._number(count_format, offset)
        tags = {}
        for at in range(start, start + step * min(count, MOST_ENTRIES), step):
            tag = self._number("H", at)
            if tag in (254, 255, 256, 257, 262, 330):
                tags[tag] = self._values(at)
        return tags, self._number("Q" if self.big else "I", start + step * count)

    def _values(self, at: int) -> tuple[int, ...]:
        kind = self._number("H", at + 2)
        count = min(self._number("Q" if self.big else "I", at + 4), MOST_PAGES)
        place, room = (at + 12, 8) if self.big else (at + 8, 4)
        if kind not in _FORMATS:
            return ()
        if count * _SIZES[kind] > room:
            place = self._number("Q" if self.big else "I", place)
        values: Any = self._unpacked(f"{count}{_FORMATS[kind]}", place)
        return tuple(values)

    def _number(self, kind: str, at: int) -> int:
        return next(iter(self._unpacked(kind, at)), 0)

    def _unpacked(self, kind: str, at: int) -> tuple[Any, ...]:
        layout = self.order + kind
        return struct.unpack_from(layout, self.data, at) if at + struct.calcsize(layout) <= len(self.data) else ()
