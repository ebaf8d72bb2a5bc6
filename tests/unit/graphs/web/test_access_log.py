"""The files of the access log: what a line is, how several processes share them, what a full disk costs."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from graphs.web import access_log
from graphs.web.access import Caller
from graphs.web.access_log import NAME, AccessLog, Exchange

DONE = Exchange(
    request_id="r-1",
    method="GET",
    route="/api/v1/media/{asset_id}",
    api="assets",
    caller=Caller("3f2a9c01b4d7", frozenset(), key_name="photo studio"),
    status=200,
    outcome="sent",
    began_at=1_800_000_000.25,
    seconds=0.01234,
    bytes_in=0,
    bytes_out=512,
)


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "CHECK_S", 0.0)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AccessLog]:
    made = AccessLog(tmp_path / "logs", 2000, 3)
    yield made
    made.close()


def lines_of(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def test_a_line_has_these_values_and_no_others(log: AccessLog, tmp_path: Path) -> None:
    log.write(DONE)
    assert lines_of(tmp_path / "logs" / NAME) == [
        {
            "time": "2027-01-15T08:00:00.250Z",
            "request_id": "r-1",
            "key": "3f2a9c01b4d7",
            "key_name": "photo studio",
            "api": "assets",
            "route": "/api/v1/media/{asset_id}",
            "method": "GET",
            "status": 200,
            "ms": 12.3,
            "bytes_in": 0,
            "bytes_out": 512,
            "outcome": "sent",
        }
    ]
    assert (tmp_path / "logs" / NAME).stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("name", ["a\nb", "a\r\n{}", "\x1b[2J", "\x9b31m", "\u2028", "\u202e", 'a"b\\', "naïve ☃"])
def test_no_name_of_a_key_breaks_a_line_or_moves_a_cursor(log: AccessLog, tmp_path: Path, name: str) -> None:
    log.write(replace(DONE, caller=Caller("k", frozenset(), key_name=name)))
    data = (tmp_path / "logs" / NAME).read_bytes()
    assert data.count(b"\n") == 1
    assert all(32 <= byte < 127 for byte in data[:-1])
    assert json.loads(data)["key_name"] == name


def test_full_files_are_numbered_and_the_oldest_go(log: AccessLog, tmp_path: Path) -> None:
    for number in range(60):
        log.write(replace(DONE, request_id=f"r-{number}"))
    folder = tmp_path / "logs"
    assert {path.name for path in folder.iterdir()} == {NAME, *(f"{NAME}.{n}" for n in (1, 2, 3)), f"{NAME}.lock"}
    ids = [line["request_id"] for n in (".3", ".2", ".1", "") for line in lines_of(folder / f"{NAME}{n}")]
    assert ids == [f"r-{number}" for number in range(60 - len(ids), 60)]
    assert all(2000 <= (folder / f"{NAME}.{n}").stat().st_size < 2600 for n in (1, 2, 3))


def test_none_are_kept_where_none_are_wanted(tmp_path: Path) -> None:
    log = AccessLog(tmp_path, 1000, 0)
    for _ in range(20):
        log.write(DONE)
    log.close()
    assert {path.name for path in tmp_path.iterdir()} == {NAME, f"{NAME}.lock"}
    assert (tmp_path / NAME).stat().st_size < 1600


def test_a_file_that_somebody_else_has_moved_or_removed_is_begun_anew(log: AccessLog, tmp_path: Path) -> None:
    path = tmp_path / "logs" / NAME
    log.write(DONE)
    path.rename(tmp_path / "moved")
    log.write(replace(DONE, request_id="r-2"))
    path.unlink()
    log.write(replace(DONE, request_id="r-3"))
    assert [line["request_id"] for line in lines_of(tmp_path / "moved")] == ["r-1"]
    assert [line["request_id"] for line in lines_of(path)] == ["r-3"]


WRITER = """
import sys, time
from pathlib import Path
from graphs.web import access_log
from tests.unit.graphs.web.test_access_log import DONE, replace
access_log.CHECK_S = 0.002
log = access_log.AccessLog(Path(sys.argv[1]), 20_000, 1000)
print("ready", flush=True)
sys.stdin.readline()
for number in range(400):
    log.write(replace(DONE, request_id=f"{sys.argv[2]}-{number}", bytes_in=int(sys.argv[2]) * 10 ** (number % 12)))
    time.sleep(0.0002)
"""


def test_several_processes_lose_no_line_and_mix_none(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, str(name)], **pipes) for name in (1, 2, 3)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n")
        assert writer.returncode == 0
    files = [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    assert len(files) > 5
    ids = sorted(line["request_id"] for path in files for line in lines_of(path))
    assert ids == sorted(f"{name}-{number}" for name in (1, 2, 3) for number in range(400))


def test_a_log_that_cannot_be_written_costs_its_lines_and_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / NAME).symlink_to("/dev/full")
    (tmp_path / "file").touch()
    for folder, reason in ((full, "No space left on device"), (tmp_path / "file", "exists")):
        caplog.clear()
        log = AccessLog(folder, 1000, 1)
        for _ in range(3):
            log.write(DONE)
        log.close()
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert reason in caplog.text
