"""Open readers of stored videos, kept a while for the next request."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from configs.settings import settings
from stores.documents import StoreError
from stores.objects import ObjectNotFound
from stores.open import open_objects
from vision.errors import MediaNotFound, StageUnavailable
from vision.media.reader import VideoReader


class StoredVideos:
    """Reads from the object store that the settings name."""

    def __init__(self) -> None:
        self._objects = open_objects(settings().objects)

    def open(self, key: str) -> BinaryIO:
        """The file under a key; close it. Raises MediaNotFound and StageUnavailable."""
        with stored():
            return self._objects.open(key)


@contextmanager
def stored() -> Iterator[None]:
    """Turns what an object store raises into errors of a stage."""
    try:
        yield
    except ObjectNotFound:
        raise MediaNotFound("This video is not in the object store any more; upload it again.") from None
    except StoreError as error:
        raise StageUnavailable("The object store does not answer; try again soon.") from error


class _Idle:
    """A reader that nobody uses, its file, and since when."""

    def __init__(self, key: str, file: BinaryIO, reader: VideoReader) -> None:
        self.key, self.file, self.reader, self.since = key, file, reader, time.monotonic()

    def close(self) -> None:
        self.reader.close()
        self.file.close()


class ReaderPool:
    """Lends readers by object key, each to one borrower at a time; of those that come back it keeps ``most_idle``.

    Opening a long video means reading all of it for its index; a reader that is still open starts at once.
    """

    def __init__(self, open_file: Callable[[str], BinaryIO], *, threads: int, most_idle: int) -> None:
        self._open_file = open_file
        self._threads = threads
        self._most_idle = most_idle
        self._idle: list[_Idle] = []
        self._lock = threading.Lock()

    @contextmanager
    def borrowed(self, key: str) -> Iterator[VideoReader]:
        """A reader of this video. One that an exception passes through is closed, as its state is not known."""
        with stored():
            held = self._take(key) or self._open(key)
            try:
                yield held.reader
            except GeneratorExit:  # its borrower left, the reader is as good as before
                self._give(held)
                raise
            except BaseException:
                held.close()
                raise
            self._give(held)

    def close_idle(self, older_than_s: float = 0.0) -> None:
        """Close what nobody has used for so long."""
        until = time.monotonic() - older_than_s
        with self._lock:
            old = [idle for idle in self._idle if idle.since <= until]
            self._idle = [idle for idle in self._idle if idle.since > until]
        for idle in old:
            idle.close()

    def _take(self, key: str) -> _Idle | None:
        with self._lock:
            found = next((idle for idle in reversed(self._idle) if idle.key == key), None)
            if found is not None:
                self._idle.remove(found)
            return found

    def _open(self, key: str) -> _Idle:
        file = self._open_file(key)
        try:
            return _Idle(key, file, VideoReader(file, threads=self._threads))
        except BaseException:
            file.close()
            raise

    def _give(self, held: _Idle) -> None:
        held.since = time.monotonic()
        with self._lock:
            self._idle.append(held)
            surplus = self._idle[: -self._most_idle]
            del self._idle[: -self._most_idle]
        for idle in surplus:
            idle.close()
