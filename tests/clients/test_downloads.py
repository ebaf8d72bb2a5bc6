"""Downloads by the client over connections that break: the bytes of the file, each of them once, under its name."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.conftest import AT_ONCE, CuttingProxy, Served
from tests.clients.test_uploading import noise
from visiongraph_client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    Retries,
    ServiceUnavailable,
    VisiongraphError,
)

ONCE = Retries(attempts=1)
BYTES = bytes(range(256)) * 400
HALF = len(BYTES) // 2


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
async def sound(served: Served, tmp_path: Path) -> tuple[str, bytes]:
    """Path of the content of a sound, and its bytes."""
    data = noise(tmp_path / "sound.wav", 4_000_000, 77)
    async with AsyncClient(served.url) as client:
        stored = await client.upload(tmp_path / "sound.wav")
    (tmp_path / "sound.wav").unlink()
    return f"/api/v1/media/{stored.asset_id}/content", data


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("shares", [[0.6], [0.01, 0.5, 0.99]], ids=["once", "three times"])
async def test_a_download_that_is_cut_goes_on_after_the_last_byte(
    served: Served, sound: tuple[str, bytes], tmp_path: Path, shares: list[float], kind: str
) -> None:
    path, data = sound
    cuts = [int(share * len(data)) for share in shares]
    proxy = CuttingProxy(int(served.url.rpartition(":")[2]), [], [*cuts])
    async with proxy.running() as url:
        if kind == "sync":
            with Client(url, retries=AT_ONCE) as client:
                size = await asyncio.to_thread(client.download, path, tmp_path / "saved.wav")
        else:
            async with AsyncClient(url, retries=AT_ONCE) as client_async:
                size = await client_async.download(path, tmp_path / "saved.wav")
    assert size == len(data)
    assert (tmp_path / "saved.wav").read_bytes() == data
    assert names(tmp_path) == ["saved.wav"]
    assert proxy.broken == len(shares)
    ranges = [int(begin) for head in proxy.heads for begin in re.findall(r"\nrange: bytes=(\d+)-\r", head.lower())]
    assert len(ranges) == len(shares)
    # What came is what the proxy had passed on, but for the heads of its answers.
    for cut, begin in zip(cuts, ranges, strict=True):
        assert cut - 1500 * len(proxy.heads) < begin <= cut
    assert sum(head.lower().count("if-range: ") for head in proxy.heads) == len(shares)


async def test_a_later_call_goes_on_with_what_has_come(
    served: Served, sound: tuple[str, bytes], tmp_path: Path
) -> None:
    path, data = sound
    to = tmp_path / "saved.wav"
    proxy = CuttingProxy(int(served.url.rpartition(":")[2]), [], [3_000_000])
    async with proxy.running() as url, AsyncClient(url, retries=ONCE) as client:
        with pytest.raises(ConnectionFailed, match=r"bytes are in saved\.wav\.part"):
            await client.download(path, to)
        assert names(tmp_path) == ["saved.wav.part", "saved.wav.part.json"]
        came = (tmp_path / "saved.wav.part").read_bytes()
        assert data.startswith(came)
        assert 2_990_000 < len(came) < 3_000_000
        before = proxy.answered
        assert await client.download(path, to) == len(data)
    assert to.read_bytes() == data
    assert names(tmp_path) == ["saved.wav"]
    assert proxy.answered - before < len(data) - len(came) + 1500
    # What is left of another file is not taken for this one.
    (tmp_path / "saved.wav.part").write_bytes(b"of another")
    (tmp_path / "saved.wav.part.json").write_text(json.dumps({"source": "/other?", "etag": '"x"'}))
    async with AsyncClient(served.url) as client:
        assert await client.download(path, to) == len(data)
    assert to.read_bytes() == data
    assert names(tmp_path) == ["saved.wav"]


async def test_what_is_made_while_it_is_sent_begins_anew(served: Served, tmp_path: Path) -> None:
    async with AsyncClient(served.url) as client:
        whole = await client.media.clip(served.film, start_frame=0, end_frame=40)
        proxy = CuttingProxy(int(served.url.rpartition(":")[2]), [], [len(whole) // 2])
        async with proxy.running() as url, AsyncClient(url, retries=AT_ONCE) as cut:
            size = await cut.download(
                f"/api/v1/file/{served.film}/clip", tmp_path / "clip.ts", start_frame=0, end_frame=40
            )
        assert (size, proxy.broken) == (len(whole), 1)
        assert (tmp_path / "clip.ts").stat().st_size == len(whole)
        with pytest.raises(InvalidRequest):
            await client.download(f"/api/v1/file/{served.film}/clip", tmp_path / "none.ts")
        with pytest.raises(NotFound):
            await client.download(f"/api/v1/file/{'0' * 32}/video", tmp_path / "none.mp4")
    assert names(tmp_path) == ["clip.ts"]


class Breaking(httpx.SyncByteStream):
    """A body that breaks off, in the middle of a chunk or at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self._data
        raise httpx.ReadError("cut")


Answer = Callable[[httpx.Request], httpx.Response]


def broken(data: bytes, etag: str = '"one"', **headers: str) -> Answer:
    return lambda _: httpx.Response(200, headers={"etag": etag, **headers}, stream=Breaking(data))


def rest(request: httpx.Request, etag: str = '"one"') -> httpx.Response:
    """What a server that knows ranges answers, of a file of ``BYTES`` in the version of this ETag."""
    if "range" not in request.headers or request.headers["if-range"] != etag:
        return httpx.Response(200, headers={"etag": etag}, content=BYTES)
    start = int(request.headers["range"][len("bytes=") : -1])
    if start >= len(BYTES):
        return httpx.Response(416, headers={"content-range": f"bytes */{len(BYTES)}"}, json={"error": "none"})
    said = {"etag": etag, "content-range": f"bytes {start}-{len(BYTES) - 1}/{len(BYTES)}"}
    return httpx.Response(206, headers=said, content=BYTES[start:])


def download(tmp_path: Path, *answers: Answer, retries: Retries = AT_ONCE) -> list[dict[str, Any]]:
    """Download a file that is answered so, one answer after the other; what was sent."""
    sent: list[dict[str, Any]] = []
    left = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(dict(request.headers))
        return next(left)(request)

    with Client("http://test", transport=httpx.MockTransport(answer), retries=retries) as client:
        size = client.download("/file", tmp_path / "file", part="a b")
        assert size == (tmp_path / "file").stat().st_size
    return sent


def test_a_file_that_has_changed_meanwhile_is_the_new_one(tmp_path: Path) -> None:
    sent = download(tmp_path, broken(b"x" * 1000, '"old"'), rest)
    assert (tmp_path / "file").read_bytes() == BYTES
    assert (sent[1]["range"], sent[1]["if-range"]) == ("bytes=1000-", '"old"')
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("etag", "headers"),
    [("", {}), ('W/"one"', {}), ('"one"', {"content-encoding": "identity"})],
    ids=["no ETag", "a weak one", "encoded"],
)
def test_nothing_is_joined_where_no_one_can_tell_whether_it_fits(
    tmp_path: Path, etag: str, headers: dict[str, str]
) -> None:
    sent = download(tmp_path, broken(BYTES[:HALF], etag, **headers), rest)
    assert "range" not in sent[1]
    assert (tmp_path / "file").read_bytes() == BYTES
    with pytest.raises(ConnectionFailed):
        download(tmp_path, broken(BYTES[:HALF], etag, **headers), retries=ONCE)
    assert names(tmp_path) == ["file"]


def test_a_connection_that_breaks_behind_the_last_byte(tmp_path: Path) -> None:
    sent = download(tmp_path, broken(BYTES), rest)
    assert (len(sent), sent[1]["range"]) == (2, f"bytes={len(BYTES)}-")
    assert (tmp_path / "file").read_bytes() == BYTES
    # More than the file has by now: it begins anew.
    shorter = lambda _: httpx.Response(416, headers={"content-range": "bytes */10"}, json={"error": "none"})  # noqa: E731
    assert "range" not in download(tmp_path, broken(BYTES), shorter, rest)[2]
    assert (tmp_path / "file").read_bytes() == BYTES
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("said", ["bytes 0-99/102400", "bytes 51201-102399/102400", "", "bytes */102400"])
def test_bytes_that_were_not_asked_for_are_refused(tmp_path: Path, said: str) -> None:
    def wrong(_: httpx.Request) -> httpx.Response:
        return httpx.Response(206, headers={"content-range": said} if said else {}, content=BYTES[:100])

    with pytest.raises(VisiongraphError, match="other bytes than those"):
        download(tmp_path, broken(BYTES[:HALF]), wrong)
    assert names(tmp_path) == []


def test_a_service_that_is_away_is_asked_again_and_what_has_come_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    away = lambda _: httpx.Response(503, headers={"retry-after": "7"}, json={"error": "away"})  # noqa: E731
    sent = download(tmp_path, broken(BYTES[:HALF]), away, rest)
    assert [each.get("range") for each in sent] == [None, f"bytes={HALF}-", f"bytes={HALF}-"]
    assert pauses[1] == 7.0
    assert (tmp_path / "file").read_bytes() == BYTES
    with pytest.raises(ServiceUnavailable):
        download(tmp_path, broken(BYTES[:HALF]), *[away] * 4)
    assert (tmp_path / "file.part").stat().st_size == HALF
    assert (tmp_path / "file").read_bytes() == BYTES  # the last one that was whole


def test_a_part_that_cannot_be_written_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    (tmp_path / "file.part").mkdir()
    with pytest.raises(OSError, match="directory"):
        download(tmp_path, rest)
    assert names(tmp_path) == ["file.part"]
