"""The tasks of newcomers can still be done with what is written on the pages."""

import argparse
import asyncio
from pathlib import Path

import pytest

from ops.bench.newcomers import like, outcomes, report, together
from tests.browser.conftest import PROGRAM, Visiting
from tests.graphs.indexing import film
from tests.graphs.samples import picture


async def test_newcomers_find_a_picture_and_two_people(visiting: Visiting, tmp_path: Path) -> None:
    (tmp_path / "walk.mp4").write_bytes(film())
    (tmp_path / "like.png").write_bytes(picture(5, noise=0.02))
    async with visiting() as visit:
        for seed in (5, 6, 7):
            answer = await visit.service.client.post(
                "/api/v1/upload-media", files={"file": (f"{seed}.png", picture(seed))}
            )
            await visit.service.client.post("/api/v1/extract-features", json={"asset_id": answer.json()["asset_id"]})
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
