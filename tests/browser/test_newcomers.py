"""The tasks of newcomers can still be done with what is written on the pages."""

import argparse
import asyncio
from pathlib import Path

import pytest

from ops.bench.newcomers import like, outcomes, report, together
from tests.browser.conftest import PROGRAM, Visit, Visiting
from tests.browser.test_console import chosen
from tests.graphs.indexing import film
from tests.graphs.samples import picture


async def looked_at(visit: Visit, asset_id: str) -> None:
    """Wait until searches find a picture."""
    for _ in range(400):
        asset = (await visit.service.client.get(f"/api/v1/media/{asset_id}")).json()
        if asset["processing_status"] == "processed":
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{asset['filename']} is not found by its looks")


async def test_newcomers_find_a_picture_and_two_people(visiting: Visiting, tmp_path: Path) -> None:
    (tmp_path / "walk.mp4").write_bytes(film())
    (tmp_path / "like.png").write_bytes(picture(5, noise=0.02))
    async with visiting() as visit:
        await visit.open("library")
        await chosen(visit, tmp_path, *((f"{seed}.png", picture(seed)) for seed in (5, 6, 7)))
        await visit.page.wait_for_selector(".uploads li.stored >> nth=2")
        for asset in (await visit.service.client.get("/api/v1/assets")).json()["assets"]:
            await looked_at(visit, asset["asset_id"])
        given = argparse.Namespace(
            url=visit.url,
            like=tmp_path / "like.png",
            film=tmp_path / "walk.mp4",
            people=[1, 2],
            chromium=PROGRAM,
            screens=None,
        )
        found = await asyncio.to_thread(outcomes, given, (like, together))
    alike, pair = found
    assert (alike.clicks, pair.clicks) == (1, 5)
    assert "scroll" not in alike.steps
    assert alike.answer.startswith("5.png")
    assert "frame 22" in pair.answer
    assert alike.own_s == pytest.approx(11.65)
    text = report(found, 3, "ops.bench.newcomers")
    assert f"| Find a picture like another | 1 | {alike.machine_s:.1f} s | 11.7 s |" in text
