"""Stored pictures and videos, for stages that get a key of the object store.

By key the bytes cross neither the gateway nor the connection between it and the stage.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

from configs.settings import settings
from deployments.serving.metrics import record_store_call
from stores.errors import StoreError
from stores.objects import ObjectNotFound
from stores.open import Stores
from vision.errors import MediaNotFound, StageUnavailable
from vision.media.nvdec import Decoder
from vision.media.reader import Known, VideoReader

FAR: Final = 16
"""Frames from the key frame on up to which decoding costs no more than another open reader."""


class StoredPictures:
    """Reads pictures from the object store of the settings."""

    def __init__(self) -> None:
        self._objects = Stores.open(settings(), record_store_call).objects

    def encoded(self, item: str | bytes) -> bytes:
        """Return the bytes under a key; bytes are returned as they are. Raises MediaNotFound and StageUnavailable."""
        if isinstance(item, bytes):
            return item
        with _store_errors("picture"):
            return self._objects.read(item)


class StoredVideos:
    """Opens videos in the object store of the settings."""

    def __init__(self) -> None:
        self._objects = Stores.open(settings(), record_store_call).objects

    def open(self, key: str) -> BinaryIO:
        """Return the file under a key; close it. Raises MediaNotFound and StageUnavailable."""
        with _store_errors("video"):
            return self._objects.open(key)


class _OpenReader:
    """An open reader, its file, and since when nobody uses it."""

    def __init__(self, key: str, file: BinaryIO, reader: VideoReader) -> None:
        self.key, self.file, self.reader, self.idle_since = key, file, reader, time.monotonic()
        self.memory = reader.memory

    @property
    def is_gone(self) -> bool:
        """Whether the file was deleted or replaced since it was opened, as far as its store tells."""
        with suppress(OSError, ValueError, AttributeError):
            return os.fstat(self.file.fileno()).st_nlink == 0
        return False

    def close(self) -> None:
        self.reader.close()
        self.file.close()


class ReaderPool:
    """Lends readers by object key, each to one borrower at a time, and keeps returned ones open at their places.

    Opening a long video means reading all of it for its index, and a frame is decoded from the key frame before it, or
    on from the place of an open reader. So one video may have several, at different places; together there are
    ``most_idle`` of them at most, and ``most_bytes`` of memory, by ``VideoReader.memory``. The first reader of a video
    has ``threads``; the others, which come with many requests at once, have one each, which takes less memory and time
    of the processor.
    """

    def __init__(
        self,
        open_file: Callable[[str], BinaryIO],
        *,
        threads: int,
        most_idle: int,
        most_bytes: int,
        decoder: Decoder = "software",
    ) -> None:
        self._open_file = open_file
        self._threads = threads
        self._decoder = decoder
        self._most_idle = most_idle
        self._most_bytes = most_bytes
        self._idle: list[_OpenReader] = []
        self._lock = threading.Lock()

    @contextmanager
    def borrowed(self, key: str, frame: Callable[[VideoReader], int] | None = None) -> Iterator[VideoReader]:
        """Lend a reader of this video. After an exception it is closed, as its state is not known.

        ``frame`` returns the one that is decoded first, given any reader of the video; without it none is. Raises
        MediaNotFound, StageUnavailable and InvalidMedia, and what ``frame`` raises.
        """
        with _store_errors("video"):
            entry = self._taken(key, frame)
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
        """Close readers that nobody has used for so long, and those of files that are gone."""
        until = time.monotonic() - older_than_s
        with self._lock:
            old = [entry for entry in self._idle if entry.idle_since <= until or entry.is_gone]
            self._idle = [entry for entry in self._idle if entry not in old]
        for entry in old:
            entry.close()

    def _taken(self, key: str, frame: Callable[[VideoReader], int] | None) -> _OpenReader:
        with self._lock:
            idle = [entry for entry in reversed(self._idle) if entry.key == key]
            entry = self._chosen(idle, frame) if idle else None
            if entry is not None:
                self._idle.remove(entry)
        return entry or self._open(key, idle[0].reader.known if idle else None)

    def _chosen(self, idle: list[_OpenReader], frame: Callable[[VideoReader], int] | None) -> _OpenReader | None:
        """Return one of the idle readers of a video; None where another one is to be opened."""
        any_one = idle[0].reader
        if frame is None:
            return idle[0]
        number = min(max(frame(any_one), 0), len(any_one.times) - 1)
        nearest = min(idle, key=lambda entry: entry.reader.distance(number))
        if not nearest.reader.seeks(number):
            return nearest
        # All would seek. Where that is far, those that there are stay at their places while there is room.
        if any_one.distance(number) > FAR and self._has_room(min(entry.memory for entry in idle)):
            return None
        return min(idle, key=lambda entry: _saving(entry, idle))

    def _has_room(self, memory: int) -> bool:
        taken = sum(entry.memory for entry in self._idle)
        return len(self._idle) < self._most_idle and taken + memory <= self._most_bytes

    def _open(self, key: str, known: Known | None = None) -> _OpenReader:
        file = self._open_file(key)
        try:
            known = known if self._decoder == "software" else None
            threads = self._threads if known is None else 1
            reader = VideoReader(file, threads=threads, probed=True, decoder=self._decoder, known=known)
            return _OpenReader(key, file, reader)
        except BaseException:
            file.close()
            raise

    def _return(self, entry: _OpenReader) -> None:
        entry.idle_since = time.monotonic()
        surplus = []
        with self._lock:
            while self._idle and not self._has_room(entry.memory):
                surplus.append(self._idle.pop(0))
            self._idle.append(entry)
        for old in surplus:
            old.close()


def _saving(entry: _OpenReader, idle: list[_OpenReader]) -> int:
    """Return how much decoding its place saves: frames behind it up to the next start, times those it is ahead by."""
    place = entry.reader.place
    first, behind = entry.reader.between_keys(place)
    others = [other.reader.place for other in idle if other is not entry]
    if place in others:
        return 0
    first = max((other for other in others if first <= other < place), default=first)
    behind = min((other for other in others if place < other < behind), default=behind)
    return (place - first) * (behind - place)


@contextmanager
def _store_errors(what: str) -> Iterator[None]:
    """Turn what an object store raises into errors of a stage."""
    try:
        yield
    except ObjectNotFound:
        raise MediaNotFound(f"This {what} is not in the object store any more; upload it again.") from None
    except StoreError as error:
        raise StageUnavailable(error.message) from error
