"""An object of a bucket as a file that is read in ranges, for libraries that seek in it."""

import io
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

BLOCK_BYTES = 2**20
CACHED_BLOCKS = 16
MOST_AHEAD = 8
"""Blocks of one request at most; read in a row, the number doubles up to this."""

Fetch = Callable[[int, int], bytes]


class RangedFile(io.RawIOBase):
    """Reads ``size`` bytes by ``fetch(start, end)``, in blocks of which it keeps the last few: 16 MiB at most."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size
        self._place = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next = -1
        self._ahead = 1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"no place in a file: {base + offset}")
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Up to the end of a block; 0 at the end of the file."""
        if self._place >= self._size:
            return 0
        number, offset = divmod(self._place, BLOCK_BYTES)
        piece = self._block(number)[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)

    def close(self) -> None:
        self._blocks.clear()
        super().close()

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._ahead = min(2 * self._ahead, MOST_AHEAD) if number == self._next else 1
            self._read(number, self._ahead)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _read(self, number: int, count: int) -> None:
        start = number * BLOCK_BYTES
        data = self._fetch(start, min(start + count * BLOCK_BYTES, self._size))
        for place in range(0, len(data), BLOCK_BYTES):
            self._blocks[number + place // BLOCK_BYTES] = data[place : place + BLOCK_BYTES]
        self._next = number + count
        while len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)
