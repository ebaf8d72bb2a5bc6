"""Count identity switches of objects' tracks: ``python -m ops.bench.object_tracks``.

Films of all kinds of ``ops.bench.object_films`` at 5 to 60 frames a second are sampled as the index samples them, and
tracked by what a detector would find: everything that is visible, or with boxes that are off, misses and false ones.

A track covers an object in a frame where their boxes have an intersection over union of a half; frames are matched one
to one. IDF1 is that of Ristani et al. (2016, https://arxiv.org/abs/1609.01775), with an object of a shot as one
identity; a switch is what CLEAR MOT calls so: an object covered by another track than the last time. Clean are those of
the covered frames that the track covers which covers most of this object, if it covers no other more. Frames without a
track are told as not covered, and are no part of the clean ones.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deployments.objects.detector import Config, ObjectDetector
from graphs.indexing.decode import APART_S, MOST_APART, OBJECTS_APART_S
from ops.bench import detectors
from ops.bench.object_films import KINDS, SIZE, VISIBLE, PlannedFilm, cast, rendered
from ops.bench.report import made_by, publish_section, table
from ops.bench.scenes import material
from vision.images import Pixels
from vision.objects.detection import Detections
from vision.objects.tracking import CameraPath, ObjectDetections, ObjectTrack, overlaps, track_objects

RATES: Final = (5.0, 12.5, 24.0, 30.0, 60.0)
SAME: Final = 0.5
"""Intersection over union from which on a track covers an object."""
JITTER: Final = 0.05
"""Standard deviation of a box's place and size, as a share of its size, where detections are bad."""
MISSED: Final = 0.1
DRIFT: Final = 0.002
"""Standard deviation of the measured way of the camera, in widths, from one sample to the next."""
FALSE: Final = 0.3
"""False detections in a sampled frame, on the average."""


@dataclass
class Tally:
    """Sums over films; ``frames``: visible ones of all objects, of them ``covered`` and of these ``clean`` ones."""

    frames: int = 0
    covered: int = 0
    clean: int = 0
    switches: int = 0
    identified: int = 0
    tracked: int = 0

    def __iadd__(self, other: "Tally") -> "Tally":
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    @property
    def idf1(self) -> float:
        """Return the harmonic mean of identified frames over visible ones and over those of tracks."""
        return 2 * self.identified / max(1, self.frames + self.tracked)


def sampled(times: NDArray[np.float64], fps: float, cuts: Sequence[int]) -> list[int]:
    """Return the frames in which the index looks for objects."""
    step = max(1, min(MOST_APART, round(APART_S * fps)))
    stretches = times // OBJECTS_APART_S
    return [
        frame
        for frame in range(len(times))
        if frame in cuts or frame == 0 or (frame % step == 0 and stretches[frame] != stretches[max(0, frame - step)])
    ]


def detections(film: PlannedFilm, random: np.random.Generator | None) -> ObjectDetections:
    """Return what is detected in the sampled frames: all that is visible, or with faults where there is ``random``."""
    shown, seen = film.shown(), film.visibility()
    rows: list[tuple[int, NDArray[np.float64], float, int]] = []
    for frame in sampled(film.times, film.fps, film.cuts):
        for number in np.flatnonzero(seen[:, frame] >= VISIBLE).tolist():
            box, sure = shown[number, frame], 0.9
            if random is not None:
                # What is half hidden is found less often, and with less confidence.
                if random.random() < MISSED + 0.4 * (1 - seen[number, frame]):
                    continue
                off = JITTER * random.standard_normal(4) * np.tile(box[2:], 2)
                box = box + off
                sure = float(np.clip(random.normal(0.45 + 0.35 * seen[number, frame], 0.12), 0.3, 0.98))
            rows.append((frame, box, sure, 0))
        if random is None:
            continue
        for _ in range(int(random.poisson(FALSE))):
            size = random.uniform(60, 260, 2)
            place = random.uniform(0, np.array(SIZE) - size)
            rows.append((frame, np.concatenate([place, size]), float(random.uniform(0.3, 0.65)), 0))
    return ObjectDetections(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[2] for row in rows], np.float32),
        np.array([row[3] for row in rows], np.int64),
    )


def measured(film: PlannedFilm, random: np.random.Generator | None) -> CameraPath | None:
    """Return where the scene is as the index measures it, which is off by ``DRIFT`` where there is ``random``."""
    if film.camera is None or random is None:
        return film.camera
    steps = DRIFT * SIZE[0] * random.standard_normal(film.camera.shifts.shape) / np.sqrt(APART_S * film.fps)
    return replace(film.camera, shifts=film.camera.shifts + np.cumsum(steps, 0))


def covering(film: PlannedFilm, tracks: Sequence[ObjectTrack]) -> NDArray[np.int64]:
    """Return the track that covers each object in each frame, int64[objects, frames], -1 for none."""
    from scipy.optimize import linear_sum_assignment

    shown, seen = film.shown(), film.visibility() >= VISIBLE
    result = np.full(seen.shape, -1)
    inside: list[list[tuple[int, int]]] = [[] for _ in range(seen.shape[1])]
    for number, track in enumerate(tracks):
        for place, frame in enumerate(track.frames.tolist()):
            inside[frame].append((number, place))
    for frame, there in enumerate(inside):
        objects = np.flatnonzero(seen[:, frame])
        if not len(objects) or not there:
            continue
        boxes = np.array([tracks[number].boxes[place] for number, place in there], np.float64)
        shares = overlaps(shown[objects, frame], boxes)
        of_class = [tracks[number].class_index == 0 for number, _ in there]
        shares = np.where(np.array(of_class) & (shares >= SAME), shares, 0)
        for row, column in zip(*linear_sum_assignment(-shares), strict=True):
            if shares[row, column] > 0:
                result[objects[row], frame] = there[column][0]
    return result


def tally(film: PlannedFilm, tracks: Sequence[ObjectTrack]) -> Tally:
    """Compare the tracks of a film with its ground truth."""
    from scipy.optimize import linear_sum_assignment

    who, seen = covering(film, tracks), film.visibility() >= VISIBLE
    together = np.zeros((len(who), len(tracks)), np.int64)
    switches = 0
    for number, row in enumerate(who):
        own = row[row >= 0]
        switches += int((np.diff(own) != 0).sum())
        together[number] = np.bincount(own, minlength=len(tracks)) if len(tracks) else together[number]
    rows, columns = linear_sum_assignment(-together)
    clean = 0
    for number, row in enumerate(who):
        main = int(together[number].argmax()) if len(tracks) else -1
        if main >= 0 and together[:, main].argmax() != number:
            main = -2
        clean += int((seen[number] & (row >= 0) & (row == main)).sum())
    return Tally(
        frames=int(seen.sum()),
        covered=int((who >= 0).sum()),
        clean=clean,
        switches=switches,
        identified=int(together[rows, columns].sum()),
        tracked=int((who >= 0).sum()) + _beside(film, tracks, who),
    )


def _beside(film: PlannedFilm, tracks: Sequence[ObjectTrack], who: NDArray[np.int64]) -> int:
    """Return in how many frames tracks cover nothing though they were detected there."""
    beside = 0
    for number, track in enumerate(tracks):
        covered = (who[:, track.frames] == number).any(0)
        beside += int((~covered & track.detected).sum())
    return beside


def measure(films: int, kinds: Sequence[str] = tuple(KINDS)) -> dict[tuple[str, bool], Tally]:
    """Return the tallies by kind of film, and whether detections are perfect."""
    result: dict[tuple[str, bool], Tally] = {}
    for kind in kinds:
        for perfect in (True, False):
            total = Tally()
            for number in range(films):
                random = np.random.default_rng((13, list(KINDS).index(kind), number))
                film = KINDS[kind](random, RATES[number % len(RATES)])
                found = detections(film, None if perfect else random)
                total += tally(
                    film, track_objects(found, film.cuts, film.times, measured(film, None if perfect else random))
                )
            result[kind, perfect] = total
    return result


def detected(
    film: PlannedFilm, frames: Sequence[int], pictures: Iterable[Pixels], stage: ObjectDetector
) -> ObjectDetections:
    """Return what a detector finds in the frames of a film that are sampled; the first class is that of its objects."""
    rows = []
    for frame, image in zip(frames, pictures, strict=True):
        (result,) = stage.predict_batch([stage.prepare(image)])
        if not isinstance(result, Detections):
            raise result
        rows += [
            (frame, (each.x, each.y, each.width, each.height), each.confidence, int(each.label != film.labels[0]))
            for each in result.objects
        ]
    return ObjectDetections(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[2] for row in rows], np.float32),
        np.array([row[3] for row in rows], np.int64),
    )


def by_detector(films: int, media: Path, checkpoint: Path) -> dict[str, Tally]:
    """Return the tallies by kind of film, of rendered ones in which a detector looks for objects."""
    parts = material(media).part(held_out=False)
    with tempfile.TemporaryDirectory() as folder:
        detectors.register(Path(folder), given_checkpoint=checkpoint)
        stage = ObjectDetector(Config(models=["given-checkpoint"], engine="torch-fp32"))
        stage.load()
        result = {}
        for kind, plan in KINDS.items():
            total = Tally()
            for number in range(films):
                random = np.random.default_rng((14, list(KINDS).index(kind), number))
                film, cutouts = cast(plan(random, RATES[number % len(RATES)]), parts, random)
                frames = sampled(film.times, film.fps, film.cuts)
                found = detected(film, frames, rendered(film, cutouts, parts, frames, number), stage)
                total += tally(film, track_objects(found, film.cuts, film.times, measured(film, random)))
            result[kind] = total
    return result


def cost(films: int = 10) -> float:
    """Return microseconds of the processor for a detection that is tracked, in crowds."""
    used, number = 0.0, 0
    for seed in range(films):
        random = np.random.default_rng((12, seed))
        film = KINDS["crowd"](random, 24.0)
        found = detections(film, random)
        began = time.process_time()
        track_objects(found, film.cuts, film.times)
        used += time.process_time() - began
        number += len(found.frames)
    return 1e6 * used / number


HEADS: Final = ("clean of covered", "covered", "IDF1", "switches a film")


def section(films: int) -> list[str]:
    """Return the lines of the table of planned films."""
    results = measure(films)
    sides = [with_all({kind: results[kind, perfect] for kind in KINDS}) for perfect in (True, False)]
    rows = [[kind, *(value for side in sides for value in _values(kind, side, films))] for kind in sides[0]]
    return table(["films", *(f"{what}: {head}" for what in ("perfect", "faulty") for head in HEADS)], rows)


def section_of(results: Mapping[str, Tally], films: int) -> list[str]:
    """Return the lines of the table of rendered films."""
    tallies = with_all(results)
    rows = [[kind, *_values(kind, tallies, films)] for kind in tallies]
    return table(["films", *HEADS], rows)


def with_all(results: Mapping[str, Tally]) -> dict[str, Tally]:
    """Return tallies by kind with that of all kinds."""
    everything = Tally()
    for each in results.values():
        everything += each
    return {**results, "all": everything}


def _values(kind: str, tallies: Mapping[str, Tally], films: int) -> list[str]:
    each, number = tallies[kind], films if kind in KINDS else films * len(KINDS)
    clean = f"{100 * each.clean / each.covered:.1f}" if each.covered else "none"
    shares = (each.covered / each.frames, each.idf1)
    return [clean, *(f"{100 * share:.1f}" for share in shares), f"{each.switches / number:.2f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=30, help="of each kind")
    parser.add_argument("--media", type=Path, help="folder of media, of which films are rendered for a detector")
    parser.add_argument("--checkpoint", type=Path, help="folder of that detector's checkpoint")
    parser.add_argument("--rendered", type=int, default=5, help="films of each kind that are rendered")
    parser.add_argument("--out", type=Path, help="file of the report, of which one section is written")
    given = parser.parse_args(arguments)
    made = made_by("ops.bench.object_tracks", "scipy")
    lines = [f"{made}.", "", *section(given.films)]
    if given.media is not None and given.checkpoint is not None:
        lines += [
            f"{given.rendered} films of each kind, rendered, with the detector of `--checkpoint`:",
            "",
            *section_of(by_detector(given.rendered, given.media, given.checkpoint), given.rendered),
        ]
    lines += [f"{cost():.0f} CPU µs a detection in crowds."]
    publish_section("Tracks", lines, given.out)


if __name__ == "__main__":
    main()
