"""The code of the client's README runs as it stands there, and its commands too."""

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from graphs.jobs.kinds import find_job_kinds
from tests.clients.conftest import Served
from tests.graphs.media import BEEPS, SIZE, film
from tests.graphs.samples import picture
from visiongraph_client import cli

README = Path(__file__).parents[2] / "clients" / "python" / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the README names."""
    (tmp_path / "films").mkdir()
    (tmp_path / "film.mp4").write_bytes(film("b-frames", size=SIZE, beeps=BEEPS))
    (tmp_path / "films" / "film.mp4").write_bytes(film("b-frames", size=SIZE, beeps=BEEPS))
    for number, name in enumerate(("a.jpg", "b.jpg")):
        (tmp_path / name).write_bytes(picture(40 + number))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISIONGRAPH_URL", served.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@asynccontextmanager
async def working(served: Served) -> AsyncIterator[None]:
    """A worker that finds nothing to add to the index that a film has."""

    async def work() -> None:
        jobs = served.service.context.jobs
        for number in range(10_000):
            if job := await jobs.claim(f"w{number}", [*find_job_kinds()], 60.0):
                await jobs.succeed(job.job_id, f"w{number}", {})
            await asyncio.sleep(0.02)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_the_code_runs(served: Served, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = blocks("python")
    async with working(served):
        for word in ("is new", "was there already"):
            await asyncio.to_thread(exec, compile(first, "README.md", "exec"), {"__name__": "__main__"})
            out = capsys.readouterr().out
            assert f"{served.film} {word}" in out
        assert "Audrey 0.4" in out
        assert (folder / "clip.ts").stat().st_size > 10_000
        await asyncio.to_thread(exec, compile(second, "README.md", "exec"), {"__name__": "__main__"})
        out = capsys.readouterr().out
        assert re.search(r"^\d+\.\d %$", out, re.MULTILINE)
        assert "No asset with id 000" in out
        assert "b.jpg" in out


async def test_the_commands_run(served: Served, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = blocks("bash")
    commands = [shlex.split(line.replace("$film", served.film)) for line in text.splitlines()]
    assert len(commands) >= 7
    async with working(served):
        for program, *arguments in commands:
            assert program == "visiongraph-client"
            status = await asyncio.to_thread(cli.main, arguments)
            failure = capsys.readouterr().err
            # Searching by words needs a model of texts, which this service does not have.
            missing = arguments[0] == "search" and " " in arguments[1]
            assert (status, bool(failure)) == ((1, True) if missing else (0, False)), (arguments, failure)
    assert json.loads((folder / "film.otio").read_text())["name"] == "film.mp4"
    assert (folder / "film.edl").read_text().startswith("TITLE: film.mp4\n")
