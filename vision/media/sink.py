"""Where a muxer writes to when its bytes go straight on."""

from typing import Final

CHUNK_BYTES: Final = 64 * 1024


class Sink:
    """What a muxer has written, as a file without places."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes) -> int:
        self._bytes += data
        return len(data)

    def take(self, at_least: int = 1) -> bytes:
        """All of it, once there is so much."""
        if len(self._bytes) < at_least:
            return b""
        data = bytes(self._bytes)
        self._bytes.clear()
        return data
