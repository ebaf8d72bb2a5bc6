"""How fast and how well videos are indexed: ``python -m ops.bench.indexing PHOTOS [--video FILE --sheets FOLDER]``.

PHOTOS is a folder of photographs of faces with ``master.csv``: two file names and whether they show the same person.
Films are composed of them, so that everything about them is known. A ``--video`` is indexed too, and its traces are
drawn into a folder.
"""

import argparse
import asyncio
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np

from graphs.web.context import Context
from ops.bench import trace_sheet
from ops.bench.film import Part, Portrait, Shot, Truth, people_of, portraits, write
from ops.bench.indexed import Indexed, Score, first_shared, index, opened, score
from ops.bench.report import processor
from vision.media.reader import VideoReader

FPS = 25
LARGE, SMALL = (1920, 1080), (640, 360)
ROUNDS = 3
QUICK = 8
"""Frames in which somebody comes in or leaves."""


@dataclass(frozen=True)
class Cast:
    """Photographs by person, and the heads cut out of them."""

    photos: Mapping[str, Sequence[str]]
    heads: Mapping[str, Portrait]


@dataclass(frozen=True)
class Film:
    """A composed film after it was indexed."""

    name: str
    truth: Truth
    indexed: Indexed
    score: Score


def planned(rng: np.random.Generator, cast: Cast, seconds: int) -> list[Shot]:
    """Shots of 2 to 6 s; in each one to three people side by side, who stay, come in or leave, each in any of their
    photographs."""
    shots: list[Shot] = []
    left = seconds * FPS
    while left > 0:
        length = min(left, int(rng.integers(2 * FPS, 6 * FPS)))
        left -= length
        there = rng.choice(list(cast.photos), size=rng.integers(1, 4), replace=False).tolist()
        places = [(place + 0.5) / len(there) for place in range(len(there))]
        shots.append(
            Shot(length, tuple(_part(rng, cast, person, x, length) for person, x in zip(there, places, strict=True)))
        )
    return shots


def _part(rng: np.random.Generator, cast: Cast, person: str, x: float, length: int) -> Part:
    y = 0.5 + rng.uniform(-0.08, 0.08)
    to_x, to_y = x + rng.uniform(-0.06, 0.06), y + rng.uniform(-0.06, 0.06)
    last = length - 1
    path: tuple[tuple[int, float, float], ...] = ((0, x, y), (last, to_x, to_y))
    stays, comes = rng.random() < 0.5, rng.random() < 0.5
    if not stays and length > 4 * QUICK:
        if comes:
            path = ((QUICK, x, -0.3), (2 * QUICK, x, y), path[1])
        else:
            path = (path[0], (last - 2 * QUICK, to_x, to_y), (last - QUICK, to_x, 1.3))
    first, final = rng.uniform(0.06, 0.16, 2).tolist()
    return Part(person, str(rng.choice(list(cast.photos[person]))), path, (first, final))


async def compose(context: Context, path: Path, cast: Cast, seconds: int, size: tuple[int, int], seed: int) -> Film:
    """Compose a film and index it."""
    shots = planned(np.random.default_rng(seed), cast, seconds)
    truth = await asyncio.to_thread(write, path, shots, cast.heads, size, FPS, seed)
    indexed = await index(context, path)
    return Film(path.stem, truth, indexed, score(indexed, truth))


async def measure(photos: Path, videos: Sequence[Path], seconds: int, films: int, sheets: Path | None) -> list[str]:
    """Lines of the report; pictures go to ``sheets``."""
    people = people_of(photos / "master.csv")
    cast = Cast(
        {chr(ord("A") + number): names for number, names in enumerate(people)},
        portraits(photos, [name for names in people for name in names]),
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        async with opened(home) as context:
            long = await compose(context, home / "long.mp4", cast, seconds, LARGE, seed=0)
            lines = await _speed(context, home / "long.mp4", long, seconds)
            short = [
                await compose(context, home / f"{number + 1}.mp4", cast, 20, SMALL, seed=number + 1)
                for number in range(films)
            ]
            known = len(await context.people.list_identities())
            lines += _accuracy([long, *short], known, len(people))
            for video in videos:
                lines += await _real(context, video, sheets)
    return lines


async def _speed(context: Context, path: Path, film: Film, seconds: int) -> list[str]:
    decoding = min([await asyncio.to_thread(_decode_seconds, path) for _ in range(ROUNDS)])
    runs = []
    for _ in range(ROUNDS):
        await context.jobs.forget(film.indexed.index.asset_id)
        runs.append(await index(context, path))
    took = statistics.median(run.seconds for run in runs)
    cpu = statistics.median(run.cpu_seconds for run in runs)
    found = film.indexed.index
    looks = found.frame_count / found.step
    faces = sum(record.face_count for record, _ in film.indexed.traces) / looks
    return [
        "## Speed",
        "",
        f"A composed film of {seconds} s, 1920 x 1080, {FPS} frames a second, H.264, {len(found.cuts) + 1} shots, "
        f"{faces:.1f} faces in a frame on average; faces are looked for in every second frame, cuts in all.",
        "",
        "| | seconds | times real time | frames/s |",
        "|---|---|---|---|",
        f"| decoding alone | {decoding:.1f} | {seconds / decoding:.1f} | {found.frame_count / decoding:.0f} |",
        f"| indexing | {took:.1f} | **{seconds / took:.2f}** | {found.frame_count / took:.0f} |",
        "",
        f"Median of {' / '.join(f'{run.seconds:.1f}' for run in runs)} s; {cpu:.0f} CPU seconds; {looks / took:.1f} "
        f"looks a second. Indexing takes **{took / decoding:.1f}** times as long as decoding alone.",
        "",
    ]


def _decode_seconds(path: Path) -> float:
    started = time.perf_counter()
    with VideoReader(path) as reader:
        for _ in reader.pictures():
            pass
    return time.perf_counter() - started


def _accuracy(films: Sequence[Film], known: int, people: int) -> list[str]:
    lines = [
        "## Accuracy on composed films",
        "",
        "Coverage: share of the frames in which somebody can be seen (three quarters of the face at least) that have a "
        "box of a trace of theirs, intersection over union 0.5 or more.",
        "",
        "| film | people | traces | least coverage | mean coverage | traces of two people | of nobody | cuts found "
        "| people with one identity | first shared frame off by |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    owners: dict[str, set[str | None]] = {}
    for film in films:
        found = film.score
        shares = list(found.coverage.values())
        hits = len(set(found.cuts) & set(film.truth.cuts))
        single = sum(len(its) == 1 and None not in its for its in found.identities.values())
        lines.append(
            f"| {film.name} | {len(shares)} | {len(film.indexed.traces)} | {100 * min(shares):.1f} % "
            f"| {100 * statistics.fmean(shares):.1f} % | {len(found.mixed)} | {len(found.strangers)} "
            f"| {hits} of {len(film.truth.cuts)}, {len(found.cuts) - hits} false | {single} of {len(shares)} "
            f"| {_meetings(film)} |"
        )
        for person, its in found.identities.items():
            owners.setdefault(person, set()).update(its)
    shared = sum(bool((owners[first] & owners[second]) - {None}) for first, second in combinations(sorted(owners), 2))
    lines += [
        "",
        f"All films together, indexed one after the other: {people} people, {known} identities; "
        f"{sum(len(its) > 1 for its in owners.values())} people with more than one, {shared} pairs that share one.",
        "",
    ]
    return lines


def _meetings(film: Film) -> str:
    """How far the first shared frames of all pairs are off."""
    found = film.score.identities
    errors: list[int] = []
    missed = 0
    for first, second in combinations(sorted(found), 2):
        together = film.truth.shared(first, second)
        if not together:
            continue
        frame = first_shared(film.indexed, found[first], found[second])
        if frame is None:
            missed += 1
        else:
            errors.append(abs(frame - together[0]))
    if not errors:
        return "-"
    return f"{max(errors)} at most, {len(errors)} pairs" + (f", {missed} not found" if missed else "")


async def _real(context: Context, video: Path, sheets: Path | None) -> list[str]:
    indexed = await index(context, video)
    if sheets is not None:
        await asyncio.to_thread(trace_sheet.draw, video, indexed, sheets / f"{video.stem}.png")
    return [
        f"## {video.name}",
        "",
        f"{indexed.index.duration:.1f} s, {indexed.index.width} x {indexed.index.height}: {len(indexed.traces)} traces "
        f"of {len({record.identity_uuid for record, _ in indexed.traces} - {None})} identities, "
        f"{sum(record.face_count for record, _ in indexed.traces)} detections, in {indexed.seconds:.1f} s.",
        "",
    ]


def main() -> None:
    """Measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--video", type=Path, action="append", default=[])
    parser.add_argument("--seconds", type=int, default=60, help="of the film whose indexing is timed")
    parser.add_argument("--films", type=int, default=8, help="shorter films, of 20 s")
    parser.add_argument("--sheets", type=Path, help="folder for pictures of the traces of videos")
    parser.add_argument("--out", type=Path, help="file of the report")
    arguments = parser.parse_args()
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    head = [
        "# People in videos",
        "",
        f"`python -m ops.bench.indexing`, {date.today().isoformat()}; {processor()}; openvino {version('openvino')}, "
        f"av {version('av')}, python {platform.python_version()}; all stages in one process.",
        "",
    ]
    measured = measure(arguments.photos, arguments.video, arguments.seconds, arguments.films, arguments.sheets)
    text = "\n".join(head + asyncio.run(measured))
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
