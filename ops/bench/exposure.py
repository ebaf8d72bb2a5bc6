"""Measure verdicts on exposure, and on what BRISQUE was made for: ``python -m ops.bench.exposure [--out FOLDER]``.

Photographs in good light are darkened and brightened in steps, put on black and white grounds, blurred but for a part,
and drawn; what quality/exposure and quality/brisque say of each is compared with what was done, and the label of the
photo API with that of the unchanged photograph. The photographs are those of ``media`` beside VISION_MODELS_DIR. None
of them was used to train the models; the thresholds were chosen on a third of them, which is counted apart.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from deployments.quality.brisque import BrisqueScorer, Distortion
from deployments.quality.brisque import Config as BrisqueConfig
from deployments.quality.exposure import Config as ExposureConfig
from deployments.quality.exposure import ExposureAnalyzer
from deployments.quality.nima import Config as NimaConfig
from deployments.quality.nima import NimaScorer, Ratings
from graphs.photos.schemas import Label, overall_quality
from ops.bench.report import REPORTS, made_by
from vision.images import Pixels, decode
from vision.quality.content import outside
from vision.quality.exposure import TOO_WHITE, Lighting

PACKAGES: Final = ("opencv-python-headless", "numpy")
MAX_PIXELS: Final = 100_000_000
SEEN: Final = (
    *("iqa/calibra_ref", "iqa/ava", "face_pairs_deepface", "faces", "animals/cattle_muzzle"),
    *("deepfake_images/ciplab/real", "emotion", "anti_spoof"),
)
UNSEEN: Final = (
    *(f"animals/opencows/{cow}" for cow in ("019", "023", "026", "028", "031", "037", "038", "042")),
    *(
        "near_duplicates",
        "deepfake_images/ciplab/fake",
        "deepfake_images/mesonet/real",
        "deepfake_images/faceforensics",
    ),
)
LOOKED_AT: Final = "train_000001.jpg"
"""Of the others, these were seen as well."""
PICTURES: Final = (".jpg", ".bmp", ".png")
SMALLEST: Final = 100
"""Pixels of a side."""
LABELS: Final[tuple[Label, ...]] = ("low", "medium", "high")
Change = Callable[[Pixels], Pixels]


def scaled(factor: float) -> Change:
    return lambda photo: np.rint((photo * factor).clip(0, 255)).astype(np.uint8)


def stops(count: float) -> Change:
    """Multiply the light, as another exposure of the camera does; by the curve of sRGB."""
    codes = np.arange(256) / 255
    linear = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4) * 2.0**count
    coded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clip(0, 1) ** (1 / 2.4) - 0.055)
    table = np.rint(255 * coded.clip(0, 1)).astype(np.uint8)
    return lambda photo: table[photo]


LIGHTS: Final[dict[str, tuple[Change, str]]] = {
    "unchanged": (scaled(1.0), "normal"),
    "15 % of the brightness": (scaled(0.15), "underexposed"),
    "30 % of the brightness": (scaled(0.30), "underexposed"),
    "3 stops less": (stops(-3), "underexposed"),
    "2.5 times the brightness": (scaled(2.5), "overexposed"),
    "2 stops more": (stops(2), "overexposed"),
    "1 stop less": (stops(-1), "normal"),
}


def inside(photo: Pixels) -> NDArray[np.float32]:
    """Return the weight of what is put on a ground: a soft ellipse of a quarter of the picture."""
    height, width = photo.shape[:2]
    mask = np.zeros((height, width), np.float32)
    cv2.ellipse(mask, (width // 2, height // 2), (int(0.22 * width), int(0.33 * height)), 0, 0, 360, (1.0,), -1)
    soft: NDArray[np.float32] = cv2.GaussianBlur(mask, (0, 0), max(2, width / 100))
    return soft[..., None]


def on_ground(level: float) -> Change:
    return lambda photo: (photo * inside(photo) + level * (1 - inside(photo))).astype(np.uint8)


def shallow(photo: Pixels) -> Pixels:
    behind = cv2.GaussianBlur(photo, (0, 0), photo.shape[1] / 60)
    return np.asarray(photo * inside(photo) + behind * (1 - inside(photo))).astype(np.uint8)


def drawn(photo: Pixels) -> Pixels:
    """Return the picture in a few flat colours, as a drawing that was made after it."""
    areas = cv2.pyrMeanShiftFiltering(np.ascontiguousarray(photo), 20, 45)
    return np.asarray(cv2.medianBlur(areas // 64 * 64 + 32, 7), np.uint8)


def compressed(quality: int) -> Change:
    def change(photo: Pixels) -> Pixels:
        _, data = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        return decode(data.tobytes(), max_pixels=MAX_PIXELS)

    return change


def noisy(photo: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, 25, photo.shape)
    return np.asarray(np.rint((photo + noise).clip(0, 255)), np.uint8)


CONTENTS: Final[dict[str, tuple[Change, str]]] = {
    "unchanged": (scaled(1.0), ""),
    "blurred, σ 3": (lambda photo: np.asarray(cv2.GaussianBlur(photo, (0, 0), 3), np.uint8), ""),
    "noise, σ 25": (noisy, ""),
    "JPEG, quality 20": (compressed(20), ""),
    "JPEG, quality 5": (compressed(5), ""),
    "15 % of the brightness": (scaled(0.15), ""),
    "on a black ground": (on_ground(0), "plain_ground"),
    "on a white ground": (on_ground(255), "plain_ground"),
    "out of focus but for a part": (shallow, "shallow_focus"),
    "drawn in flat colours": (drawn, "flat_colours"),
}


class Instruments:
    """The stages, loaded."""

    def __init__(self) -> None:
        self._exposure = ExposureAnalyzer(ExposureConfig())
        self._brisque, self._nima = BrisqueScorer(BrisqueConfig()), NimaScorer(NimaConfig())
        for stage in (self._exposure, self._brisque, self._nima):
            stage.load()

    def lighting(self, photo: Pixels) -> Lighting:
        return self._exposure.predict(self._exposure.prepare(photo))

    def scores(self, photo: Pixels) -> tuple[float, float]:
        """Return BRISQUE and NIMA technical."""
        (distortion,) = self._brisque.predict_batch([self._brisque.prepare(photo)])
        (ratings,) = self._nima.predict_batch([self._nima.prepare(photo)])
        assert isinstance(distortion, Distortion)
        assert isinstance(ratings, Ratings)
        return distortion.score, ratings.of("technical").mean


def read(media: Path, folders: Sequence[str]) -> list[Pixels]:
    """Return the photographs of some folders."""
    paths = [path for folder in folders for path in sorted((media / folder).rglob("*"))]
    wanted = [path for path in paths if path.suffix.lower() in PICTURES and path.name != LOOKED_AT]
    photos = [decode(path.read_bytes(), max_pixels=MAX_PIXELS) for path in wanted]
    return [photo for photo in photos if min(photo.shape[:2]) >= SMALLEST]


def share(right: Sequence[bool]) -> str:
    return f"{sum(right)} of {len(right)}" if right else "none"


def light_table(instruments: Instruments, photos: Sequence[Pixels], seen: int) -> list[str]:
    """Return a row for each light: verdicts, and labels without and with them."""
    lines = [
        "| light | verdict to be | right, seen | right, unseen | BRISQUE and NIMA alone label lower | with exposure |",
        "|---|---|---|---|---|---|",
    ]
    scores = [instruments.scores(photo) for photo in photos]
    first = [LABELS.index(overall_quality(*each)) for each in scores]
    for name, (change, verdict) in LIGHTS.items():
        right: tuple[list[bool], list[bool]] = ([], [])
        before, after = [], []
        for number, photo in enumerate(photos):
            changed = change(photo)
            light = instruments.lighting(changed)
            if verdict == "overexposed" and light.highlights_clipped < TOO_WHITE:
                continue  # it was dark, and is not blown out now
            right[number >= seen].append(light.verdict == verdict)
            if first[number]:
                measured = instruments.scores(changed)
                before.append(LABELS.index(overall_quality(*measured)) < first[number])
                after.append(LABELS.index(overall_quality(*measured, light.verdict)) < first[number])
        cells = [name, verdict, *map(share, (*right, before, after))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def content_table(instruments: Instruments, photos: Sequence[Pixels], seen: int) -> list[str]:
    """Return a row for each content: how often it is seen, and what BRISQUE makes of it."""
    lines = [
        "| content | to be said | said, seen | said, unseen | median BRISQUE |",
        "|---|---|---|---|---|",
    ]
    for name, (change, reason) in CONTENTS.items():
        right: tuple[list[bool], list[bool]] = ([], [])
        values = []
        for number, photo in enumerate(photos):
            changed = change(photo)
            right[number >= seen].append(outside(changed) == ((reason,) if reason else ()))
            values.append(instruments.scores(changed)[0])
        shown = reason or "nothing"
        lines.append(f"| {name} | {shown} | {share(right[0])} | {share(right[1])} | {np.median(values):.0f} |")
    return lines


def report(photos: Sequence[Pixels], seen: int) -> str:
    """Return the report on photographs, of which the first ones were seen when thresholds were chosen."""
    instruments = Instruments()
    return "\n".join(
        [
            "# Exposure, and what BRISQUE was made for",
            "",
            f"{made_by(' '.join(['ops.bench.exposure', *sys.argv[1:]]), *PACKAGES)}. {len(photos)} photographs, "
            f"{seen} of which were looked at when the thresholds were chosen.",
            "",
            "## Exposure",
            "",
            f"Brightened photographs count where {TOO_WHITE:.0%} of them clip. The last two columns: photographs that "
            "are labelled high or medium unchanged, and lower after the change.",
            "",
            *light_table(instruments, photos, seen),
            "",
            "## Content",
            "",
            *content_table(instruments, photos, seen),
            "",
            "Unchanged photographs of which something is said have a white wall or sky behind somebody, or are "
            "portraits out of focus but for a face.",
            "",
        ]
    )


def main() -> None:
    """Run the command line."""
    media = Path(os.environ.get("VISION_MODELS_DIR", "models")).parent / "media"
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--media", type=Path, default=media, help="folder of labelled media")
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder for exposure.md")
    options = parser.parse_args()
    sets = [read(options.media, SEEN), read(options.media, UNSEEN)]
    text = report([photo for photos in sets for photo in photos], len(sets[0]))
    print(text)
    (options.out / "exposure.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
