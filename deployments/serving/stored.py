"""Stored pictures and videos, for stages that get a key of the object store.

By key the bytes cross neither the gateway nor the connection between it and the stage.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from configs.settings import settings
from stores.errors import StoreError
from stores.objects import ObjectNotFound
from stores.open import Stores
from vision.errors import MediaNotFound, StageUnavailable
from vision.media.nvdec import Decoder
from vision.media.reader import VideoReader


class StoredPictures:
    """Reads pictures from the object store of the settings."""

    def __init__(self) -> None:
        self._objects = Stores.open(settings()).objects

    def encoded(self, item: str | bytes) -> bytes:
        """Return the bytes under a key; bytes are returned as they are. Raises MediaNotFound and StageUnavailable."""
        if isinstance(item, bytes):
            return item
        with _store_errors("picture"):
            return self._objects.read(item)


class StoredVideos:
    """Opens videos in the object store of the settings."""

    def __init__(self) -> None:
        self._objects = Stores.open(settings()).objects

    def open(self, key: str) -> BinaryIO:
        """Return the file under a key; close it. Raises MediaNotFound and StageUnavailable."""
        with _store_errors("video"):
            return self._objects.open(key)


class _OpenReader:
    """An open reader, its file, and since when nobody uses it."""

    def __init__(self, key: str, file: BinaryIO, reader: VideoReader) -> None:
        self.key, self.file, self.reader, self.idle_since = key, file, reader, time.monotonic()

    def close(self) -> None:
        self.reader.close()
        self.file.close()


class ReaderPool:
    """Lends readers by object key, each to one borrower at a time, and keeps ``most_idle`` of the returned ones open.

    Opening a long video means reading all of it for its index; a reader that is still open starts at once.
    """

    def __init__(
        self, open_file: Callable[[str], BinaryIO], *, threads: int, most_idle: int, decoder: Decoder = "software"
    ) -> None:
        self._open_file = open_file
        self._threads = threads
        self._decoder = decoder
        self._most_idle = most_idle
        self._idle: list[_OpenReader] = []
        self._lock = threading.Lock()

    @contextmanager
    def borrowed(self, key: str) -> Iterator[VideoReader]:
        """Lend a reader of this video. After an exception it is closed, as its state is not known.

        Raises MediaNotFound, StageUnavailable and InvalidMedia.
        """
        with _store_errors("video"):
            entry = self._take(key) or self._open(key)
            try:
                yield entry.reader
            except GeneratorExit:  # the borrower left, the reader is as good as before
                self._return(entry)
                raise
            except BaseException:
                entry.close()
                raise
            self._return(entry)

    def close_idle(self, older_than_s: float = 0.0) -> None:
        """Close readers that nobody has used for so long."""
        until = time.monotonic() - older_than_s
        with self._lock:
            old = [entry for entry in self._idle if entry.idle_since <= until]
            self._idle = [entry for entry in self._idle if entry.idle_since > until]
        for entry in old:
            entry.close()

    def _take(self, key: str) -> _OpenReader | None:
        with self._lock:
            entry = next((entry for entry in reversed(self._idle) if entry.key == key), None)
            if entry is not None:
                self._idle.remove(entry)
            return entry

    def _open(self, key: str) -> _OpenReader:
        file = self._open_file(key)
        try:
            reader = VideoReader(file, threads=self._threads, probed=True, decoder=self._decoder)
            return _OpenReader(key, file, reader)
        except BaseException:
            file.close()
            raise

    def _return(self, entry: _OpenReader) -> None:
        entry.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(entry)
            surplus = self._idle[: -self._most_idle]
            del self._idle[: -self._most_idle]
        for old in surplus:
            old.close()


@contextmanager
def _store_errors(what: str) -> Iterator[None]:
    """Turn what an object store raises into errors of a stage."""
    try:
        yield
    except ObjectNotFound:
        raise MediaNotFound(f"This {what} is not in the object store any more; upload it again.") from None
    except StoreError as error:
        raise StageUnavailable(error.message) from error
