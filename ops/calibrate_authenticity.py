"""Fits the curves of ``deployments.forensics.calibration``: ``python -m ops.calibrate_authenticity [MEDIA]``.

MEDIA is a folder with ``deepfake_images``, ``face_pairs_deepface``, ``near_duplicates`` and ``audio_spoof``; without
it, ``media`` beside VISION_MODELS_DIR. Prints, for each curve, its slope and intercept before the prior, and the AUC of
the raw score on the samples it was fitted to: there are too few of them to hold any back.
"""

import argparse
import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deployments.forensics import visual, voice
from deployments.forensics.calibration import AASIST, GHOSTS, MESONET, Calibration
from deployments.forensics.jpeg import luma_table
from deployments.forensics.signal import measure
from deployments.images import decode
from deployments.people import faces
from ops.bench import altered
from ops.bench.authenticity import auc, labelled

Pairs = list[tuple[bool, float]]
SEED = 0


def mesonet(media: Path) -> Pairs:
    """(fake, log-odds) of every face that can be judged, on labelled pictures and on photographs."""
    detector, network = faces.FaceDetector(faces.Config()), visual.VisualDetector(visual.Config())
    detector.load()
    network.load()
    pairs: Pairs = []
    for path, _, fake in labelled(media):
        image = decode(path.read_bytes(), max_pixels=altered.MAX_PIXELS)
        (found,) = detector.predict_batch([detector.prepare(image)])
        if isinstance(found, tuple) and found:
            (judged,) = network.predict_batch([network.prepare((image, found[:1]))])
            if isinstance(judged, visual.Visual) and judged.log_odds[0] is not None:
                pairs.append((fake, judged.log_odds[0]))
    return pairs


def ghosts(media: Path) -> Pairs:
    """(spliced, strength of the ghost) of photographs as they are, saved again, and with a part of another one."""
    rng = np.random.default_rng(SEED)
    folders = "face_pairs_deepface", "near_duplicates/base", "animals/cattle_muzzle"
    paths = [path for folder in folders for path in sorted((media / folder).glob("*.jpg"))]
    photos = [decode(path.read_bytes(), max_pixels=altered.MAX_PIXELS) for path in paths]
    pairs: Pairs = []
    for place, photo in enumerate(photos):
        again = altered.jpeg(photo, int(rng.integers(60, 96)))
        splice = altered.spliced(photo, photos[(place + 7) % len(photos)], rng)
        for fake, data in ((False, paths[place].read_bytes()), (False, again), (True, splice)):
            image = decode(data, max_pixels=altered.MAX_PIXELS)
            pairs.append((fake, measure(image, luma_table(data, altered.MAX_PIXELS)).ghost))
    return pairs


def aasist(media: Path) -> Pairs:
    """(made, logit of a made voice) of the clips with published scores."""
    folder = media / "audio_spoof"
    network = voice.VoiceDetector(voice.Config())
    network.load()
    pairs: Pairs = []
    with (folder / "labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["reference_aasist_logit_bonafide"]:
                sound = altered.heard(folder / row["file"])[: voice.SAMPLES]
                (judged,) = network.predict_batch([network.prepare(sound)])
                if isinstance(judged, voice.Voice):
                    pairs.append((row["label"] == "spoof", -judged.score))
    return pairs


def fit(pairs: Sequence[tuple[bool, float]], limit: float, penalty: float) -> tuple[float, float]:
    """Slope and intercept of a logistic curve, both classes counting alike; ``penalty``: sklearn's C."""
    from sklearn.linear_model import LogisticRegression

    scores = np.clip([[score] for _, score in pairs], -limit, limit)
    curve = LogisticRegression(class_weight="balanced", C=penalty).fit(scores, [fake for fake, _ in pairs])
    return float(curve.coef_[0, 0]), float(curve.intercept_[0])


def show(name: str, pairs: Pairs, served: Calibration, penalty: float) -> None:
    """Print a curve beside the one that serves."""
    slope, intercept = fit(pairs, served.limit, penalty)
    fakes = sum(fake for fake, _ in pairs)
    print(f"{name}: slope {slope:.2f}, intercept {intercept:.2f}; served: {served.slope:.2f}, {served.intercept:.2f}")
    print(f"  {fakes} fake and {len(pairs) - fakes} genuine, AUC {auc(pairs):.3f}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = os.environ.get("VISION_MODELS_DIR", "")
    parser.add_argument("media", nargs="?", type=Path, default=Path(models).parent / "media" if models else None)
    media = parser.parse_args().media
    if media is None:
        parser.error("name the folder of media, or set VISION_MODELS_DIR")
    show("MESONET", mesonet(media), MESONET, 1.0)
    show("GHOSTS", ghosts(media), GHOSTS, 100.0)
    # Twenty clips are told apart almost without a mistake, and would make the curve a step but for a strong penalty.
    show("AASIST", aasist(media), AASIST, 0.1)


if __name__ == "__main__":
    main()
