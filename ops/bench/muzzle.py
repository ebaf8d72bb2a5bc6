"""Measure muzzle verification on real photos: ``python -m ops.bench.muzzle MUZZLES --training DIR --out FILE.md``.

MUZZLES are labelled photos; ``--others`` and ``--general`` are folders of pictures that show no muzzle. DIR is the
output of ``python -m ops.training.muzzle --leave-one-out``. Every probe is judged by the stage and by the code of
/predict against every triple of references; the stage and its backbone are timed in turns, in the same run.
"""

import argparse
import json
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from configs.settings import settings
from deployments.embed.dinov3 import Config as DinoConfig
from deployments.embed.dinov3 import Dinov3Embedder
from deployments.muzzle.ensemble import Config, MuzzleEncoder
from deployments.muzzle.print import MuzzlePrint, PrintAnswer, PrintPhoto, PrintQuery
from deployments.serving.stage import StageConfig
from graphs.muzzle.verdicts import INVALID, VALID, domain_check, limits_of, predicted
from ops.bench.altered import png
from ops.bench.report import processor
from ops.calibration.error_rates import Rate, rate
from ops.training.photos import SUFFIXES, blank_pictures, find_photos
from vision.errors import StageError
from vision.muzzle.ensemble import MuzzleEncoding

CAVEATS = (
    "Limits of these numbers:",
    "",
    "- Three animals are few: the 18 muzzles show that the method works, not its error rate in a herd. Photos of "
    "one animal were taken in one or two sessions, so light and focus may help to separate animals.",
    "- On muzzles there is hardly anything left to improve, and the improvement is within chance; on the cows from "
    "above, with 7 times as many pairs of 8 animals, it is larger. The layer of the backbone, the centre and the limit "
    "of the domain check were chosen by these photos; so was, of six settings tried, the weight decay of the heads "
    "towards the projections (0.2): less of it improves the cows more, and the muzzles not at all.",
    "- Heads are judged against animals that they were trained on: only one side of a pair is new to them.",
)
BATCH = 8
ROUNDS = 7


def encoded(stage: MuzzleEncoder, pictures: Sequence[bytes]) -> list[MuzzleEncoding]:
    """Return the encodings of the pictures that are large enough for the stage."""
    encodings: list[MuzzleEncoding] = []
    for data in pictures:
        try:
            (result,) = stage.predict_batch([stage.prepare(data)])
        except StageError:
            continue  # too small
        if isinstance(result, MuzzleEncoding):
            encodings.append(result)
    return encodings


def verdicts(
    encodings: Sequence[MuzzleEncoding], pictures: Sequence[bytes], animals: Sequence[str]
) -> dict[bool, Counter[str]]:
    """Count verdicts of /predict, by whether the probe shows the animal of its references."""
    stage = MuzzlePrint(StageConfig())
    photos = [PrintPhoto(data, each.likeness) for data, each in zip(pictures, encodings, strict=True)]
    answers = [stage.prepare(PrintQuery(tuple(photos), probe)) for probe in photos]
    counted: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    limits = limits_of(settings(), encodings[0].thresholds)
    for animal in sorted(set(animals)):
        own = [row for row, name in enumerate(animals) if name == animal]
        for triple in combinations(own, 3):
            references = [encodings[row] for row in triple]
            for row, name in enumerate(animals):
                if row not in triple:
                    matches = tuple(answers[row].matches[each] for each in triple)
                    qualities = tuple(answers[row].qualities[each] for each in (*triple, row))
                    prints = PrintAnswer(qualities, matches)
                    verdict = predicted(references, encodings[row], prints, limits).decision.verdict
                    counted[name == animal][verdict] += 1
    return counted


def misjudged(encodings: Sequence[MuzzleEncoding], right: str) -> Rate:
    """Return the rate of pictures that the domain check misjudges."""
    limits = limits_of(settings(), None)
    wrong = [domain_check(each, limits).decision.verdict != right for each in encodings]
    return rate(sum(wrong), len(wrong))


def seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of one call over all threads, which other processes hardly change."""
    started = time.process_time()
    work()
    return time.process_time() - started


def timed(stage: MuzzleEncoder) -> dict[str, tuple[float, float]]:
    """Return (seconds for a batch, ratio to the first) of each kind of work: medians over rounds taken in turn."""
    whole = Dinov3Embedder(DinoConfig(models=[stage._texture.backbone.weights.name], max_batch_size=1))
    whole.load()
    rng = np.random.default_rng(0)
    batch = [rng.normal(size=(3, *stage._texture.size)).astype(np.float32) for _ in range(BATCH)]
    stacked = np.stack(batch)
    works: dict[str, Callable[[], Any]] = {
        "one pass of the backbone's first blocks": lambda: stage._engine(stacked),
        "the ensemble": lambda: stage.predict_batch(batch),
        "three passes": lambda: [stage._engine(stacked) for _ in range(3)],
        "one pass of the whole backbone": lambda: whole._engine(stacked),
    }
    for work in works.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            taken[name].append(seconds(work))
    first = taken[next(iter(works))]
    return {
        name: (
            statistics.median(times),
            statistics.median(each / one for each, one in zip(times, first, strict=True)),
        )
        for name, times in taken.items()
    }


def pictures_under(folders: Sequence[Path]) -> list[bytes]:
    """Read all pictures in these folders."""
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [path.read_bytes() for path in paths]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("muzzles", type=Path)
    parser.add_argument("--others", nargs="*", type=Path, default=[])
    parser.add_argument("--general", nargs="*", type=Path, default=[])
    parser.add_argument("--training", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    stage = MuzzleEncoder(Config(max_batch_size=1))
    stage.load()
    photos, _ = find_photos([arguments.muzzles])
    animals = [photo.animal for photo in photos]
    pictures = [photo.path.read_bytes() for photo in photos]
    muzzles = encoded(stage, pictures)
    blank = [png(pixels) for _, pixels in blank_pictures()]
    domains = {
        "muzzles": misjudged(muzzles, VALID),
        "blank, noise, gradients, text": misjudged(encoded(stage, blank), INVALID),
        "photos of other things": misjudged(encoded(stage, pictures_under(arguments.general)), INVALID),
        "cows from above": misjudged(encoded(stage, pictures_under(arguments.others)), INVALID),
    }
    text = report(
        stage.info(),
        len(photos),
        len(set(animals)),
        verdicts(muzzles, pictures, animals),
        domains,
        json.loads((arguments.training / "metrics.json").read_text(encoding="utf-8")),
        timed(stage),
    )
    arguments.out.write_text(text, encoding="utf-8")
    for name in ("verification", "losses"):
        shutil.copy(arguments.training / f"{name}.png", arguments.out.with_name(f"muzzle_{name}.png"))
    print(text)


def report(
    info: dict[str, Any],
    photos: int,
    animals: int,
    counted: dict[bool, Counter[str]],
    domains: dict[str, Rate],
    metrics: dict[str, Any],
    times: dict[str, tuple[float, float]],
) -> str:
    """Return the report in Markdown."""
    lines = [
        "# Muzzle verification",
        "",
        f"`python -m ops.training.muzzle cattle_muzzle --also opencows --out DIR --leave-one-out`, then `python -m "
        f"ops.bench.muzzle cattle_muzzle --training DIR`, {date.today():%Y-%m-%d}; {processor()}; {info['backbone']}, "
        f"{info['engine']}.",
        "",
        "## Without training",
        "",
        f"{info['model_version']}: {info['method']}. {photos} photos of {animals} animals; every probe against every "
        "triple of references, at the thresholds of the contract. The projections were calibrated on these photos.",
        "",
        "| probe | MATCH | NO_MATCH | INVALID_INPUT | wrong |",
        "|---|---|---|---|---|",
    ]
    for same, name in ((True, "of the same animal"), (False, "of another animal")):
        kinds, total = counted[same], sum(counted[same].values())
        wrong = total - kinds["MATCH"] if same else kinds["MATCH"]
        lines.append(
            f"| {name} | {kinds['MATCH']} | {kinds['NO_MATCH']} | {kinds['INVALID_INPUT']} | {wrong} of {total}, "
            f"{100 * wrong / total:.1f} % |"
        )
    lines += ["", "| domain check of | misjudged |", "|---|---|"]
    lines += [f"| {name} | {each} |" for name, each in domains.items()]
    lines += [
        "",
        "## Training, leave-one-animal-out",
        "",
        "Each animal is judged by heads that were trained without it (and, before training, by projections calibrated "
        "without it), on pairs with animals of the same data set.",
        "",
        "| data set | scores of | models | ROC-AUC | EER | TAR at FAR 0.001 | matching, other |",
        "|---|---|---|---|---|---|---|",
    ]
    for dataset, kinds in metrics.items():
        for what in ("pairs", "templates"):
            for model in ("untrained", "trained"):
                each = kinds[model][what]
                shown = "pairs of photos" if what == "pairs" else "probes against three references"
                lines.append(
                    f"| {dataset} | {shown} | {model} | **{each['auc']:.4f}** | {100 * each['eer']:.1f} % "
                    f"| {each['tar_at_far_1e-3']:.3f} | {each['matching']}, {each['other']} |"
                )
    lines += [
        "",
        *CAVEATS,
        "",
        "![verification](muzzle_verification.png)",
        "",
        "![losses](muzzle_losses.png)",
        "",
        "## Speed",
        "",
        f"Batches of {BATCH}, medians of {ROUNDS} rounds taken in turn; CPU time of all threads.",
        "",
        "| | CPU ms a batch | of one pass |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {1000 * taken:.0f} | **{ratio:.2f}** |" for name, (taken, ratio) in times.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
