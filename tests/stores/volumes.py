"""Small file systems of their own for the tests: full to the last byte, without inodes, or read-only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


class Volume:
    """A mounted file system of some MB."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._filler = root / "filler"

    @property
    def free(self) -> int:
        """Bytes that are free."""
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take all bytes but ``leave``."""
        with self._filler.open("ab", buffering=0) as file:
            while (more := min(self.free - leave, 2**20)) > 0:
                file.write(bytes(more))

    def fill_inodes(self) -> None:
        """Take all inodes; bytes stay free."""
        folder = self.root / "fillers"
        folder.mkdir(exist_ok=True)
        with suppress(OSError):
            for number in range(1_000_000):
                (folder / str(number)).touch()

    def empty(self) -> None:
        """Give back what was taken."""
        self._filler.unlink(missing_ok=True)
        folder = self.root / "fillers"
        if folder.exists():
            for path in folder.iterdir():
                path.unlink()

    def remount(self, option: str) -> None:
        """Make it ``ro`` or ``rw``."""
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.root)], check=True, capture_output=True)


@contextmanager
def volume(root: Path, megabytes: int = 8, inodes: int = 4000) -> Iterator[Volume]:
    """Mount an empty file system; skips the test where that is not allowed."""
    root.mkdir()
    options = f"size={megabytes}m,nr_inodes={inodes}"
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(root)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here; it takes root")
    try:
        yield Volume(root)
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True, capture_output=True)
