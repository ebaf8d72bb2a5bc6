"""A soak tells what grows from what only wavers."""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ops.bench.soak import Run, Sampler, Series, draw, load, media_of, report

HALF_AN_HOUR = np.arange(0, 1800, 5.0)


def series(values: np.ndarray, bound: float = 24) -> Series:
    return Series("process", "MB", bound, HALF_AN_HOUR.tolist(), values.tolist())


def wavering(seed: int) -> np.ndarray:
    """300 MB with a slow wave of 8 MB, and noise."""
    noise = np.random.default_rng(seed).normal(scale=4, size=len(HALF_AN_HOUR))
    return 300 + 8 * np.sin(HALF_AN_HOUR / 90) + noise


@pytest.mark.parametrize("seed", range(5))
def test_a_slope_of_two_megabytes_a_minute_is_found_and_a_wave_is_none(seed: int) -> None:
    leaking = series(wavering(seed) + HALF_AN_HOUR / 30)
    mean, slope, half = leaking.slope(after=450)
    assert slope == pytest.approx(120, abs=35)
    assert half < 35
    assert mean == pytest.approx(300 + 1125 / 30, abs=3)
    assert leaking.grows(after=450)
    assert not series(wavering(seed)).grows(after=450)


def test_growth_while_it_warms_up_is_no_leak() -> None:
    warming = wavering(0) + np.minimum(HALF_AN_HOUR, 400)
    assert not series(warming).grows(after=450)
    assert series(warming).grows(after=0)


def test_this_process_is_sampled_and_reported(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "part").write_bytes(bytes(2**20))
    (tmp_path / "store").write_bytes(bytes(3 * 2**20))
    sampler = Sampler(os.getpid(), tmp_path, "", 24)
    for _ in range(8):
        sampler.sample()
    own = f"({os.getpid()})"
    names = {what for name, what in sampler.series if name.endswith(own)}
    assert names == {"RSS", "USS", "file descriptors", "threads"}
    assert sampler.series["uploads being received", "size"].values == [1] * 8
    assert sampler.series["stores on disk", "size"].values == [3] * 8
    sampler.begun -= 100  # the service stops before the report is written
    run = Run(10.0, 7.0, 0.0, sampler, Counter({("quality", 200): 9, ("quality", 429): 1, ("muzzle", 500): 1}))
    lines, over = report(run, "made by a test", tmp_path / "soak.png")
    assert "| quality | 9 × 200, 1 × 429 |" in lines
    assert [line.split("|")[2:4] for line in lines if line.startswith("| stores on disk")] == [[" size ", " 3.0 MB "]]
    assert [line for line in lines if own in line and "| USS |" in line]
    assert [each for each in over if "muzzle" in each] == ["muzzle: {500: 1}"]
    assert not [each for each in over if "quality" in each]
    draw(run, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


async def test_the_load_keeps_to_its_rate() -> None:
    acted = 0

    class Quick:
        async def act(self, only: list[str]) -> None:
            nonlocal acted
            acted += 1
            await asyncio.sleep(0.001)

    rate = await load([Quick() for _ in range(4)], [], 1.0, rate=40)  # type: ignore[misc]
    assert acted == pytest.approx(40, abs=4)
    assert rate <= 44


def test_made_media_are_readable_and_files_of_a_folder_come_first(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(100)
    (tmp_path / "a.wav").write_bytes(data)
    media = media_of(tmp_path)
    assert media.sounds == [data]
    assert len(media.pictures) == 30
    assert media.films[0][4:8] == b"ftyp"
