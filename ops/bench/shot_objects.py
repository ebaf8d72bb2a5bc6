"""Measure the library of shots with tags of objects: ``python -m ops.bench.shot_objects --before OLDER-CHECKOUT``.

100,000 made-up shots, first without tags and then with none to five each; ``--before`` measures what an older checkout
has of this, on the same shots without tags, in a process of its own. ``--out`` puts a section into a report.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from graphs.shots.ranking import Criteria, rank
from graphs.shots.schemas import SuggestRequest
from graphs.shots.texts import EncodedQuery
from ops.bench.report import made_by, publish_section, table
from stores.open import Stores
from stores.shots import Shot, ShotFilter, Shots
from vision.objects.tags import Tag

CLASSES: Final = ("person", "car", "dog", "cat", "bus", "chair", "bottle", "cup", "book", "tv", "bird", "horse")
MOST_TAGS: Final = 5
AT_ONCE: Final = 1000
SHOTS_A_FILM: Final = 50
PAGE: Final = 20
ROUNDS: Final = 9
MODEL: Final = "bench@1"
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
FILTERS: Final[dict[str, dict[str, Any]]] = {
    "a page of the library": {},
    "`emotional_tone=tense`": {"emotional_tone": "tense"},
    "`tags=tag7`": {"tags": ("tag7",)},
    "`tags=tag7,wide`": {"tags": ("tag7", "wide")},
    "`objects=dog`": {"objects": ("dog",)},
    "`objects=dog,car`": {"objects": ("dog", "car")},
}
SCENES: Final[dict[str, dict[str, Any]]] = {
    "suggest-shots: a description that names no object": {"scene_description": "a quiet street at night"},
    "suggest-shots: one that names three": {"scene_description": "a man walks his dog past parked cars"},
    "suggest-shots: tone and tags": {
        "scene_description": "a quiet street",
        "emotional_tone": "tense",
        "desired_tags": ["tag7", "wide"],
    },
    "suggest-shots: strict, tags that are objects": {
        "scene_description": "a quiet street",
        "desired_tags": ["dog", "car"],
        "strict": True,
    },
}
CATALOGUE: Final = "the catalogue, which is read once after a change"
Figures = dict[str, float]
"""CPU milliseconds by what was done."""


def _units(rng: np.random.Generator, count: int, size: int) -> Any:
    vectors = rng.standard_normal((count, size), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def made_up(count: int) -> Iterator[list[Shot]]:
    """Yield shots without tags, ``AT_ONCE`` in a list."""
    rng = np.random.default_rng(0)
    for first in range(0, count, AT_ONCE):
        texts, looks = _units(rng, AT_ONCE, 384), _units(rng, AT_ONCE, 512)
        yield [_shot(first + place, texts[place], looks[place]) for place in range(min(AT_ONCE, count - first))]


def _shot(number: int, text: Any, look: Any) -> Shot:
    film, index = divmod(number, SHOTS_A_FILM)
    start = 2.0 * index
    return Shot(
        video_asset_id=f"{film:032x}",
        shot_index=index,
        start_frame=50 * index,
        end_frame=50 * index + 49,
        start_timestamp=start,
        end_timestamp=start + 2,
        keyframe_frame=50 * index + 20,
        keyframe_time=start + 0.8,
        camera_movement=("pan_left", "static", "tilt_up")[number % 3],
        movement_intensity=0.1,
        shot_size="wide",
        shot_angle="eye_level",
        framing="centered",
        analysis_timestamp=NOW,
        auto_tags=("movement:pan_left", "size:wide", f"tag{number % 40}"),
        features=text,
        features_version=MODEL,
        clip=look,
        clip_version=MODEL,
        text=text,
        text_version=MODEL,
        emotional_tone=("tense", "calm", None)[number % 3],
        genre=("noir", None)[number % 2],
        stored_at=NOW + timedelta(seconds=number),
    )


def tagged(shots: Sequence[Shot], rng: np.random.Generator) -> list[Shot]:
    """Return shots with tags, in the digits that an index leaves."""
    made = []
    for shot in shots:
        labels = rng.choice(CLASSES, rng.integers(0, MOST_TAGS + 1), replace=False)
        tags = (Tag(str(each), round(rng.random(), 4), 1, round(2 * rng.random(), 3)) for each in labels)
        made.append(replace(shot, objects=tuple(tags)))
    return made


async def _cpu_ms(call: Callable[[], Awaitable[Any]], rounds: int = ROUNDS) -> float:
    await call()
    took = []
    for _ in range(rounds):
        began = time.process_time()
        await call()
        took.append(1000 * (time.process_time() - began))
    return statistics.median(took)


async def measure(store: Shots, filters: dict[str, dict[str, Any]]) -> Figures:
    """Measure pages by filter, and reading the catalogue."""

    async def page(wanted: ShotFilter) -> None:
        await store.count_shots(wanted)
        await store.list_shots(wanted, limit=PAGE)

    figures = {name: await _cpu_ms(partial(page, ShotFilter(**each))) for name, each in filters.items()}
    return figures | {CATALOGUE: await _cpu_ms(lambda: store.catalogue(MODEL, MODEL), 5)}


async def suggested(store: Shots, *, older: bool) -> Figures:
    """Measure finding the best shots for scenes that are vectors already."""
    catalogue = await store.catalogue(MODEL, MODEL)
    rng = np.random.default_rng(1)
    query = EncodedQuery(_units(rng, 1, 384)[0], MODEL, _units(rng, 1, 512)[0], MODEL)
    criteria_of: Any = Criteria.of  # which takes the parts of a request in an older checkout

    async def best(wanted: SuggestRequest) -> None:
        if older:
            criteria = criteria_of(wanted.emotional_tone, None, wanted.desired_tags or [], strict=wanted.strict)
        else:
            criteria = criteria_of(wanted, catalogue.objects)
        rank(catalogue, query, criteria, 10)

    return {name: await _cpu_ms(partial(best, SuggestRequest(**scene))) for name, scene in SCENES.items()}


async def fill(store: Shots, count: int, *, tags: bool) -> None:
    """Store the shots."""
    rng = np.random.default_rng(2)
    for shots in made_up(count):
        await store.put_shots(tagged(shots, rng) if tags else shots)


async def run(count: int, *, tags: bool, older: bool = False) -> Figures:
    """Return the figures of a library; without tags nothing is filtered by objects."""
    filters = {name: each for name, each in FILTERS.items() if tags or "objects" not in each}
    with tempfile.TemporaryDirectory() as home:
        stores = Stores(documents=f"sqlite:///{home}/documents.sqlite")
        await fill(stores.shots, count, tags=tags)
        figures = await measure(stores.shots, filters) | await suggested(stores.shots, older=older)
        await stores.close()
    return figures


def _before(checkout: Path, count: int) -> Figures:
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, __file__, "--older", "--shots", str(count)]
    done = subprocess.run(command, env=environment, cwd=checkout, check=True, capture_output=True, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _lines(without: Figures, with_tags: Figures, before: Figures, count: int) -> list[str]:
    rows = []
    for name, tagged_ms in with_tags.items():
        plain_ms, older_ms = without.get(name), before.get(name)
        rows.append(
            (
                name,
                "" if older_ms is None else f"{older_ms:.1f}",
                "" if plain_ms is None else f"{plain_ms:.1f}",
                f"{tagged_ms:.1f}",
                "" if older_ms is None else f"{tagged_ms / older_ms:.2f}",
            )
        )
    return [
        f"{made_by('ops.bench.shot_objects')}.",
        "",
        f"{count:,} made-up shots in SQLite, with none to {MOST_TAGS} tags each; a page is the count and {PAGE} shots. "
        "CPU milliseconds, medians. The older version was measured on the same shots without tags, as it has none.",
        "",
        *table(("", "older version", "without tags", "with tags", "with tags / older"), rows),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shots", type=int, default=100_000)
    parser.add_argument("--before", type=Path, help="an older checkout")
    parser.add_argument("--older", action="store_true", help="print the figures of an older checkout as JSON")
    parser.add_argument("--out", type=Path, help="file of the report")
    given = parser.parse_args(arguments)
    if given.older:
        print(json.dumps(asyncio.run(run(given.shots, tags=False, older=True))))
        return
    before = _before(given.before.resolve(), given.shots) if given.before else {}
    without, with_tags = (asyncio.run(run(given.shots, tags=tags)) for tags in (False, True))
    publish_section("Shots of the library", _lines(without, with_tags, before, given.shots), given.out)


if __name__ == "__main__":
    main()
