"""Calibrate the untrained muzzle ensemble: ``python -m ops.calibration.muzzle MODEL --muzzles DIR… --general DIR…``.

MODEL is a backbone of models.yaml. ``--general`` are pictures of anything but muzzles: features are standardised by
their mean and deviation. ``--muzzles`` are labelled muzzle photos (a folder per animal, or flat names). Two numbers are
chosen by them, each animal judged by statistics of the others only: how much of the mean muzzle is subtracted, so that
both error rates of a probe against three references are equal at the thresholds of the API; and the limit of the
domain check, half way between the strangest muzzle and the most muzzle-like other picture, which may also be one of
``--others`` (animals without their muzzles, for example) or one that shows nothing.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ops.calibration.error_rates import Verification
from ops.training.features import PLAIN, FeatureExtractor
from ops.training.photos import MAX_PIXELS, SUFFIXES, blank_pictures, find_photos
from ops.training.verification import (
    Kinds,
    equal_error_threshold,
    measured,
    mutual_scores,
    pair_scores,
    pooled,
    summary,
    template_scores,
)
from vision.errors import StageError
from vision.images import decode
from vision.muzzle.ensemble import Domain, projected, save_calibration

Array = NDArray[np.float32]

COSINE = 0.62
DISTANCE = 0.85
STRICTEST = max(COSINE, 1 - DISTANCE**2 / 2)
"""The lowest cosine that meets both thresholds of the API."""
SHARES = np.linspace(0, 1, 41)


def features_under(extractor: FeatureExtractor, folders: Sequence[Path]) -> Array:
    """Return features, float32[n, d], of every picture in the folders that can be read and is large enough."""
    squares = []
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            try:
                squares.append(PLAIN.of(decode(path.read_bytes(), max_pixels=MAX_PIXELS)))
            except StageError as error:
                print(f"left out {path.name}: {error.message}")
    return extractor(squares)


def without(domain: Domain, muzzles: Array, animals: Sequence[str], animal: str) -> Domain:
    """Return the domain of all the other animals."""
    others = np.array([name != animal for name in animals])
    return replace(domain, mean=domain.standard(muzzles[others]).mean(0))


def held_out_templates(domain: Domain, muzzles: Array, animals: Sequence[str], share: float) -> Kinds:
    """Return template scores of each animal by an ensemble that was calibrated without it."""
    folds = []
    for animal in sorted(set(animals)):
        ensemble = projected(without(domain, muzzles, animals, animal), share)
        codes = ensemble.encode(muzzles).reshape(len(muzzles), -1)
        folds.append(template_scores(codes, animals, [animal]))
    return pooled(folds)


def chosen_share(domain: Domain, muzzles: Array, animals: Sequence[str]) -> tuple[float, Verification]:
    """Return the share whose equal error threshold is nearest to the API's, and its verification."""
    tried = [(float(share), measured(held_out_templates(domain, muzzles, animals, share))) for share in SHARES]
    return min(tried, key=lambda each: abs(equal_error_threshold(each[1]) - STRICTEST))


def domain_distances(domain: Domain, muzzles: Array, animals: Sequence[str]) -> Array:
    """Return the distance of each photo to the mean of the other animals, float32[n]."""
    rows = [
        without(domain, muzzles, animals, animal).distances(muzzles[np.array(animals) == animal])
        for animal in dict.fromkeys(animals)
    ]
    return np.concatenate(rows)


def main() -> None:
    """Compute, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--muzzles", nargs="+", type=Path, required=True)
    parser.add_argument("--general", nargs="+", type=Path, required=True)
    parser.add_argument("--others", nargs="*", type=Path, default=[])
    arguments = parser.parse_args()
    extractor = FeatureExtractor([arguments.model])
    photos, left_out = find_photos(arguments.muzzles)
    for line in left_out:
        print(f"left out {line}")
    general, others = (features_under(extractor, folders) for folders in (arguments.general, arguments.others))
    nothing = extractor(PLAIN.of(pixels) for _, pixels in blank_pictures())
    muzzles, animals = extractor(PLAIN.of(photo.pixels()) for photo in photos), [photo.animal for photo in photos]
    centre, scale = general.mean(0), np.maximum(general.std(0), 1e-6)
    domain = Domain(centre, scale, ((muzzles - centre) / scale).mean(0), limit=0.0)
    inside = domain_distances(domain, muzzles, animals)
    strangers = {"general": general, "others": others, "nothing": nothing}
    nearest = {name: float(domain.distances(rows).min()) for name, rows in strangers.items() if len(rows)}
    domain = replace(domain, limit=round((float(inside.max()) + min(nearest.values())) / 2, 4))
    share, templates = chosen_share(domain, muzzles, animals)
    codes = projected(domain, share).encode(muzzles)
    pairs = measured(pair_scores(codes.reshape(len(muzzles), -1), animals))
    print(
        f"{extractor.texture.version}: {len(general)} general pictures, {len(photos)} muzzles of "
        f"{len(set(animals))} animals\n"
        f"domain distance: muzzles {inside.min():.2f} to {inside.max():.2f}; "
        f"{', '.join(f'{name} from {distance:.2f}' for name, distance in nearest.items())}; limit {domain.limit:.2f}\n"
        f"share {share:.3f}: equal error threshold {equal_error_threshold(templates):.3f}, "
        f"probes against held-out templates {summary(templates)}\n"
        f"pairs {summary(pairs)}, mutual from {min(mutual_scores(codes.reshape(len(muzzles), -1), animals)):.2f}"
    )
    save_calibration(extractor.name, domain, share)


if __name__ == "__main__":
    main()
