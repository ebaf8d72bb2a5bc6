"""Packets of an MP4 or MOV file by the tables of its header, so that none of its pictures and sounds has to be read.

Only ordinary files are read this way; where anything is out of the ordinary (fragments, several edits, samples behind
the end of the file, …) FFmpeg has to read the packets themselves. ISO/IEC 14496-12 describes the boxes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from vision.media.claims import top_boxes
from vision.media.index import MAX_PACKETS, PacketTable

MAX_HEADER: Final = 256 * 2**20
MAX_BOXES: Final = 10_000
"""Boxes of a header, of which a track has about thirty."""
_PARENTS: Final = {b"mdia", b"minf", b"stbl", b"edts"}
_SPECIAL: Final = {b"stps", b"sbgp", b"cslg"}
"""Boxes of key frames that are not listed with the others; ``cslg`` comes with times that are shifted."""

Ints = NDArray[np.int64]


class _Unusual(Exception):
    """The file is not one that is read by its tables."""


@dataclass(frozen=True, slots=True)
class _Track:
    """Boxes of one track by name; ``scale`` and ``movie_scale`` in ticks a second."""

    boxes: dict[bytes, memoryview]
    scale: int
    movie_scale: int

    def samples(self, size: int, *, video: bool) -> tuple[Ints, Ints, Ints, Ints]:
        """Return PTS, DTS, durations and positions of the samples, int64 (n,), in ticks of ``scale``."""
        durations = _runs(self._rows(b"stts", ">u4"))
        count = len(durations)
        dts = np.concatenate([[0], np.cumsum(durations[:-1])]).astype(np.int64)
        # Decoding times that go back are stored as steps of more than half the range.
        if not count or (durations >= 2**31).any():
            raise _Unusual
        offsets = _runs(self._rows(b"ctts", ">i4")) if b"ctts" in self.boxes else np.zeros(count, np.int64)
        sizes = self._sizes(count)
        pos = self._positions(sizes)
        if len(offsets) != count or (sizes == 0).any() or int((pos + sizes).max()) > size:
            raise _Unusual
        pts = dts + offsets
        shift, begin, end = self._edit()
        pts, dts = pts + shift, dts + shift
        if video and ((pts < begin).any() or (pts >= end).any()):
            raise _Unusual
        heard = pts < end
        return pts[heard], dts[heard], durations[heard], pos[heard]

    def keys(self, count: int) -> NDArray[np.bool_]:
        """Return which samples decoding can start at, bool (n,)."""
        if not _SPECIAL.isdisjoint(self.boxes):
            raise _Unusual
        if b"stss" not in self.boxes:
            return np.ones(count, bool)
        numbers = self._rows(b"stss", ">u4", 1)[:, 0] - 1
        if not len(numbers) or numbers.min() < 0 or numbers.max() >= count:
            raise _Unusual
        key = np.zeros(count, bool)
        key[numbers] = True
        return key

    def _edit(self) -> tuple[int, int, float]:
        """Return by how much the one edit moves the samples, and when it begins and ends, in ticks."""
        body = self.boxes.get(b"elst")
        if body is None:
            return 0, 0, np.inf
        long = body[0] == 1
        entry = struct.Struct(">Qqhh" if long else ">Iihh")
        count = int.from_bytes(body[4:8])
        edits = [entry.unpack_from(body, 8 + entry.size * number) for number in range(min(count, 3))]
        delay = 0
        if edits and edits[0][1] == -1:
            delay = round(Fraction(edits.pop(0)[0] * self.scale, self.movie_scale))
        if len(edits) != 1 or edits[0][1] < 0 or edits[0][2:] != (1, 0):
            raise _Unusual
        length, begin = edits[0][:2]
        end = delay + Fraction(length * self.scale, self.movie_scale)
        return delay - begin, delay, float(end) if length else np.inf

    def _sizes(self, count: int) -> Ints:
        body = self._box(b"stsz")
        each, number = struct.unpack_from(">II", body, 4)
        if number != count:
            raise _Unusual
        return np.full(count, each, np.int64) if each else _numbers(body, 12, count, ">u4")

    def _positions(self, sizes: Ints) -> Ints:
        name, kind = (b"stco", ">u4") if b"stco" in self.boxes else (b"co64", ">u8")
        chunks = self._rows(name, kind, 1)[:, 0]
        runs = self._rows(b"stsc", ">u4", 3)
        first = runs[:, 0] - 1
        if not len(chunks) or not len(runs) or first[0] or (np.diff(first) <= 0).any() or first[-1] >= len(chunks):
            raise _Unusual
        per_chunk = np.repeat(runs[:, 1], np.diff(np.append(first, len(chunks))))
        if int(per_chunk.sum()) != len(sizes) or (runs[:, 2] != 1).any():
            raise _Unusual
        starts = np.cumsum(per_chunk) - per_chunk
        before = np.cumsum(sizes) - sizes
        pos: Ints = np.repeat(chunks - before[np.minimum(starts, len(sizes) - 1)], per_chunk) + before
        return pos

    def _rows(self, name: bytes, kind: str, columns: int = 2) -> Ints:
        body = self._box(name)
        count = int.from_bytes(body[4:8])
        return _numbers(body, 8, count * columns, kind).reshape(count, columns)

    def _box(self, name: bytes) -> memoryview:
        if name not in self.boxes:
            raise _Unusual
        return self.boxes[name]


def table_of(file: BinaryIO, video: Any, sound: Any | None) -> PacketTable | None:
    """Return the table of packets of PyAV's ``video`` stream in an MP4 or MOV file, and when its ``sound`` ends.

    None where the file has to be read for it. The position of the file object stays as it is.
    """
    place = file.tell()
    try:
        return _table(file, video, sound)
    except (_Unusual, struct.error, ValueError, IndexError, OverflowError):
        return None
    finally:
        file.seek(place)


def _table(file: BinaryIO, video: Any, sound: Any | None) -> PacketTable:
    size = file.seek(0, 2)
    tracks, movie_scale = _tracks(_header(file))
    track = _track_of(tracks, video, movie_scale)
    pts, dts, durations, pos = track.samples(size, video=True)
    key = track.keys(len(pts))
    _check(video, dts, pos, key)
    end = 0.0
    if sound is not None:
        beside = _track_of(tracks, sound, movie_scale)
        heard, _, lengths, _ = beside.samples(size, video=False)
        end = float((heard + lengths).max() / beside.scale) if len(heard) else 0.0
    return PacketTable(pts, dts, key, np.zeros(len(pts), bool), durations, pos, end, int(pos.max()))


def _check(video: Any, dts: Ints, pos: Ints, key: NDArray[np.bool_]) -> None:
    """Compare with the index that FFmpeg has made of the same tables."""
    entries = video.index_entries
    if len(entries) != len(dts):
        raise _Unusual
    for place in {0, len(dts) // 2, len(dts) - 1}:
        entry = entries[place]
        if (entry.timestamp, entry.pos, bool(entry.flags & 1)) != (int(dts[place]), int(pos[place]), bool(key[place])):
            raise _Unusual


def _track_of(tracks: list[tuple[int, dict[bytes, memoryview]]], stream: Any, movie_scale: int) -> _Track:
    boxes = [boxes for number, boxes in tracks if number == stream.id]
    if len(boxes) != 1 or b"mdhd" not in boxes[0]:
        raise _Unusual
    scale = _field(boxes[0][b"mdhd"], 12)
    if stream.time_base != Fraction(1, scale or 1) or not movie_scale:
        raise _Unusual
    return _Track(boxes[0], scale, movie_scale)


def _header(file: BinaryIO) -> memoryview:
    """Return the body of the box ``moov``."""
    header = memoryview(b"")
    for kind, start, end in top_boxes(file):
        if kind in (b"moof", b"mfra", b"sidx") or end < start:
            raise _Unusual
        if kind == b"moov":
            if header or end - start + 16 > MAX_HEADER:  # a head takes 16 bytes at most
                raise _Unusual
            file.seek(start)
            header = memoryview(file.read(end - start))
    return header


def _tracks(header: memoryview) -> tuple[list[tuple[int, dict[bytes, memoryview]]], int]:
    tracks: list[tuple[int, dict[bytes, memoryview]]] = []
    movie_scale = 0
    quota = iter(range(MAX_BOXES))
    for kind, start, end in _boxes(header, 0, len(header), quota):
        if kind == b"mvex":
            raise _Unusual
        if kind == b"mvhd":
            movie_scale = _field(header[start:end], 12)
        if kind == b"trak":
            boxes = dict(_leaves(header, start, end, quota))
            tracks.append((_field(boxes.get(b"tkhd", memoryview(b"\0")), 12), boxes))
    return tracks, movie_scale


def _field(body: memoryview, place: int) -> int:
    """Return a field behind two times, which take twice as much in version 1 of a box."""
    place += 8 if body[0] == 1 else 0
    return int.from_bytes(body[place : place + 4])


def _leaves(
    data: memoryview, start: int, end: int, quota: Iterator[int], depth: int = 4
) -> Iterator[tuple[bytes, memoryview]]:
    for kind, inner, behind in _boxes(data, start, end, quota):
        if kind in _PARENTS and depth:
            yield from _leaves(data, inner, behind, quota, depth - 1)
        else:
            yield kind, data[inner:behind]


def _boxes(data: memoryview, start: int, end: int, quota: Iterator[int]) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, and begin and end of the body, of as many boxes as the ``quota``, which all calls share, has."""
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        if length < 8 or start + length > end or next(quota, None) is None:
            raise _Unusual
        yield kind, start + 8, start + length
        start += length


def _numbers(body: memoryview, offset: int, count: int, kind: str) -> Ints:
    if count > MAX_PACKETS:
        raise _Unusual
    return np.frombuffer(body, kind, count, offset).astype(np.int64)


def _runs(rows: Ints) -> Ints:
    """Return values of which a table has (count, value)."""
    if int(rows[:, 0].sum()) > MAX_PACKETS:
        raise _Unusual
    return np.repeat(rows[:, 1], rows[:, 0])
