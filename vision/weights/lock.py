"""What is known of a model's downloaded files: ``lock.json`` beside them."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vision.weights.sources import digest

LOCK_JSON = "lock.json"


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
