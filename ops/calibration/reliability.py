"""Measure how often verdicts are right, on labelled files that no curve was fitted to.

``python -m ops.calibration.reliability [MEDIA]`` measures the samples of the reports: each source of pictures, and each
clip, with curves that were fitted to the others. It writes configs/reliability.yaml, and the tables into the report.

``python -m ops.calibration.reliability --labelled FOLDER --media image --out FILE`` measures one's own files with the
models of this installation. FOLDER has a folder ``genuine`` and one for each kind of fake, named as in
``graphs.authenticity.reliability.KINDS``; FILE is for VISION_RELIABILITY_FILE.
"""

import argparse
import asyncio
import csv
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from graphs.authenticity.findings import FORENSIC
from graphs.authenticity.fusion import Verdict, fuse, pooled
from graphs.authenticity.reliability import KINDS, LEVELS, RIGHT, SHIPPED, Measured, Media, Reliability
from ops.bench import altered
from ops.bench.authenticity import labelled, replaced
from ops.bench.authenticity_service import CODECS, Service, serving
from ops.bench.report import REPORTS, made_by, table
from ops.calibration.authenticity import GHOST_SOURCES, SEED, fit
from vision.forensics.calibration import AASIST, GHOSTS, MESONET, PRIOR, Calibration, logit
from vision.images import decode

GENUINE: Final = "genuine"
KIND_OF: Final = {"ciplab": "retouched", "mesonet": "swapped", "ex_deepfakes": "swapped"}
"""Kinds of the labelled pictures, by their set or name; the others are reenacted."""
MORE_SOURCES: Final = {"animals/opencows": (1, 2), "anti_spoof": (2, 3)}
"""Folders of genuine pictures that nothing was fitted to → the first picture, and every how manieth is taken."""
PICTURES_ON: Final = (
    "genuine pictures of 13 sources as they are, saved again, made smaller and saved twice; "
    "9 retouched faces (CIPLAB), 3 swapped (MesoNet, FaceForensics++), a reenacted one, and a splice of each "
    "genuine picture. Every source was judged with curves that were fitted to the others"
)
VOICES_ON: Final = (
    "recordings (ASVspoof 2019, LJSpeech) and synthetic voices (ASVspoof, commercial speech synthesis, a "
    "vocoder of WaveFake). Every clip was judged with a curve that was fitted to the others"
)
FOLDS: Final = 10
TITLE: Final = "How often verdicts are right"


@dataclass(frozen=True)
class Sample:
    """A judged file. ``unit``: the picture or clip that it is a state of; ``scores``: of its signals, 0-1; ``windows``:
    of a sound."""

    source: str
    unit: str
    kind: str
    scores: dict[str, float]
    models: dict[str, str]
    windows: tuple[float, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Return the verdict of the signals, whose confidence is by agreement alone."""
        verdict = fuse(self.scores)
        assert verdict is not None  # there is a signal, or it would be no sample
        return verdict


def of_picture(answer: dict[str, Any], source: str, unit: str, kind: str) -> Sample:
    """Return the sample of an answer for a picture."""
    signals = answer["signals"]
    models = {"visual": signals["visual"]["model"], "forensic": FORENSIC, "generated": signals["generated"]["model"]}
    scores = {name: signals[name]["score"] for name in models if signals[name]["score"] is not None}
    return Sample(source, unit, kind, scores, {name: str(models[name]) for name in scores})


async def pictures(service: Service, media: Path) -> list[Sample]:
    """Judge genuine pictures in several states, one splice of each, and the labelled fakes."""
    samples = []
    for source, paths in genuine(media):
        photos = [decode(path.read_bytes(), max_pixels=altered.MAX_PIXELS) for path in paths]
        for place, path in enumerate(paths):
            rng = np.random.default_rng([SEED, place])
            other = photos[(place + max(1, len(photos) // 3)) % len(photos)]
            original = path.read_bytes() if path.suffix != ".bmp" else altered.png(photos[place])
            for spliced, data in altered.histories(original, other, rng):
                if spliced and len(paths) == 1:  # there is nothing else to paste in
                    continue
                unit, kind = f"{source}/{path.name}", "spliced" if spliced else GENUINE
                if (answer := await judged(service, "image", data)) is not None:
                    samples.append(of_picture(answer, source, unit, kind))
    for path, group, fake in labelled(media):
        if fake:
            kind = KIND_OF.get(group) or KIND_OF.get(path.stem, "reenacted")
            if (answer := await judged(service, "image", path)) is not None:
                samples.append(of_picture(answer, group, path.name, kind))
    return samples


async def judged(service: Service, media: Media, data: bytes | Path) -> dict[str, Any] | None:
    """Return the answer for a file; None for one that cannot be judged, such as a tiny picture without a face."""
    try:
        return await service.judge(media, data)
    except RuntimeError as error:
        if f"{media}: 422" not in str(error):
            raise
        return None


def genuine(media: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield each source of genuine pictures, and its pictures."""
    by_group: dict[str, list[Path]] = defaultdict(list)
    for path, group, fake in labelled(media):
        if not fake:
            by_group[group].append(path)
    yield from by_group.items()
    places = {folder: (0, step) for folder, step in GHOST_SOURCES.items()}
    for name, chosen in (*places.items(), *((f"{folder}, others", each) for folder, each in MORE_SOURCES.items())):
        folder = media / name.removesuffix(", others")
        paths = [path for path in sorted(folder.rglob("*.*")) if path.suffix in (".jpg", ".png", ".bmp")]
        yield name, paths[chosen[0] :: chosen[1]]


async def voices(service: Service, media: Path) -> list[Sample]:
    """Judge the labelled clips."""
    folder = media / "audio_spoof"
    with (folder / "labels.csv").open(newline="") as file:
        rows = [(row["file"], row["label"] == "spoof") for row in csv.DictReader(file)]
    samples = []
    for name, fake in rows:
        sound = altered.read_sound(folder / name)
        answer = await service.judge("audio", altered.encode_sound(sound, *CODECS["WAV"]))
        if answer["prediction"] is not None:
            windows = tuple(segment["synthetic_probability"] for segment in answer["segments"])
            kind = ("vocoded" if "wavefake" in name else "synthetic") if fake else GENUINE
            models = {"audio": " and ".join(answer["opinions"])}
            scores = {"audio": answer["prediction"]["synthetic_probability"]}
            samples.append(Sample(name, name, kind, scores, models, windows))
    return samples


def raw(curve: Calibration, probability: float) -> float:
    """Return the raw score, within the limit of its curve, for the probability that the curve gave it."""
    ratio = (np.exp(logit(probability) - logit(PRIOR)) - 1 + curve.covers) / curve.covers
    score = (np.log(max(ratio, 1e-9)) - curve.intercept) / curve.slope
    return float(np.clip(score, -curve.limit, curve.limit))


def held_out(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples with the scores that they get where their source, or clip, took no part in the fits."""
    curves: dict[tuple[str, str], Calibration] = {}

    def refitted(name: str, curve: Calibration, source: str, penalty: float) -> Calibration:
        """Return a curve that was fitted as the served one, to all samples of its fit but those of a source."""
        if (name, source) not in curves:
            others = [sample for sample in samples if _fitted(name, sample) and sample.source != source]
            pairs = [(sample.kind != GENUINE, raw(curve, _first(name, sample))) for sample in others]
            weights = None
            if name == "forensic":
                counts = Counter((sample.source, sample.kind) for sample in others)
                weights = [1 / counts[sample.source, sample.kind] for sample in others]
            slope, intercept = fit(pairs, curve.limit, penalty, weights)
            curves[name, source] = replace(curve, slope=slope, intercept=intercept)
        return curves[name, source]

    fits = {"visual": (MESONET, 1.0), "forensic": (GHOSTS, 100.0), "audio": (AASIST, 0.1)}
    moved = []
    for sample in samples:
        scores = dict(sample.scores)
        for name, (curve, penalty) in fits.items():
            if name in scores and any(_fitted(name, other) for other in samples if other.source == sample.source):
                curve_of_others = refitted(name, curve, sample.source, penalty)
                if name == "audio":
                    windows = [curve_of_others.probability(raw(curve, window)) for window in sample.windows]
                    scores[name] = pooled((window, 1.0) for window in windows)
                else:
                    scores[name] = curve_of_others.probability(raw(curve, scores[name]))
        moved.append(replace(sample, scores=scores))
    return moved


def _fitted(name: str, sample: Sample) -> bool:
    """Return whether the served curve of a signal was fitted to a sample."""
    if name == "forensic":
        return sample.source in GHOST_SOURCES
    if name == "visual":
        return sample.source in ("ciplab", "faceforensics", "mesonet", "photographs") and "visual" in sample.scores
    return sample.source.startswith("asvspoof")


def _first(name: str, sample: Sample) -> float:
    return sample.windows[0] if name == "audio" else sample.scores[name]


def measured(media: Media, samples: Sequence[Sample], on: str) -> list[Measured]:
    """Return the measurements of samples, one for each set of signals."""
    groups: dict[tuple[tuple[str, str], ...], list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[tuple(sorted(sample.models.items()))].append(sample)
    found = []
    for signals, some in groups.items():
        states: dict[str, list[float]] = defaultdict(list)
        fakes: dict[str, list[float]] = defaultdict(list)
        for sample in some:
            risk = sample.verdict.risk_score
            if sample.kind == GENUINE:
                states[sample.unit].append(risk)
            else:
                fakes[sample.kind].append(risk)
        if states:
            ours = {kind: tuple(sorted(risks)) for kind, risks in sorted(fakes.items())}
            risks_of = tuple(sorted(tuple(sorted(risks)) for risks in states.values()))
            found.append(Measured(media=media, signals=dict(signals), measured_on=on, genuine=risks_of, fakes=ours))
    return found


def write(path: Path, found: Sequence[Measured]) -> None:
    """Write measurements as YAML, the scores of one list in a line."""
    head = (
        "# Risk scores of labelled samples that no curve was fitted to, by the signals that made them:\n"
        "# python -m ops.calibration.reliability. Confidence and operating points of the authenticity API rest on "
        "them.\n"
    )
    plain = [json.loads(each.model_dump_json()) for each in found]
    path.write_text(head + yaml.safe_dump(plain, sort_keys=False, width=118, default_flow_style=None))


def reliability_rows(media: Media, samples: Sequence[Sample], on: str) -> tuple[list[list[Any]], list[list[Any]]]:
    """Return the rows of two tables: how often verdicts of each confidence were right, and which verdicts there were.

    Confidence is cross-validated: what the samples of nine tenths of the pictures allow is tried on the last tenth.
    """
    units = sorted({sample.unit for sample in samples})
    order = np.random.default_rng(SEED).permutation(len(units))
    fold = {units[place]: number % FOLDS for number, place in enumerate(order.tolist())}
    known = [
        Reliability.of(measured(media, [each for each in samples if fold[each.unit] != left_out], on))
        for left_out in range(FOLDS)
    ]
    counts: Counter[tuple[str, str, str, bool]] = Counter()
    bands: Counter[tuple[str, str, str]] = Counter()
    for sample in samples:
        agreed = sample.verdict
        limited, _ = known[fold[sample.unit]].limited(media, agreed, sample.models)
        fake = sample.kind != GENUINE
        right = fake == (agreed.classification != "AUTHENTIC")
        for when, level in (("before", agreed.confidence), ("now", limited.confidence)):
            counts[when, agreed.classification, level, right] += 1
            bands[when, sample.kind, f"{agreed.classification} {level}"] += 1
    first = []
    for when in ("before", "now"):
        for level in reversed(LEVELS):
            ours = {key: number for key, number in counts.items() if key[0] == when and key[2] == level}
            correct, total = sum(number for key, number in ours.items() if key[3]), sum(ours.values())
            asked = f"{RIGHT[level]:.0%}" if level in RIGHT else "-"
            first.append([when, level, total, correct, f"{correct / total:.0%}" if total else "-", asked])
    columns = [f"{band} {level}" for band in ("AUTHENTIC", "SUSPICIOUS", "MANIPULATED") for level in reversed(LEVELS)]
    shown = [column for column in columns if any(key[2] == column for key in bands)]
    second: list[list[Any]] = [["", "is", *shown]]
    for when in ("before", "now"):
        for kind in sorted({sample.kind for sample in samples}):
            second.append([when, kind, *(bands[when, kind, column] for column in shown)])
    return first, second


def report(groups: dict[Media, tuple[list[Sample], str]]) -> list[str]:
    """Return the lines of the section of the report."""
    lines = [
        "Right is a fake that is called SUSPICIOUS or MANIPULATED, or a genuine file that is called AUTHENTIC. Before: "
        "confidence by agreement of signals. Now: no higher than samples allow, here those of nine tenths of the "
        "pictures or clips for the last tenth; the service has all of them.",
        "",
    ]
    for media, (samples, on) in groups.items():
        first, second = reliability_rows(media, samples, on)
        lines += [f"### {media}: {on}", "", *table(("", "confidence", "verdicts", "right", "share", "asked"), first)]
        lines += table(tuple(second[0]), second[1:])
        for each in measured(media, samples, on):
            names = ", ".join(f"{name} ({model})" for name, model in each.signals.items())
            medium, high = (f"{step:g}" if np.isfinite(step) else "never" for step in each.steps)
            rates = []
            for rate in (0.01, 0.05, 0.1, 0.2):
                found = each.threshold(rate)
                rates.append(f"{rate:g} {'refused' if found is None else f'from {found[0]:g}'}")
            lines.append(
                f"- {names}: {len(each.genuine)} genuine, {each.samples} fakes; MEDIUM from a risk of {medium}, HIGH "
                f"from {high}; thresholds for rates of false alarms: {', '.join(rates)}"
            )
        lines.append("")
    return lines


async def own(folder: Path, media: Media) -> list[Sample]:
    """Judge labelled files of one's own by all models of this installation."""
    samples = []
    async with serving() as service:
        for kind in (GENUINE, *KINDS[media]):
            for path in sorted((folder / kind).glob("*")) if (folder / kind).is_dir() else []:
                answer = await judged(service, media, path)
                if answer is None:
                    continue
                if media == "image":
                    samples.append(of_picture(answer, kind, path.name, kind))
                elif media == "audio" and answer["prediction"] is not None:
                    scores = {"audio": answer["prediction"]["synthetic_probability"]}
                    samples.append(Sample(kind, path.name, kind, scores, {"audio": " and ".join(answer["opinions"])}))
    return samples


async def of_reports(media: Path) -> dict[Media, list[Sample]]:
    """Judge the samples of the reports."""
    async with serving() as service:
        return {"image": await pictures(service, media), "audio": await voices(service, media)}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = os.environ.get("VISION_MODELS_DIR", "")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(models).parent / "media" if models else None)
    parser.add_argument("--labelled", type=Path, help="a folder of labelled files of one's own")
    parser.add_argument("--media", choices=("image", "audio"), default="image", help="what they are")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--samples", type=Path, help="keep the judged samples in this file, and read them from it")
    given = parser.parse_args()
    if given.labelled is not None:
        on = f"{given.labelled.name}, labelled by the operator"
        write(given.out, measured(given.media, asyncio.run(own(given.labelled, given.media)), on))
        return
    if given.samples is not None and given.samples.exists():
        stored = json.loads(given.samples.read_text())
        samples_of = {media: [Sample(**each) for each in some] for media, some in stored.items()}
    else:
        samples_of = asyncio.run(of_reports(given.folder))
        if given.samples is not None:
            plain = {media: [asdict(each) for each in some] for media, some in samples_of.items()}
            given.samples.write_text(json.dumps(plain))
    groups: dict[Media, tuple[list[Sample], str]] = {
        "image": (held_out(samples_of["image"]), PICTURES_ON),
        "audio": (held_out(samples_of["audio"]), VOICES_ON),
    }
    write(given.out, [each for media, (samples, on) in groups.items() for each in measured(media, samples, on)])
    path = REPORTS / "authenticity.md"
    note = made_by("ops.calibration.reliability")
    path.write_text(replaced(path.read_text(), TITLE, note, report(groups)))


if __name__ == "__main__":
    main()
