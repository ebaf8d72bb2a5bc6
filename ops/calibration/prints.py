"""Calibrate muzzle prints: ``python -m ops.calibration.prints --muzzles DIR… [--strangers DIR…] --out REPORT.md``.

``--muzzles`` are labelled photos (a folder per animal, or flat names). Each is a probe, as it is and altered in every
way of ``ALTERATIONS``; unaltered photos are the references. ``--strangers`` are labelled photos of other animals, of
which one each is compared with all others, whether or not the domain check would take it.

The threshold is the least number of places above which prints of different animals are expected to agree at most once
in a million comparisons, by an exponential tail fitted to the counts that were seen. It is chosen again without each
animal in turn, and what that animal's probes are then told is counted: probes against every three references, as
/predict compares them. Pictures are written beside the report.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from deployments.muzzle.ensemble import Config, MuzzleEncoder
from graphs.muzzle.verdicts import CONTRACT, compared, concatenated, template
from ops.bench.report import processor
from ops.calibration.error_rates import Rate, Verification, rate
from ops.training.photos import find_photos
from vision.errors import StageError
from vision.images import Pixels
from vision.muzzle.ensemble import MuzzleEncoding
from vision.muzzle.photo import muzzle_pixels
from vision.muzzle.print_picture import draw_matches
from vision.muzzle.prints import MIN_INLIERS, Print, match, normalized, skin_of, take_print
from vision.muzzle.quality import PhotoQuality, quality_of

FALSE_MATCHES: Final = 1e-6
SEEN_OFTEN: Final = 3
"""Inliers from which the tail is fitted; two points always agree on a transform, and fewer are nothing."""
Counts = NDArray[np.int64]
Alteration = Callable[[Pixels, np.random.Generator], Pixels]


def _clipped(values: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def _lamp(image: Pixels, _: np.random.Generator) -> Pixels:
    return _clipped(image * np.linspace(0.35, 1.5, image.shape[1])[None, :, None])


def _moved(image: Pixels, pixels: int) -> Pixels:
    """Blur by a motion of so many pixels, 30 degrees from the horizontal."""
    kernel = np.zeros((pixels, pixels), np.float32)
    kernel[pixels // 2] = 1
    middle = pixels / 2 - 0.5
    turned = cv2.warpAffine(kernel, cv2.getRotationMatrix2D((middle, middle), 30, 1), (pixels, pixels))
    return np.asarray(cv2.filter2D(image, -1, turned / turned.sum()), np.uint8)


def _dirt(image: Pixels, rng: np.random.Generator, share: float) -> Pixels:
    """Cover a share of the photo with spots of mud."""
    height, width = image.shape[:2]
    hills = cv2.GaussianBlur(rng.normal(size=(height, width)).astype(np.float32), (0, 0), width / 25)
    covered = cv2.GaussianBlur((hills > np.quantile(hills, 1 - share)).astype(np.float32), (0, 0), 2)[..., None]
    mud = np.array([120, 90, 60]) + rng.normal(0, 18, image.shape)
    return _clipped(image * (1 - covered) + mud * covered)


def _hand(image: Pixels, _: np.random.Generator) -> Pixels:
    """Cover three tenths of the width."""
    covered = image.copy()
    width = image.shape[1]
    covered[:, round(0.15 * width) : round(0.45 * width)] = (200, 40, 40)
    return covered


def _turned(image: Pixels, yaw: float, pitch: float) -> Pixels:
    """Show the photo as a plane that is turned by these angles in degrees, from 1.2 of its widths away."""
    height, width = image.shape[:2]
    focal = 1.2 * width
    y, p = np.radians([yaw, pitch])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    turn = about_y @ about_x
    camera = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    plane = np.stack([turn[:, 0], turn[:, 1], np.array([0, 0, focal])], axis=1)
    centred = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    shown = cv2.warpPerspective(image, camera @ plane @ centred, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(shown, np.uint8)


def _rotated(image: Pixels, degrees: float) -> Pixels:
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)


def _shrunk(image: Pixels, factor: float) -> Pixels:
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(image: Pixels, quality: int) -> Pixels:
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def _blurred(image: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


ALTERATIONS: Final[dict[str, Alteration]] = {
    "as it is": lambda image, _: image,
    "dark (30 % of the light, noise)": lambda image, rng: _clipped(image * 0.3 + rng.normal(0, 4, image.shape)),
    "bright (180 %)": lambda image, _: _clipped(image * 1.8),
    "a lamp at one side": _lamp,
    "from afar (1/3 of the size)": lambda image, _: _shrunk(image, 1 / 3),
    "from afar (1/4)": lambda image, _: _shrunk(image, 1 / 4),
    "blur, 2.5 pixels": lambda image, _: _blurred(image, 2.5),
    "blur, 4 pixels": lambda image, _: _blurred(image, 4),
    "blur, 6 pixels": lambda image, _: _blurred(image, 6),
    "motion, 15 pixels": lambda image, _: _moved(image, 15),
    "motion, 25 pixels": lambda image, _: _moved(image, 25),
    "mud on 15 %": lambda image, rng: _dirt(image, rng, 0.15),
    "mud on 35 %": lambda image, rng: _dirt(image, rng, 0.35),
    "a hand over 30 %": _hand,
    "rotated by 40 degrees": lambda image, _: _rotated(image, 40),
    "turned by 20 degrees": lambda image, _: _turned(image, 20, 0),
    "turned by 35 degrees": lambda image, _: _turned(image, 35, 0),
    "from below (20 degrees)": lambda image, _: _turned(image, 0, 20),
    "JPEG, quality 25": lambda image, _: _jpeg(image, 25),
    "noise (20 levels)": lambda image, rng: _clipped(image + rng.normal(0, 20, image.shape)),
}


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A photo as muzzle/print sees it; ``code``: float32[384] of muzzle/ensemble; ``is_muzzle``: the domain check takes
    it."""

    print: Print
    code: NDArray[np.float32]
    quality: PhotoQuality
    is_muzzle: bool


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Inliers int64[n, n] of n altered probes (rows) with n photos as they are, and the probes."""

    inliers: Counts
    probes: list[Probe]


class Prints:
    """Takes prints as the service does."""

    def __init__(self) -> None:
        self._stage = MuzzleEncoder(Config(max_batch_size=1))
        self._stage.load()

    def __call__(self, image: Pixels) -> Probe | None:
        """Return the probe of a photo, or None for one that is too small."""
        try:
            pixels = self._stage._texture.normalize(muzzle_pixels(image))
        except StageError:
            return None
        (encoding,) = self._stage.predict_batch([pixels])
        assert isinstance(encoding, MuzzleEncoding)
        grey = normalized(image)
        taken = take_print(grey, skin_of(encoding.likeness, *grey.shape))
        is_muzzle = encoding.domain_distance <= encoding.domain_limit
        return Probe(taken, concatenated(encoding), quality_of(image, encoding.likeness, taken), is_muzzle)


def threshold_of(others: Counts) -> int:
    """Return the least inliers that prints of different animals are expected to have once in a million comparisons.

    ``others``: inliers of such comparisons. The chance of one more place is taken as constant from three on, and as the
    mean of what was seen (the exponential tail of a geometric distribution), with one more comparison than there was in
    every count, so that what was never seen is not taken as impossible.
    """
    tail = others[others >= SEEN_OFTEN]
    excess = (float((tail - SEEN_OFTEN).sum()) + 1) / (len(tail) + 1)
    again = excess / (1 + excess)
    first = (len(tail) + 1) / (len(others) + 1)
    return SEEN_OFTEN + int(np.ceil(np.log(FALSE_MATCHES / first) / np.log(again)))


def different(trials: Iterable[Trial], animals: Sequence[str], without: str | None = None) -> Counts:
    """Return the inliers of all comparisons of different animals, without those of one animal where it is given."""
    names = np.array(animals)
    others = names[:, None] != names
    if without is not None:
        others &= (names[:, None] != without) & (names != without)
    return np.concatenate([trial.inliers[others] for trial in trials])


def of_triples(trial: Trial, animals: Sequence[str], probe_of: str | None = None) -> tuple[list[int], list[int]]:
    """Return the best of three references for every probe and triple: of one animal, and of two.

    With ``probe_of``, for probes of this animal only.
    """
    same: list[int] = []
    other: list[int] = []
    for animal in sorted(set(animals)):
        own = [row for row, name in enumerate(animals) if name == animal]
        for triple in combinations(own, 3):
            for row, name in enumerate(animals):
                if row not in triple and probe_of in (None, name):
                    (same if name == animal else other).append(int(trial.inliers[row, list(triple)].max()))
    return same, other


def matched_by_codes(
    trials: Iterable[Trial], references: Sequence[Probe], animals: Sequence[str]
) -> tuple[Rate, Rate, Rate]:
    """Return how often a probe of another animal matches three references that the domain check takes it for.

    By the codes alone (cosine and distance of the contract), by codes and print, and how often one of the same animal
    is missed by codes and print.
    """
    counts = np.zeros((3, 2), int)
    for animal in sorted(set(animals)):
        own = [row for row, name in enumerate(animals) if name == animal]
        for triple in map(list, combinations(own, 3)):
            mean = template([references[row].code for row in triple])
            for trial in trials:
                for row, probe in enumerate(trial.probes):
                    if row in triple or not probe.is_muzzle:
                        continue
                    found = compared(mean, probe.code)
                    codes = found.cosine >= CONTRACT.cosine and found.distance <= CONTRACT.distance
                    both = codes and trial.inliers[row, triple].max() >= MIN_INLIERS
                    if animals[row] == animal:
                        counts[2] += not both, 1
                    else:
                        counts[0] += codes, 1
                        counts[1] += both, 1
    alone, together, missed = (rate(int(errors), int(number)) for errors, number in counts)
    return alone, together, missed


def main() -> None:
    """Measure, and write the report and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--muzzles", nargs="+", type=Path, required=True)
    parser.add_argument("--strangers", nargs="*", type=Path, default=[])
    parser.add_argument("--strangers-from", default="", help="where the strangers come from, for the report")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    prints = Prints()
    photos, _ = find_photos(arguments.muzzles)
    animals = [photo.animal for photo in photos]
    images = [photo.pixels() for photo in photos]
    references = _all(prints, images)
    trials: dict[str, Trial] = {}
    for name, alter in ALTERATIONS.items():
        probes = _all(prints, [alter(image, np.random.default_rng(row)) for row, image in enumerate(images)])
        inliers = [[match(probe.print, each.print).inliers for each in references] for probe in probes]
        trials[name] = Trial(np.array(inliers), probes)
        print(name, flush=True)
    strangers = _strangers(prints, arguments.strangers)
    far = [match(a.print, b.print).inliers for a, b in combinations(strangers, 2)]
    far += [match(a.print, b.print).inliers for a in strangers for b in references]
    verdicts = matched_by_codes(list(trials.values()), references, animals)
    text = report(animals, trials, np.array(far, np.int64), len(strangers), arguments.strangers_from, verdicts)
    arguments.out.write_text(text, encoding="utf-8")
    stem = arguments.out.with_suffix("")
    draw_roc(animals, trials, np.array(far, np.int64), Path(f"{stem}-roc.png"))
    draw_examples(animals, images, references, stem)
    print(text)


def _all(prints: Prints, images: Iterable[Pixels]) -> list[Probe]:
    probes = [prints(image) for image in images]
    assert all(probes), "find_photos leaves out what is too small"
    return [probe for probe in probes if probe is not None]


def _strangers(prints: Prints, folders: Sequence[Path]) -> list[Probe]:
    """Return the probe of one photo of each animal."""
    first: dict[str, Pixels] = {}
    for photo in find_photos(folders, least=1)[0] if folders else []:
        if photo.animal not in first:
            first[photo.animal] = photo.pixels()
    return [probe for image in first.values() if (probe := prints(image)) is not None]


def _held_out(animals: Sequence[str], trials: dict[str, Trial], far: Counts) -> tuple[list[int], dict[str, Rate], Rate]:
    """Return thresholds chosen without each animal, misses of that animal by alteration, and its false matches."""
    thresholds = []
    missed = dict.fromkeys(trials, (0, 0))
    false = 0
    compared = 0
    for animal in sorted(set(animals)):
        seen = np.concatenate([different(trials.values(), animals, animal), far])
        threshold = threshold_of(seen)
        thresholds.append(threshold)
        for name, trial in trials.items():
            same, other = (np.array(each) for each in of_triples(trial, animals, animal))
            missed[name] = missed[name][0] + int((same < threshold).sum()), missed[name][1] + len(same)
            false += int((other >= threshold).sum())
            compared += len(other)
    return thresholds, {name: rate(*each) for name, each in missed.items()}, rate(false, compared)


def report(
    animals: Sequence[str],
    trials: dict[str, Trial],
    far: Counts,
    strangers: int,
    source: str,
    verdicts: tuple[Rate, Rate, Rate],
) -> str:
    """Return the report in Markdown."""
    others = different(trials.values(), animals)
    everything = np.concatenate([others, far])
    plain = trials["as it is"]
    names = np.array(animals)
    same = plain.inliers[(names[:, None] == names) & ~np.eye(len(names), dtype=bool)]
    pairs = Verification(same.astype(float), np.concatenate([different([plain], animals), far]).astype(float))
    thresholds, missed, false = _held_out(animals, trials, far)
    plain_pairs = len(names) * (len(names) - 1) // 2 - len(same) // 2 + strangers * (strangers - 1) // 2
    plain_pairs += strangers * len(names)
    lines = [
        "# Muzzle prints",
        "",
        f"`python -m ops.calibration.prints --muzzles cattle_muzzle --strangers strangers --out FILE.md`, "
        f"{date.today():%Y-%m-%d}; {processor()}. {len(names)} photos of {len(set(animals))} animals, each a probe as "
        f"it is and altered in {len(trials) - 1} ways"
        + (f"; {strangers} strangers, one photo each ({source})." if strangers else "."),
        "",
        "## Threshold",
        "",
        f"Comparisons of different animals by the places in which their prints agree, {len(everything):,} in all:",
        "",
        "| places | " + " | ".join(str(number) for number in range(int(everything.max()) + 1)) + " |",
        "|---|" + "---|" * (int(everything.max()) + 1),
        "| comparisons | "
        + " | ".join(f"{int((everything == number).sum()):,}" for number in range(int(everything.max()) + 1))
        + " |",
        "",
        f"By the tail of these counts one comparison in a million has **{threshold_of(everything)}** or more; the "
        f"service asks for **{MIN_INLIERS}** (`PREDICT_PRINT_MIN`). Chosen without each animal in turn: "
        f"{', '.join(map(str, thresholds))}. Photos of one animal as they are agree in {same.min()} to {same.max()} "
        f"places, by the median in {np.median(same):.0f}. Pairs of photos: AUC {pairs.auc:.4f}, equal error rate "
        f"{100 * pairs.eer:.2f} %.",
        "",
        f"Pairs of photos of different animals as they are: {int((pairs.other >= MIN_INLIERS).sum())} false matches in "
        f"{plain_pairs:,} pairs ({rate(0, plain_pairs)}; Clopper and Pearson, 95 %). Pairs of one photo share it, and "
        f"{len(set(animals))} + {strangers} animals are few: by pairs of animals "
        f"{rate(0, (len(set(animals)) + strangers) * (len(set(animals)) + strangers - 1) // 2)}.",
        "",
        "## Probes against three references, each animal by a threshold chosen without it",
        "",
        f"False matches: {false}, over all alterations.",
        "",
        "| probe | missed | least places | median | taken by the domain check | good enough to enrol |",
        "|---|---|---|---|---|---|",
    ]
    for name, trial in trials.items():
        mine = np.array(of_triples(trial, animals)[0])
        muzzles = sum(probe.is_muzzle for probe in trial.probes)
        good = sum(not probe.quality.reasons for probe in trial.probes)
        lines.append(
            f"| {name} | {missed[name]} | {mine.min()} | {np.median(mine):.0f} | {muzzles} of {len(names)} "
            f"| {good} of {len(names)} |"
        )
    alone, together, misses = verdicts
    lines += [
        "",
        "## Verdicts of /predict",
        "",
        "All these probes that the domain check takes, at the thresholds of the contract. The codes are of the "
        "untrained ensemble, which was calibrated on these very photos.",
        "",
        "| | by the codes alone | by codes and print |",
        "|---|---|---|",
        f"| a probe of another animal is a MATCH | {alone} | {together} |",
        f"| a probe of the same animal is none | | {misses} |",
        "",
        "Nearly all that is missed here is missed by the codes, which other light and focus change: what the prints "
        "miss by themselves is in the table above. A MATCH needs both; trained codes are what helps.",
        "",
        "Altered photos stand for other days only in part: the photos of one animal were taken in one or two sessions. "
        "Of the strangers there is one session each, so they tell of false matches only.",
        "",
        "![ROC](muzzle-prints-roc.png)",
        "",
        "One animal in two photos, and two animals:",
        "",
        "![one animal](muzzle-prints-same.jpg)",
        "",
        "![two animals](muzzle-prints-other.jpg)",
    ]
    return "\n".join(lines) + "\n"


def draw_roc(animals: Sequence[str], trials: dict[str, Trial], far: Counts, path: Path) -> None:
    """Draw which share of probes is found and which falsely, by threshold, for some alterations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    steps = np.arange(0, 41)
    for name, trial in trials.items():
        same, other = (np.array(each) for each in of_triples(trial, animals))
        found = [(same >= step).mean() for step in steps]
        false = [(other >= step).mean() for step in steps]
        left.plot(steps, found, linewidth=1, label=name)
        right.plot(false, found, linewidth=1, marker=".", markersize=3)
    others = np.concatenate([different(trials.values(), animals), far])
    left.plot(steps, [(others >= step).mean() for step in steps], color="black", label="different animals (pairs)")
    left.axvline(MIN_INLIERS, color="black", linestyle=":")
    left.set(xlabel="places asked for", ylabel="share accepted", title="probes against three references")
    left.legend(fontsize=5, loc="lower left", ncols=2)
    right.set(xlabel="false match rate", ylabel="true match rate", title="ROC", xlim=(-0.01, 0.5), ylim=(0, 1.02))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_examples(animals: Sequence[str], images: Sequence[Pixels], references: Sequence[Probe], stem: Path) -> None:
    """Draw the median pair of one animal, and that of two animals that agrees most."""
    pairs = [(match(references[a].print, references[b].print), a, b) for a, b in combinations(range(len(animals)), 2)]
    same = sorted((each for each in pairs if animals[each[1]] == animals[each[2]]), key=lambda each: each[0].inliers)
    other = [each for each in pairs if animals[each[1]] != animals[each[2]]]
    for name, (found, a, b) in (
        ("same", same[len(same) // 2]),
        ("other", max(other, key=lambda each: each[0].inliers)),
    ):
        picture = cv2.imdecode(np.frombuffer(draw_matches(images[a], images[b], found), np.uint8), cv2.IMREAD_COLOR)
        cv2.imwrite(f"{stem}-{name}.jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])


if __name__ == "__main__":
    main()
