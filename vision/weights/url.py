"""Files over HTTPS, resumable, never larger than registered."""

import re
import time
from collections.abc import Mapping, Set
from pathlib import Path

import httpx

from vision.weights.registry import FileSpec, UrlSource
from vision.weights.sources import Progress, SourceError, part_path

HTTPS: Set[str] = frozenset({"https"})
TIMEOUT = httpx.Timeout(10.0, read=30.0)
ATTEMPTS = 5


def fetch_url(
    source: UrlSource,
    wanted: Mapping[str, FileSpec],
    parts: Path,
    progress: Progress,
    *,
    schemes: Set[str] = HTTPS,
    pause_s: float = 1.0,
) -> None:
    """Download the wanted files into ``parts``, going on from what an earlier call left there.

    ``schemes``: what a URL, or a redirect on the way, may use. A broken connection is taken up again
    while every attempt brings bytes, ``ATTEMPTS`` times at most, ``pause_s`` seconds apart.
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
            have = 0  # the server sends the whole file, whatever was asked for
        elif not re.match(rf"bytes {have}-", response.headers.get("Content-Range", "")):
            raise SourceError(f"{name}: the server answered another range than asked for")
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
