"""Downloads, verified: ``<root>/<model>/``, shared by the processes of a machine.

Files are put together in ``.parts``, verified there, and renamed into place: what lies under its own
name is whole.

``lock.json`` beside them keeps what was verified, so that a file is hashed again only when it changed.
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

LOCK_JSON = "lock.json"
log = logging.getLogger(__name__)
PARTS = ".parts"
Fetch = Callable[[Mapping[str, FileSpec], Path], None]
"""Writes the wanted files, under their local names, into a folder of parts."""


@dataclass(frozen=True)
class Seen:
    """A file as it was when it was last hashed; size in bytes, mtime in ns, origin as a source's label."""

    sha256: str
    size: int
    mtime_ns: int
    origin: str


@dataclass
class Lock:
    """The files of one model's folder ``home`` that were verified once."""

    home: Path
    files: dict[str, Seen] = field(default_factory=dict)

    @classmethod
    def load(cls, home: Path) -> "Lock":
        """The lock of ``home``; an empty one where there is none or it cannot be read."""
        try:
            content = json.loads((home / LOCK_JSON).read_text(encoding="utf-8"))
            return cls(home, {name: Seen(**seen) for name, seen in content["files"].items()})
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls(home)

    def save(self) -> None:
        """Replace ``lock.json`` at once; OSError where the folder cannot be written."""
        content = {"files": {name: asdict(seen) for name, seen in self.files.items()}}
        self.home.mkdir(parents=True, exist_ok=True)
        temporary = self.home / f".{LOCK_JSON}.{os.getpid()}"
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        temporary.replace(self.home / LOCK_JSON)

    def digest(self, name: str) -> str:
        """sha256 of a file of ``home``, read only if it changed since it was last hashed."""
        path, seen = self.home / name, self.files.get(name)
        stat = path.stat()
        if seen and (seen.size, seen.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
            return seen.sha256
        return digest(path)

    def note(self, name: str, path: Path, sha256: str, origin: str) -> None:
        """Remember what ``name`` is; ``path`` is where it lies now, if not in its place yet."""
        stat = path.stat()
        self.files[name] = Seen(sha256, stat.st_size, stat.st_mtime_ns, origin)

    def pinned(self, name: str, origin: str) -> str | None:
        """The sha256 that was observed when ``name`` first came from ``origin``."""
        seen = self.files.get(name)
        return seen.sha256 if seen and seen.origin == origin else None


@dataclass(frozen=True)
class Cache:
    """The folder of downloads."""

    root: Path

    def ensure(self, name: str, model: Model, origin: str, fetch: Fetch) -> Lock:
        """Verify what is here of a model, and fetch what is not; one process at a time does so.

        ``origin``: the source's label. Raises SourceError, also where the folder cannot be written.
        """
        try:
            with self._exclusive(name):
                lock = Lock.load(self.root / name)
                if wanted := self._sort_out(model, origin, lock):
                    self._install(wanted, origin, lock, fetch)
                return lock
        except OSError as error:
            raise SourceError(f"cannot be stored ({error.strerror or type(error).__name__})") from error

    def _sort_out(self, model: Model, origin: str, lock: Lock) -> dict[str, FileSpec]:
        """The files that are not here as they should be, after removing the wrong ones."""
        wanted, before = {}, dict(lock.files)
        for file, spec in model.files.items():
            path = lock.home / file
            if not path.is_file():
                wanted[file] = spec
                continue
            try:
                check_size(file, path.stat().st_size, spec)
                found = lock.digest(file)
                # an unregistered file nobody remembers has no hash to be held against: fetch it again
                check_digest(file, found, spec.sha256 or lock.pinned(file, origin) or "unknown")
            except SourceError as error:
                log.warning("removed from the cache: %s", error)
                path.unlink()
                wanted[file] = spec
            else:
                seen = before.get(file)
                lock.note(file, path, found, seen.origin if seen else "cache")
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
                found = {
                    file: verify_file(file, parts / file, spec, lock.pinned(file, origin))
                    for file, spec in wanted.items()
                }
                break
            except SourceError:
                discard(parts)
                if not resumed:
                    raise
                log.warning("what an earlier download left is of no use; starting again")
        for file in wanted:
            with (parts / file).open("rb") as part:
                os.fsync(part.fileno())
            lock.note(file, parts / file, found[file], origin)
        lock.save()
        for file in wanted:
            (lock.home / file).parent.mkdir(parents=True, exist_ok=True)
            (parts / file).replace(lock.home / file)
        discard(parts)

    @contextmanager
    def _exclusive(self, name: str) -> Iterator[None]:
        guard = FileLock(self.root / f"{name}.lock")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            guard.acquire(blocking=False)
        except Timeout:
            log.info("weights %s: waiting for another process that fetches them", name)
            guard.acquire()
        except OSError as error:
            log.info("weights %s: the cache cannot be locked (%s)", name, error.strerror)
        try:
            yield
        finally:
            guard.release()


def verify_file(file: str, path: Path, spec: FileSpec, pinned: str | None = None) -> str:
    """sha256 of ``path``; SourceError unless it is the registered file, or else the ``pinned`` one."""
    if not path.is_file():
        raise SourceError(f"{file} is missing")
    check_size(file, path.stat().st_size, spec)
    found = digest(path)
    check_digest(file, found, spec.sha256 or pinned)
    return found
