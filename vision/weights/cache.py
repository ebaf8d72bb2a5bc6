"""The cache of verified downloads, ``<root>/<model>/``, shared by the processes of a machine.

Files are assembled in ``.parts``, verified there, and renamed into place: a file under its own name is complete.
``lock.json`` beside them records what was verified, so that a file is hashed again only when it changed.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from vision.weights.registry import FileSpec, Model
from vision.weights.sources import SourceError, check_digest, check_size, digest, discard

log = logging.getLogger(__name__)

LOCK_JSON = "lock.json"
PARTS = ".parts"
Fetch = Callable[[Mapping[str, FileSpec], Path], None]
"""Writes the wanted files, under their local names, into a folder of parts."""


@dataclass(frozen=True)
class FileRecord:
    """A file when it was last hashed: size in bytes, mtime in ns, origin as the label of a source."""

    sha256: str
    size: int
    mtime_ns: int
    origin: str


@dataclass
class Lock:
    """The verified files of one model's folder ``home``."""

    home: Path
    files: dict[str, FileRecord] = field(default_factory=dict)

    @classmethod
    def load(cls, home: Path) -> "Lock":
        """Read the lock of ``home``; an empty one when there is none or it cannot be read."""
        try:
            content = json.loads((home / LOCK_JSON).read_text(encoding="utf-8"))
            return cls(home, {name: FileRecord(**record) for name, record in content["files"].items()})
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls(home)

    def save(self) -> None:
        """Replace ``lock.json`` atomically. Raises OSError when the folder cannot be written."""
        content = {"files": {name: asdict(record) for name, record in self.files.items()}}
        self.home.mkdir(parents=True, exist_ok=True)
        temporary = self.home / f".{LOCK_JSON}.{os.getpid()}"
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        temporary.replace(self.home / LOCK_JSON)

    def digest(self, name: str) -> str:
        """Return the sha256 of a file of ``home``, hashed only if it changed since the last time."""
        path, record = self.home / name, self.files.get(name)
        stat = path.stat()
        if record and (record.size, record.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
            return record.sha256
        return digest(path)

    def record(self, name: str, path: Path, sha256: str, origin: str) -> None:
        """Record the file ``name``, which is at ``path`` for now."""
        stat = path.stat()
        self.files[name] = FileRecord(sha256, stat.st_size, stat.st_mtime_ns, origin)

    def pinned(self, name: str, origin: str) -> str | None:
        """Return the sha256 of ``name`` when it first came from ``origin``; None when it did not."""
        record = self.files.get(name)
        return record.sha256 if record and record.origin == origin else None


@dataclass(frozen=True)
class Cache:
    """The folder of downloads."""

    root: Path

    def ensure(self, name: str, model: Model, origin: str, fetch: Fetch) -> Lock:
        """Verify the files of a model and fetch those that are missing, one process at a time.

        ``origin``: the label of the source. Raises SourceError, also when the folder cannot be written.
        """
        try:
            with self._locked(name):
                lock = Lock.load(self.root / name)
                if wanted := self._missing(model, origin, lock):
                    self._install(wanted, origin, lock, fetch)
                return lock
        except OSError as error:
            raise SourceError(f"cannot be stored ({error.strerror or type(error).__name__})") from error

    def _missing(self, model: Model, origin: str, lock: Lock) -> dict[str, FileSpec]:
        """Return the files that have to be fetched, after removing those that are not as registered."""
        wanted, before = {}, dict(lock.files)
        for file, spec in model.files.items():
            path = lock.home / file
            if not path.is_file():
                wanted[file] = spec
                continue
            try:
                check_size(file, path.stat().st_size, spec)
                sha256 = lock.digest(file)
                # a file with neither a registered nor a recorded hash cannot be verified: fetch it again
                check_digest(file, sha256, spec.sha256 or lock.pinned(file, origin) or "unknown")
            except SourceError as error:
                log.warning("removed from the cache: %s", error)
                path.unlink()
                wanted[file] = spec
            else:
                known = before.get(file)
                lock.record(file, path, sha256, known.origin if known else "cache")
        if lock.files != before:
            with suppress(OSError):  # a read-only cache is hashed at every start
                lock.save()
        return wanted

    def _install(self, wanted: Mapping[str, FileSpec], origin: str, lock: Lock, fetch: Fetch) -> None:
        parts = lock.home / PARTS
        while True:
            resumed = parts.is_dir()
            fetch(wanted, parts)
            try:
                digests = {
                    file: verify_file(file, parts / file, spec, lock.pinned(file, origin))
                    for file, spec in wanted.items()
                }
                break
            except SourceError:
                discard(parts)
                if not resumed:
                    raise
                log.warning("the rest of an earlier download is not usable; starting again")
        for file in wanted:
            with (parts / file).open("rb") as part:
                os.fsync(part.fileno())
            lock.record(file, parts / file, digests[file], origin)
        lock.save()
        for file in wanted:
            (lock.home / file).parent.mkdir(parents=True, exist_ok=True)
            (parts / file).replace(lock.home / file)
        discard(parts)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        guard = FileLock(self.root / f"{name}.lock")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            guard.acquire(blocking=False)
        except Timeout:
            log.info("weights %s: waiting for another process that downloads them", name)
            guard.acquire()
        except OSError as error:
            log.info("weights %s: the cache cannot be locked (%s)", name, error.strerror)
        try:
            yield
        finally:
            guard.release()


def verify_file(file: str, path: Path, spec: FileSpec, pinned: str | None = None) -> str:
    """Return the sha256 of ``path``. Raises SourceError unless it is the registered one, or else the ``pinned`` one."""
    if not path.is_file():
        raise SourceError(f"{file} is missing")
    check_size(file, path.stat().st_size, spec)
    sha256 = digest(path)
    check_digest(file, sha256, spec.sha256 or pinned)
    return sha256
