"""Measure how reliable the authenticity API is: ``python -m ops.bench.authenticity [MEDIA] [--parts PART…]``.

Sends labelled pictures and voices, altered copies of them and films through the routes, in this process, and writes
a report of the answers: AUC, bands and confusion, drift, codecs, time and memory. MEDIA is a folder with
``deepfake_images``, ``face_pairs_deepface`` and ``audio_spoof``; without it, ``media`` beside VISION_MODELS_DIR.
"""

import argparse
import asyncio
import csv
import io
import os
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from ops.bench import altered
from ops.bench.authenticity_service import CODECS, Service, films, serving
from ops.bench.report import REPORTS, made_by, table
from vision.images import Pixels, decode

BANDS: Final = ("AUTHENTIC", "SUSPICIOUS", "MANIPULATED")
PARTS: Final = {
    "pictures": "Pictures",
    "splices": "Composed splices",
    "drift": "Altered copies of the same picture",
    "voices": "Voices",
    "films": "Films",
}
MAX_PIXELS: Final = 100_000_000
COLOURS: Final = {False: "#2a7f62", True: "#c0392b"}
"""Of genuine and of fake samples."""


@dataclass(frozen=True)
class Sample:
    """A labelled picture or voice and the service's answer."""

    name: str
    group: str
    fake: bool
    answer: dict[str, Any]

    @property
    def risk(self) -> float:
        """The risk score, 0-100."""
        return float(self.answer["risk_score"])

    def signal(self, name: str) -> float | None:
        """Return the score of a signal, 0-1; None where it has none."""
        score: float | None = self.answer["signals"][name]["score"]
        return score


def labelled(media: Path) -> list[tuple[Path, str, bool]]:
    """Return (file, group, fake) of the labelled pictures, and of unaltered photographs."""
    pictures = []
    for path in sorted((media / "deepfake_images").rglob("*.*")):
        group = path.relative_to(media / "deepfake_images").parts[0]
        fake = not ("real" in path.parts or "original" in path.name)
        pictures.append((path, group, fake))
    pictures += [(path, "photographs", False) for path in sorted((media / "face_pairs_deepface").glob("*.jpg"))]
    return pictures


def auc(pairs: Sequence[tuple[bool, float]]) -> float:
    """Return the share of (fake, genuine) pairs in which the fake scores higher; ties count half."""
    fake = np.array([score for label, score in pairs if label])[:, None]
    real = np.array([score for label, score in pairs if not label])[None]
    return float(((fake > real) + 0.5 * (fake == real)).mean()) if fake.size and real.size else float("nan")


def confusion(pairs: Sequence[tuple[bool, float]]) -> list[list[Any]]:
    """Return rows for genuine and fake: counts by band of scores 0-100, then the accuracy at 40 and at 70."""
    rows: list[list[Any]] = []
    for fake, name in ((False, "genuine"), (True, "fake")):
        scores = np.array([score for label, score in pairs if label == fake])
        bands = np.digitize(np.floor(scores + 0.5), [40, 70])
        counts = np.bincount(bands, minlength=3).tolist()
        right = [np.mean((bands >= least) == fake) if len(scores) else np.nan for least in (1, 2)]
        rows.append([name, len(scores), *counts, *(f"{share:.2f}" for share in right)])
    return rows


CONFUSION_HEAD: Final = ("", "n", *BANDS, "right at 40", "right at 70")


async def images(service: Service, media: Path) -> tuple[list[str], list[Sample]]:
    """Analyse the labelled pictures; return tables and samples."""
    samples = [Sample(p.name, group, fake, await service.judge("image", p)) for p, group, fake in labelled(media)]
    sets = {
        "25 labelled pictures": [sample for sample in samples if sample.group != "photographs"],
        "without CIPLAB": [sample for sample in samples if sample.group not in ("photographs", "ciplab")],
        "all, with 25 photographs": samples,
    }
    rows: list[list[Any]] = []
    for name, some in sets.items():
        both = [sample for sample in some if sample.signal("visual") is not None]
        scores = [auc([(s.fake, s.signal(signal) or 0) for s in both]) for signal in ("visual", "forensic")]
        fused = auc([(sample.fake, sample.risk) for sample in both])
        rows.append([name, f"{len(both)} of {len(some)}", *(f"{score:.3f}" for score in scores), f"**{fused:.3f}**"])
    lines = ["### AUC", "", *table(("set", "judged by both", "visual", "forensic", "fused"), rows)]
    for signal in ("visual", "forensic"):
        pairs = [(s.fake, 100 * score) for s in samples if (score := s.signal(signal)) is not None]
        lines += [f"### {signal} alone", "", *table(CONFUSION_HEAD, confusion(pairs))]
    lines += ["### fused", "", *table(CONFUSION_HEAD, confusion([(s.fake, s.risk) for s in samples]))]
    rows = []
    for sample in samples:
        if sample.fake or sample.answer["classification"] != "AUTHENTIC":
            visual, forensic = (sample.signal(name) for name in ("visual", "forensic"))
            kind = "fake" if sample.fake else "genuine"
            verdict = sample.answer["classification"], sample.answer["confidence"]
            rows.append([sample.group, sample.name, kind, visual, forensic, sample.risk, *verdict])
    head = ("set", "picture", "is", "visual", "forensic", "risk", "verdict", "confidence")
    return [*lines, "### Every fake, and every genuine picture not called AUTHENTIC", "", *table(head, rows)], samples


async def splices(service: Service, media: Path) -> list[str]:
    """Analyse genuine pictures that nothing was calibrated on, with several histories, and spliced ones."""
    rng = np.random.default_rng(7)
    paths = [path for path, _, fake in labelled(media) if not fake]
    photos = [decode(path.read_bytes(), max_pixels=MAX_PIXELS) for path in paths]
    pairs: list[tuple[bool, float]] = []
    fused: list[tuple[bool, float]] = []
    for place, path in enumerate(paths):
        for fake, data in altered.histories(path.read_bytes(), photos[(place + 5) % len(photos)], rng):
            answer = await service.judge("image", data)
            pairs.append((fake, 100 * answer["signals"]["forensic"]["score"]))
            fused.append((fake, answer["risk_score"]))
    return [
        f"{len(photos)} genuine pictures, on which the forensic signal was not calibrated: as they are, saved again, "
        "made smaller, saved twice, and with an oval of another one.",
        "",
        f"AUC of the forensic signal {auc(pairs):.3f}, fused {auc(fused):.3f}.",
        "",
        *table(CONFUSION_HEAD, confusion(pairs)),
    ]


async def drift(service: Service, media: Path, out: Path) -> list[str]:
    """Return how the risk of the same picture moves with each alteration."""
    moves: dict[str, list[float]] = defaultdict(list)
    flips: dict[str, int] = defaultdict(int)
    lost: dict[str, int] = defaultdict(int)
    chosen = [item for item in labelled(media) if item[1] != "photographs"]
    for path, _, _ in chosen:
        image: Pixels = decode(path.read_bytes(), max_pixels=MAX_PIXELS)
        before = await service.judge("image", path)
        for name, data in altered.variants(image):
            after = await service.judge("image", data)
            moves[name].append(after["risk_score"] - before["risk_score"])
            flips[name] += after["classification"] != before["classification"]
            lost[name] += (
                after["signals"]["visual"]["score"] is None and before["signals"]["visual"]["score"] is not None
            )
    draw_drift(moves, out)
    rows = [
        [name, f"{np.mean(np.abs(d)):.1f}", f"{np.min(d):+.1f}", f"{np.max(d):+.1f}", flips[name], lost[name]]
        for name, d in moves.items()
    ]
    return table(("change", "mean points", "lowest", "highest", "other band", "face no longer judged"), rows)


async def voices(service: Service, media: Path) -> tuple[list[str], list[Sample]]:
    """Analyse labelled voices, and the same speech in other containers; return tables and samples."""
    folder = media / "audio_spoof"
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    samples: list[Sample] = []
    spreads: list[float] = []
    table_rows: list[list[Any]] = []
    for row in rows:
        group = "LJSpeech" if row["file"].startswith("wavefake") else "ASVspoof and speech synthesis"
        sound = altered.read_sound(folder / row["file"])
        answers = {
            name: await service.judge("audio", altered.encode_sound(sound, *how)) for name, how in CODECS.items()
        }
        risks = [answer["risk_score"] for answer in answers.values()]
        name, verdict, apart = Path(row["file"]).stem, answers["WAV"]["classification"], "-"
        if None not in risks:
            samples.append(Sample(name, group, row["label"] == "spoof", answers["WAV"]))
            spreads.append(max(risks) - min(risks))
            apart = f"{spreads[-1]:.1f}"
        table_rows.append([name, row["label"], *risks, apart, verdict])
    lines = []
    for group in dict.fromkeys(sample.group for sample in samples):
        pairs = [(sample.fake, sample.risk) for sample in samples if sample.group == group]
        lines += [f"### {group}: AUC {auc(pairs):.3f}", "", *table(CONFUSION_HEAD, confusion(pairs))]
    within = sum(spread <= 5 for spread in spreads)
    lines += [
        "### The same speech as WAV, MP3 and M4A",
        "",
        f"{within} of {len(spreads)} clips agree within 5 points; median {np.median(spreads):.1f}, "
        f"most {max(spreads):.1f}.",
        "",
        *table(("clip", "is", *CODECS, "apart", "verdict of WAV"), table_rows),
    ]
    return lines, samples


async def no_speech(service: Service) -> list[str]:
    """Return a table of answers to sounds without speech."""
    times = np.arange(10 * altered.RATE) / altered.RATE
    chord = sum(np.sin(2 * np.pi * pitch * times) for pitch in (220, 277, 330, 440)) * np.exp(-4 * (times % 0.5)) / 8
    notes = [262, 294, 330, 349, 392, 440, 494, 523, 494, 440]
    melody = np.concatenate([0.3 * np.sin(2 * np.pi * note * times[: altered.RATE]) for note in notes])
    sounds = {
        "silence": np.zeros_like(times),
        "white noise": np.random.default_rng(0).normal(0, 0.05, len(times)),
        "struck chords": chord,
        "a melody of sines": melody,
    }
    rows = []
    for name, sound in sounds.items():
        answer = await service.judge("audio", altered.encode_sound(sound.astype(np.float32), *CODECS["MP3 128k"]))
        rows.append([name, answer["classification"], answer["risk_score"], answer["audio_info"]["speech_seconds"]])
    return table(("sound", "answer", "risk", "seconds of speech"), rows)


async def heat_maps(service: Service, media: Path, out: Path) -> None:
    """Save the heat map of a splice whose place is known."""
    rng = np.random.default_rng(3)
    host, guest = (
        decode((media / "face_pairs_deepface" / name).read_bytes(), max_pixels=MAX_PIXELS)
        for name in ("img2.jpg", "img20.jpg")
    )
    answer = await service.judge("image", altered.spliced(host, guest, rng))
    image = Image.open(io.BytesIO(await service.picture(answer)))
    small = image.resize((image.width * 3 // 5, image.height * 3 // 5)).quantize(128)
    small.save(out / "authenticity_heatmap.png", optimize=True)


def draw_scores(parts: Mapping[str, Sequence[tuple[str, bool, float]]], out: Path) -> None:
    """Draw one panel per part: risk scores by group, genuine and fake."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    rng = np.random.default_rng(0)
    for place, (title, samples) in enumerate(parts.items(), 1):
        axes = figure.add_subplot(1, len(parts), place)
        groups = list(dict.fromkeys((group, fake) for group, fake, _ in samples))
        for row, (group, fake) in enumerate(groups):
            scores = [score for name, kind, score in samples if (name, kind) == (group, fake)]
            axes.scatter(scores, row + rng.uniform(-0.15, 0.15, len(scores)), s=22, color=COLOURS[fake], alpha=0.7)
        axes.set_yticks(range(len(groups)), [f"{group}\n{'fake' if fake else 'genuine'}" for group, fake in groups])
        axes.invert_yaxis()
        for border in (40, 70):
            axes.axvline(border, color="#888", linewidth=0.8, linestyle="--")
        axes.set(xlim=(0, 100), xlabel="risk score", title=title)
    figure.savefig(out, dpi=90)


def draw_drift(moves: Mapping[str, Sequence[float]], out: Path) -> None:
    """Draw how far risk scores move, by alteration."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.boxplot(list(moves.values()), tick_labels=list(moves), orientation="horizontal", whis=(0, 100))
    axes.axvline(0, color="#888", linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xlabel="points of risk that the same picture moves by")
    figure.savefig(out, dpi=90)


async def section(service: Service, part: str, media: Path, out: Path) -> list[str]:
    """Return the lines of a part of the report, and write its pictures beside it."""
    if part == "pictures":
        lines, samples = await images(service, media)
        _draw("pictures", samples, out / "authenticity_scores.png")
        return ["![Risk scores by set](authenticity_scores.png)", "", *lines]
    if part == "splices":
        lines = await splices(service, media)
        await heat_maps(service, media, out)
        return [*lines, "![Heat map of a splice](authenticity_heatmap.png)", ""]
    if part == "drift":
        head = "Points of risk by which each of the 25 labelled pictures moves."
        lines = await drift(service, media, out / "authenticity_drift.png")
        return [head, "", *lines, "![Drift](authenticity_drift.png)", ""]
    if part == "voices":
        lines, samples = await voices(service, media)
        _draw("voices", samples, out / "authenticity_voices.png")
        silent = ["### No speech", "", *await no_speech(service)]
        return ["![Risk scores of voices](authenticity_voices.png)", "", *lines, *silent]
    with tempfile.TemporaryDirectory() as folder:
        lines = await films(service, media, Path(folder))
    head = (
        "16 frames, a face tracked for 10 s, and the sound. Models alone: the sum of the seconds of all their calls, "
        "while they share the cores; one after the other they would take that long at most, and a ratio below 1 means "
        "that they overlap."
    )
    return [head, "", *lines]


def _draw(title: str, samples: Sequence[Sample], out: Path) -> None:
    draw_scores({title: [(sample.group, sample.fake, sample.risk) for sample in samples]}, out)


def replaced(report: str, title: str, note: str, lines: Sequence[str]) -> str:
    """Return the report with this section in place of the one of the same title, or at its end."""
    text = "\n".join([f"## {title}", "", note, "", *lines]).rstrip() + "\n"
    before, heading, rest = report.partition(f"## {title}\n")
    _, more, after = rest.partition("\n## ")
    return before.rstrip() + "\n\n" + text + ("\n## " + after if heading and more else "")


async def report(media: Path, out: Path, parts: Sequence[str]) -> None:
    """Measure these parts and write them into the report; its other parts stay."""
    file = out / "authenticity.md"
    async with serving() as service:
        for part in parts:
            lines = await section(service, part, media, out)
            before = file.read_text() if file.exists() else "# Authenticity\n"
            made = made_by(f"ops.bench.authenticity --parts {part}")
            note = f"{made}; all stages in one process. Visual: MesoInception-4; voice: AASIST."
            file.write_text(replaced(before, PARTS[part], note, lines))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = os.environ.get("VISION_MODELS_DIR", "")
    parser.add_argument("media", nargs="?", type=Path, default=Path(models).parent / "media" if models else None)
    parser.add_argument("--out", type=Path, default=REPORTS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="of the report; all by default")
    given = parser.parse_args()
    if given.media is None:
        parser.error("name the folder of media, or set VISION_MODELS_DIR")
    asyncio.run(report(given.media, given.out, given.parts))


if __name__ == "__main__":
    main()
