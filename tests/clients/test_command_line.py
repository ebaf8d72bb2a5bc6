"""The command line against a service: uploads of folders, searches, people, and what editors read."""

import asyncio
import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import opentimelineio
import pytest

from tests.clients.conftest import Served
from tests.graphs.samples import picture, video
from visiongraph_client import cli


async def run(served: Served, *arguments: str | Path) -> int:
    return await asyncio.to_thread(cli.main, [*map(str, arguments), "--url", served.url])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "films" / "deep").mkdir(parents=True)
    (tmp_path / "films" / "a.png").write_bytes(picture(31))
    (tmp_path / "films" / "deep" / "b.PNG").write_bytes(picture(32))
    (tmp_path / "films" / "notes.txt").write_text("no media")
    return tmp_path / "films"


async def test_a_folder_is_uploaded_and_what_fails_does_not_keep_the_rest(
    served: Served, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.png").write_bytes(b"not a picture")
    state = ("--state", folder / "state.json")
    assert await run(served, "upload", folder, "--json", *state) == 1
    out, err = capsys.readouterr()
    first = [json.loads(line) for line in out.splitlines()]
    assert [(Path(each["path"]).name, each["duplicate"]) for each in first] == [("a.png", False), ("b.PNG", False)]
    assert "broken.png" in err
    assert "INVALID_FILE_FORMAT" in err
    assert await run(served, "upload", folder / "a.png", *state) == 0
    assert capsys.readouterr().out == f"{first[0]['asset_id']}  {folder / 'a.png'}  (was there already)\n"
    assert await run(served, "upload", folder / "none.png", *state) == 1
    assert "no such file" in capsys.readouterr().err


async def test_a_search_by_a_picture_and_by_its_id(
    served: Served, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(served, "upload", folder, "--json", "--state", folder / "state.json") == 0
    asset_id = json.loads(capsys.readouterr().out.splitlines()[0])["asset_id"]
    assert await run(served, "search", folder / "a.png", "--json", "--top", "2") == 0
    by_file = capsys.readouterr().out
    assert await run(served, "search", asset_id, "--json", "--top", "2") == 0
    assert capsys.readouterr().out == by_file
    assert all(0 <= json.loads(line)["similarity_score"] <= 100 for line in by_file.splitlines())
    assert await run(served, "search", "0" * 32) == 1
    assert "No asset with id" in capsys.readouterr().err


async def test_pictures_that_were_indexed_are_found(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (91, 92):
        (tmp_path / f"{seed}.png").write_bytes(picture(seed))
    assert await run(served, "upload", tmp_path / "91.png", "--index", "--state", tmp_path / "state.json") == 0
    capsys.readouterr()
    assert await run(served, "search", tmp_path / "92.png", "--json", "--top", "100") == 0
    assert "91.png" in {json.loads(line)["filename"] for line in capsys.readouterr().out.splitlines()}


async def test_a_reader_that_has_seen_enough_ends_it_quietly(served: Served) -> None:
    client = Path(cli.__file__).parents[1]
    command = f"{sys.executable} -m visiongraph_client.cli people --url {served.url} | true"
    process = await asyncio.create_subprocess_shell(
        f"sleep 0.2; {command}", stderr=asyncio.subprocess.PIPE, env={"PYTHONPATH": str(client)}
    )
    _, failure = await process.communicate()
    assert failure == b""


async def test_people_of_a_film_and_of_all(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(served, "people", served.film) == 0
    of_film = capsys.readouterr().out
    assert "Audrey" in of_film
    assert "0.40-1.16 s" in of_film
    assert await run(served, "people", "--json") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "Audrey"
    assert await run(served, "people", "0" * 32) == 1


async def exported(served: Served, capsys: pytest.CaptureFixture[str], what: str, kind: str) -> str:
    assert await run(served, "export", served.film, "--what", what, "--format", kind) == 0
    return capsys.readouterr().out


async def test_what_is_in_a_film_goes_to_editors(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(csv.DictReader(io.StringIO(await exported(served, capsys, "people", "csv"))))
    assert [(row["name"], row["first_frame"], row["last_frame"], row["start_timecode"]) for row in rows] == [
        ("Audrey", "10", "29", "00:00:00:10"),
        ("Unknown", "20", "49", "00:00:00:20"),
    ]
    whole = json.loads(await exported(served, capsys, "shots", "json"))
    assert [event["name"] for event in whole["events"]] == ["Shot 1", "Shot 2"] or len(whole["events"]) == 2
    edl = await exported(served, capsys, "people", "edl")
    assert "001  AX       V     C        00:00:00:10 00:00:01:05 00:00:00:00 00:00:00:20" in edl
    assert "002  AX       V     C        00:00:00:20 00:00:02:00 00:00:00:20 00:00:02:00" in edl
    to = tmp_path / "film.otio"
    assert await run(served, "export", served.film, "--what", "people", "--format", "otio", "-o", to) == 0
    timeline = opentimelineio.adapters.read_from_file(str(to))
    assert [clip.name for clip in timeline.find_clips()] == ["Audrey", "Unknown"]
    clip = timeline.find_clips()[0]
    assert (clip.source_range.start_time.value, clip.source_range.duration.value) == (10, 20)
    assert clip.source_range.duration.rate == 25
    assert timeline.duration().value == 50


async def test_a_service_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def main(*arguments: str) -> Any:
        return asyncio.to_thread(cli.main, list(arguments))

    assert await main("jobs", "--url", "127.0.0.1:9") == 1
    assert "no address" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        await main("fly")
    assert caught.value.code == 2


async def test_jobs_are_listed(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    asset_id = (await served.service.add(video(5), "clip.mp4")).asset_id
    accepted = await served.service.client.post(f"/api/v1/file/{asset_id}/index")
    assert accepted.status_code == 202, accepted.text
    assert await run(served, "jobs", "--json", "--status", "queued") == 0
    assert json.loads(capsys.readouterr().out)["job_id"] == accepted.json()["job_id"]
