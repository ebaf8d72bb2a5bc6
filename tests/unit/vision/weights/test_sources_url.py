"""Downloads over HTTP, from a server that breaks off, ignores ranges, or sends something else."""

from pathlib import Path

import pytest

from tests.unit.vision.weights.servers import COMMIT, Server, plain_url, sha256, url_store
from vision.weights import SourceError, WeightsUnavailable
from vision.weights.registry import FileSpec
from vision.weights.sources import ATTEMPTS, fetch_url

CONTENT = bytes(range(256)) * 4096  # 1 MiB
CHUNK = 1 << 18
HTTP = frozenset({"http"})


def fetch(server: Server, parts: Path, content: bytes = CONTENT) -> list[int]:
    """Fetch w.bin, registered as ``content``; the bytes reported on the way."""
    seen: list[int] = []
    spec = FileSpec(sha256=sha256(content), size=len(content))
    source = plain_url(server.base, "w.bin")
    progress = lambda name, done, total: seen.append(done)  # noqa: E731
    fetch_url(source, {"w.bin": spec}, parts, progress, schemes=HTTP, pause_s=0)
    return seen


def test_a_file_arrives_in_steps(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT)
    assert fetch(server, tmp_path) == [CHUNK, 2 * CHUNK, 3 * CHUNK, 4 * CHUNK]
    assert (tmp_path / "w.bin").read_bytes() == CONTENT
    assert [asked.range for asked in server.asked] == [None]


def test_a_broken_connection_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT)
    server.cuts = [CHUNK + 10, CHUNK + 10]
    fetch(server, tmp_path)
    assert (tmp_path / "w.bin").read_bytes() == CONTENT
    assert [(asked.range, asked.if_range) for asked in server.asked] == [
        (None, None),
        (f"bytes={CHUNK}-", server.etag),
        (f"bytes={2 * CHUNK}-", server.etag),
    ]


def test_a_later_call_goes_on_with_the_part(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT)
    server.cuts = [2 * CHUNK, 0]
    with pytest.raises(SourceError, match=r"^w.bin: the connection failed \(RemoteProtocolError\)$"):
        fetch(server, tmp_path)
    assert (tmp_path / "w.bin").read_bytes() == CONTENT[: 2 * CHUNK]
    assert fetch(server, tmp_path) == [3 * CHUNK, 4 * CHUNK]
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


def test_a_connection_that_keeps_breaking_is_given_up(server: Server, tmp_path: Path) -> None:
    content = CONTENT * 2
    server.add("w.bin", content)
    server.cuts = [CHUNK] * 8
    with pytest.raises(SourceError, match="connection failed"):
        fetch(server, tmp_path, content)
    assert len(server.asked) == ATTEMPTS == 5
    assert (tmp_path / "w.bin").stat().st_size == 5 * CHUNK


def test_a_server_that_ignores_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT)
    server.cuts, server.ranges = [CHUNK], False
    fetch(server, tmp_path)
    assert (tmp_path / "w.bin").read_bytes() == CONTENT
    assert [asked.range for asked in server.asked] == [None, f"bytes={CHUNK}-"]


def test_a_file_that_changed_meanwhile_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", b"x" * len(CONTENT))
    server.cuts = [CHUNK, 0]
    with pytest.raises(SourceError):
        fetch(server, tmp_path)
    server.add("w.bin", CONTENT)
    server.etag = '"two"'
    fetch(server, tmp_path)
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT)
    (tmp_path / "w.bin").write_bytes(CONTENT + b"more")
    fetch(server, tmp_path)
    assert (tmp_path / "w.bin").read_bytes() == CONTENT
    assert [asked.range for asked in server.asked] == [None]


def test_a_range_past_the_end_is_asked_for_only_once(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT[:CHUNK])
    (tmp_path / "w.bin").write_bytes(CONTENT[: CHUNK + 5])
    with pytest.raises(SourceError, match="connection failed"):
        fetch(server, tmp_path)
    assert [asked.range for asked in server.asked][:2] == [f"bytes={CHUNK + 5}-", None]


def test_more_bytes_than_registered_are_not_read(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT)
    with pytest.raises(SourceError, match=f"^w.bin has more than its {CHUNK} bytes$"):
        fetch(server, tmp_path, CONTENT[:CHUNK])
    assert not (tmp_path / "w.bin").exists()


@pytest.mark.parametrize("status", [404, 500, 503])
def test_an_error_of_the_server_is_the_reason(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(SourceError, match=f"^w.bin: the server answered {status}$"):
        fetch(server, tmp_path)
    assert len(server.asked) == 1


def test_plain_http_is_refused_unless_a_test_allows_it(server: Server, tmp_path: Path) -> None:
    source, spec = plain_url(server.base, "w.bin"), FileSpec(sha256=sha256(b"abc"), size=3)
    with pytest.raises(SourceError, match=r"^http is not allowed$"):
        fetch_url(source, {"w.bin": spec}, tmp_path, lambda *_: None)
    assert server.asked == []


def test_redirects_are_followed_but_not_to_another_scheme(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT)
    server.redirects[f"/{COMMIT}/w.bin"] = "/elsewhere"
    server.files["/elsewhere"] = CONTENT
    fetch(server, tmp_path / "one")
    assert (tmp_path / "one" / "w.bin").read_bytes() == CONTENT
    server.redirects[f"/{COMMIT}/w.bin"] = "ftp://127.0.0.1/w.bin"
    with pytest.raises(SourceError, match=r"^ftp is not allowed$"):
        fetch(server, tmp_path / "two")
    assert not (tmp_path / "two" / "w.bin").exists()


def test_wrong_bytes_never_reach_the_cache(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", b"y" * len(CONTENT))
    with pytest.raises(WeightsUnavailable, match=f"w.bin has sha256 .* instead of {sha256(CONTENT)[:12]}"):
        url_store(server.base, tmp_path, CONTENT).resolve("tiny")
    assert [path.name for path in tmp_path.rglob("*.bin")] == []


def test_a_useless_part_is_replaced_within_the_call(server: Server, tmp_path: Path) -> None:
    server.add("w.bin", CONTENT)
    part = tmp_path / "tiny" / ".parts" / "w.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"z" * CHUNK)
    weights = url_store(server.base, tmp_path, CONTENT).resolve("tiny")
    assert weights.files["w.bin"].read_bytes() == CONTENT
    assert [asked.range for asked in server.asked] == [f"bytes={CHUNK}-", None]
    assert not part.parent.exists()
