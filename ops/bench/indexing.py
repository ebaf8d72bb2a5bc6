"""Measure how fast and how well videos are indexed: ``python -m ops.bench.indexing PHOTOS [--video FILE …]``.

PHOTOS is a folder of photographs of faces with ``master.csv``: two file names and whether they show the same person.
Films are composed of them, so that their ground truth is known, and indexed in this process with real weights. A
``--video`` is indexed too, and its traces are drawn into the folder ``--sheets``.
"""

import argparse
import asyncio
import hashlib
import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np

from configs.settings import Settings
from deployments.analysis.identities import IDENTITIES
from deployments.analysis.tracks import TRACKS
from deployments.embed.clip import CLIP
from deployments.embed.dinov3 import DINOV3
from deployments.media.frames import FRAMES
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from deployments.serving.catalog import find_stage, local_handle
from deployments.shots.camera import CAMERA
from deployments.shots.cuts import CUTS
from graphs.indexing.jobs import INDEX_VIDEO, index_video, submit_index
from graphs.jobs.runner import JobContext, JobRunner
from graphs.web.context import Context
from graphs.web.gateway import open_context
from ops.bench.cpu import Tree
from ops.bench.film import FPS, Box, Cast, Truth, people_of, planned, portraits, write
from ops.bench.report import Contestant, Line, made_by, publish
from stores.jobs import Json
from stores.people import TraceBoxes, TraceRecord, VideoIndex
from stores.records import Asset
from vision.media.probe import Limits, probe
from vision.media.reader import VideoReader

STAGES = (VIDEO_FACES, IDENTITY, TRACKS, IDENTITIES, CUTS, CAMERA, DINOV3, CLIP, FRAMES, FACES)
SAME_PLACE = 0.5
"""Intersection over union from which on a box is that of a face."""
LARGE, SMALL = (1920, 1080), (640, 360)
ROUNDS = 3
FACE, COLUMNS, LABEL = 96, 10, 150
"""Of a sheet of traces: pixels of a face, faces in a row, pixels of its label."""
CONTEXT = 1.4


@dataclass(frozen=True, slots=True, eq=False)
class Indexed:
    """The index of a video, and how long indexing took; CPU seconds are those of all processes."""

    index: VideoIndex
    traces: list[tuple[TraceRecord, TraceBoxes]]
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Score:
    """By person: share of the visible frames with a box of one of their traces, and their identities. ``mixed``: ids of
    traces with detections of several people; ``strangers``: ids of traces that are on nobody's face."""

    coverage: dict[str, float]
    identities: dict[str, set[str | None]]
    mixed: list[int]
    strangers: list[int]
    cuts: tuple[int, ...]

    def owner(self, identity_uuid: str | None) -> str | None:
        """Return whose identity this is."""
        return next((person for person, its in self.identities.items() if identity_uuid in its), None)


@dataclass(frozen=True)
class Film:
    """A composed film after it was indexed."""

    name: str
    truth: Truth
    indexed: Indexed
    score: Score


@asynccontextmanager
async def opened(home: Path) -> AsyncIterator[Context]:
    """Yield a context of empty stores, and stages with real weights in this process."""
    handles = {ref.key: await local_handle(find_stage(ref.key)) for ref in STAGES}
    context = open_context(Settings(home=home), handles)
    yield context
    await context.close()


async def index(context: Context, path: Path) -> Indexed:
    """Store a video and index it by a worker. Raises RuntimeError when the job fails."""
    asset = await _stored(context, path)
    job_id = (await submit_index(context, asset)).job_id
    ended = asyncio.Event()

    async def run(job: JobContext) -> Json:
        try:
            return await index_video(context, job)
        finally:
            ended.set()

    runner = JobRunner(context.jobs, {INDEX_VIDEO: run})
    tree = Tree(os.getpid())
    started, used = time.perf_counter(), tree.ms()
    runner.start()
    await ended.wait()
    seconds, cpu = time.perf_counter() - started, (tree.ms() - used) / 1000
    await runner.stop()
    video_index = await context.people.get_index(asset.asset_id)
    if video_index is None:
        job = await context.jobs.get(job_id)
        raise RuntimeError(f"{path.name} was not indexed: {job.error if job else 'the job is gone'}")
    records = await context.people.list_traces(asset.asset_id)
    traces = [await context.people.get_trace(asset.asset_id, record.trace_id) for record in records]
    return Indexed(video_index, [trace for trace in traces if trace is not None], seconds, cpu)


async def _stored(context: Context, path: Path) -> Asset:
    data = await asyncio.to_thread(path.read_bytes)
    facts = await asyncio.to_thread(probe, path, Limits.of(context.settings))
    asset = Asset(
        asset_id=hashlib.sha256(data).hexdigest()[:32],
        filename=path.name,
        file_size=len(data),
        uploaded_at=datetime.now(UTC),
        **asdict(facts),
    )
    copy = context.settings.home / "upload"
    await asyncio.to_thread(shutil.copyfile, path, copy)
    await context.objects.put_file(asset.asset_id, copy, asset.content_type)
    await context.documents.insert_asset(asset)
    return asset


def score(indexed: Indexed, truth: Truth) -> Score:
    """Compare the traces of a video with its ground truth."""
    covered: dict[str, set[int]] = {person: set() for person in truth.visible}
    identities: dict[str, set[str | None]] = {person: set() for person in truth.visible}
    mixed, strangers = [], []
    for record, boxes in indexed.traces:
        places = [
            (int(frame), _whose(box, truth, int(frame)), bool(detected))
            for frame, box, detected in zip(boxes.frames, boxes.boxes.tolist(), boxes.detected, strict=True)
        ]
        owners = {person for _, person, detected in places if detected and person is not None}
        if not owners:
            strangers.append(record.trace_id)
        elif len(owners) > 1:
            mixed.append(record.trace_id)
        for person in owners:
            identities[person].add(record.identity_uuid)
            its = truth.boxes[person]
            covered[person] |= {
                int(frame)
                for frame, box in zip(boxes.frames, boxes.boxes.tolist(), strict=True)
                if int(frame) in its and overlap(box, its[int(frame)]) >= SAME_PLACE
            }
    shares = {person: len(covered[person] & frames) / len(frames) for person, frames in truth.visible.items()}
    return Score(shares, identities, mixed, strangers, indexed.index.cuts)


def first_shared(indexed: Indexed, ones: set[str | None], others: set[str | None]) -> int | None:
    """Return the first frame with traces of both."""

    def frames(people: set[str | None]) -> set[int]:
        return {
            frame
            for record, boxes in indexed.traces
            if record.identity_uuid in people
            for frame in boxes.frames.tolist()
        }

    return min(frames(ones) & frames(others), default=None)


def _whose(box: Sequence[float], truth: Truth, frame: int) -> str | None:
    """Return who is at this place, of those who are visible."""
    shares = {
        person: overlap(box, boxes[frame]) for person, boxes in truth.boxes.items() if frame in truth.visible[person]
    }
    best = max(shares, key=lambda person: shares[person], default=None)
    return best if best is not None and shares[best] >= SAME_PLACE else None


def overlap(first: Sequence[float], second: Sequence[float] | Box) -> float:
    """Return the intersection over union of two boxes."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


async def compose(context: Context, path: Path, cast: Cast, seconds: int, size: tuple[int, int], seed: int) -> Film:
    """Compose a film and index it."""
    shots = planned(np.random.default_rng(seed), cast, seconds)
    truth = await asyncio.to_thread(write, path, shots, cast.heads, size, FPS, seed)
    indexed = await index(context, path)
    return Film(path.stem, truth, indexed, score(indexed, truth))


def line(media: Path, *, seconds: int = 20) -> Line:
    """Measure how a composed 1080p film is indexed; the value is times real time."""
    return asyncio.run(_line(media / "face_pairs_deepface", seconds))


async def _line(photos: Path, seconds: int) -> Line:
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder)) as context:
            film = await compose(context, Path(folder) / "film.mp4", cast_of(photos), seconds, LARGE, seed=0)
            speed = await _speed_of(context, Path(folder) / "film.mp4", film)
    video = film.indexed.index
    facts = (
        len(video.cuts),
        len(film.indexed.traces),
        len({record.identity_uuid for record, _ in film.indexed.traces}),
    )
    contestants = (
        Contestant("indexing, frames", video.frame_count / speed.seconds, 1000 * speed.cpu_seconds / video.frame_count),
        Contestant(
            "decoding alone, frames",
            video.frame_count / speed.decoding_seconds,
            1000 * speed.decoding_cpu_seconds / video.frame_count,
        ),
    )
    notes = (
        f"A composed film of {seconds} s, 1920 x 1080, {FPS} frames a second, in one process, without Ray. Found: "
        f"{facts[0]} cuts, {facts[1]} traces, {facts[2]} identities.",
    )
    return Line(seconds / speed.seconds, contestants, notes)


def cast_of(photos: Path) -> Cast:
    """Return all people of a folder of photographs, with their heads."""
    people = people_of(photos / "master.csv")
    return Cast(
        {chr(ord("A") + number): names for number, names in enumerate(people)},
        portraits(photos, [name for names in people for name in names]),
    )


async def measure(photos: Path, videos: Sequence[Path], seconds: int, films: int, sheets: Path | None) -> list[str]:
    """Return the lines of the report; pictures are written to ``sheets``."""
    cast = cast_of(photos)
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
            lines += _accuracy([long, *short], known, len(cast.photos))
            for video in videos:
                lines += await _real(context, video, sheets)
    return lines


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds on the clock and of the processor that a film took: median of indexing, and the least of decoding it."""

    runs: list[float]
    cpu_seconds: float
    decoding_seconds: float
    decoding_cpu_seconds: float

    @property
    def seconds(self) -> float:
        """Return how long indexing took."""
        return statistics.median(self.runs)


async def _speed_of(context: Context, path: Path, film: Film) -> Speed:
    decoding = min([await asyncio.to_thread(_decode_seconds, path) for _ in range(ROUNDS)])
    runs = []
    for _ in range(ROUNDS):
        await context.jobs.forget(film.indexed.index.asset_id)
        runs.append(await index(context, path))
    return Speed([run.seconds for run in runs], statistics.median(run.cpu_seconds for run in runs), *decoding)


async def _speed(context: Context, path: Path, film: Film, seconds: int) -> list[str]:
    speed = await _speed_of(context, path, film)
    took, cpu, runs, video = speed.seconds, speed.cpu_seconds, speed.runs, film.indexed.index
    decoding, decoding_cpu = speed.decoding_seconds, speed.decoding_cpu_seconds
    looks = video.frame_count / video.step
    faces = sum(record.face_count for record, _ in film.indexed.traces) / looks
    return [
        "## Speed",
        "",
        f"A composed film of {seconds} s, 1920 x 1080, {FPS} frames a second, H.264, {len(video.cuts) + 1} shots, "
        f"{faces:.1f} faces in a frame on average; faces are detected in every second frame, cuts in all.",
        "",
        "| | seconds | times real time | frames/s | CPU ms a frame |",
        "|---|---|---|---|---|",
        f"| decoding alone | {decoding:.1f} | {seconds / decoding:.1f} | {video.frame_count / decoding:.0f} "
        f"| {1000 * decoding_cpu / video.frame_count:.1f} |",
        f"| indexing | {took:.1f} | **{seconds / took:.2f}** | {video.frame_count / took:.0f} "
        f"| {1000 * cpu / video.frame_count:.1f} |",
        "",
        f"Median of {' / '.join(f'{run:.1f}' for run in runs)} s; {cpu:.0f} CPU seconds; {looks / took:.1f} "
        f"frames a second searched for faces. Indexing takes **{took / decoding:.1f}** times as long as decoding.",
        "",
    ]


def _decode_seconds(path: Path) -> tuple[float, float]:
    """Return seconds on the clock and of the processor."""
    started, used = time.perf_counter(), time.process_time()
    with VideoReader(path) as reader:
        for _ in reader.pictures():
            pass
    return time.perf_counter() - started, time.process_time() - used


def _accuracy(films: Sequence[Film], known: int, people: int) -> list[str]:
    lines = [
        "## Accuracy on composed films",
        "",
        "Coverage: share of the frames in which a person is visible (at least three quarters of the face) that have a "
        "box of one of their traces, intersection over union 0.5 or more.",
        "",
        "| film | people | traces | least coverage | mean coverage | traces of two people | of nobody | cuts found "
        "| people with one identity | first shared frame off by |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    owners: dict[str, set[str | None]] = {}
    for film in films:
        scored = film.score
        shares = list(scored.coverage.values())
        hits = len(set(scored.cuts) & set(film.truth.cuts))
        single = sum(len(its) == 1 and None not in its for its in scored.identities.values())
        lines.append(
            f"| {film.name} | {len(shares)} | {len(film.indexed.traces)} | {100 * min(shares):.1f} % "
            f"| {100 * statistics.fmean(shares):.1f} % | {len(scored.mixed)} | {len(scored.strangers)} "
            f"| {hits} of {len(film.truth.cuts)}, {len(scored.cuts) - hits} false | {single} of {len(shares)} "
            f"| {_meetings(film)} |"
        )
        for person, its in scored.identities.items():
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
    """Return how far off the first shared frames of all pairs are."""
    identities = film.score.identities
    errors: list[int] = []
    missed = 0
    for first, second in combinations(sorted(identities), 2):
        together = film.truth.shared(first, second)
        if not together:
            continue
        frame = first_shared(film.indexed, identities[first], identities[second])
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
        await asyncio.to_thread(draw_traces, video, indexed, sheets / f"{video.stem}.png")
    return [
        f"## {video.name}",
        "",
        f"{indexed.index.duration:.1f} s, {indexed.index.width} x {indexed.index.height}: {len(indexed.traces)} traces "
        f"of {len({record.identity_uuid for record, _ in indexed.traces} - {None})} identities, "
        f"{sum(record.face_count for record, _ in indexed.traces)} detections, in {indexed.seconds:.1f} s.",
        "",
    ]


def draw_traces(video: Path, indexed: Indexed, path: Path) -> None:
    """Draw a row of faces for each trace, people together, as PNG; a face in a red frame was interpolated."""
    from PIL import Image, ImageDraw

    people = list(dict.fromkeys(record.identity_uuid for record, _ in indexed.traces))
    rows = sorted(indexed.traces, key=lambda trace: (people.index(trace[0].identity_uuid), trace[0].trace_id))
    sheet = Image.new("RGB", (LABEL + COLUMNS * FACE, max(1, len(rows)) * FACE), "white")
    pen = ImageDraw.Draw(sheet)
    wanted = sorted(
        (int(boxes.frames[place]), row, column, place)
        for row, (_, boxes) in enumerate(rows)
        for column, place in enumerate(np.linspace(0, len(boxes.frames) - 1, COLUMNS).round().astype(int).tolist())
    )
    with VideoReader(video) as reader:
        for frame, row, column, place in wanted:
            boxes = rows[row][1]
            x, y, width, height = boxes.boxes[place].tolist()
            half = CONTEXT * max(width, height) / 2
            middle = x + width / 2, y + height / 2
            square = (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
            face = Image.fromarray(reader.frame(frame)).crop(tuple(map(round, square))).resize((FACE - 4, FACE - 4))
            if not boxes.detected[place]:
                ImageDraw.Draw(face).rectangle((0, 0, FACE - 5, FACE - 5), outline=(255, 0, 0), width=3)
            sheet.paste(face, (LABEL + column * FACE + 2, row * FACE + 2))
    for row, (record, _) in enumerate(rows):
        person = "nobody" if record.identity_uuid is None else f"person {people.index(record.identity_uuid) + 1}"
        text = f"trace {record.trace_id}\n{person}\nframes {record.first_frame}-{record.last_frame}"
        pen.text((6, row * FACE + 8), f"{text}\n{record.face_count} detections", fill="black")
        if row and rows[row - 1][0].identity_uuid != record.identity_uuid:
            pen.line((0, row * FACE, sheet.width, row * FACE), fill="black", width=2)
    sheet.save(path, optimize=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--video", type=Path, action="append", default=[])
    parser.add_argument("--seconds", type=int, default=60, help="of the film whose indexing is timed")
    parser.add_argument("--films", type=int, default=8, help="shorter films, of 20 s")
    parser.add_argument("--sheets", type=Path, help="folder for pictures of the traces of videos")
    parser.add_argument("--out", type=Path, help="file of the report")
    arguments = parser.parse_args()
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    made = made_by("ops.bench.indexing", "openvino", "av")
    head = ["# People in videos", "", f"{made}; all stages in one process.", ""]
    measured = measure(arguments.photos, arguments.video, arguments.seconds, arguments.films, arguments.sheets)
    publish(head + asyncio.run(measured), arguments.out)


if __name__ == "__main__":
    main()
