"""Fit the curves of ``vision.forensics.calibration``: ``python -m ops.calibration.authenticity [MEDIA]``.

MEDIA is a folder with ``deepfake_images``, ``face_pairs_deepface``, ``audio_spoof`` and what GHOST_SOURCES names;
without it, ``media`` beside VISION_MODELS_DIR. Prints, for each curve, its slope and intercept before the prior, and
the AUC of the raw score on the samples it was fitted to. For ghosts, whole sources are held out for the report; of
faces and voices there are too few to hold any out.
"""

import argparse
import csv
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deployments.forensics import visual, voice
from deployments.forensics.signal import measure
from deployments.people import faces
from ops.bench import altered
from ops.bench.authenticity import auc, labelled
from vision.forensics import voices
from vision.forensics.calibration import AASIST, GHOSTS, MESONET, Calibration
from vision.forensics.compression import luma_table
from vision.forensics.voice_domain import REFERENCE
from vision.images import decode
from vision.weights import resolve

Pairs = list[tuple[bool, float]]
SEED = 0
GHOST_SOURCES = {
    "near_duplicates/base": 1,
    "animals/cattle_muzzle": 1,
    "animals/opencows": 2,
    "iqa/ava": 1,
    "iqa/calibra_ref": 1,
    "faces": 1,
    "emotion": 1,
}
"""Folders of genuine pictures that the report does not use → every how manieth picture is taken."""


def mesonet(media: Path) -> Pairs:
    """Return (fake, log-odds) of every face that can be judged, on labelled pictures and on photographs."""
    detector, network = faces.FaceDetector(faces.Config()), visual.VisualDetector(visual.Config())
    detector.load()
    network.load()
    pairs: Pairs = []
    for path, _, fake in labelled(media):
        image = decode(path.read_bytes(), max_pixels=altered.MAX_PIXELS)
        (detections,) = detector.predict_batch([detector.prepare(image)])
        if isinstance(detections, tuple) and detections:
            (judged,) = network.predict_batch([network.prepare((image, detections[:1]))])
            if isinstance(judged, visual.Visual) and judged.log_odds[0] is not None:
                pairs.append((fake, judged.log_odds[0]))
    return pairs


def ghosts(media: Path) -> list[tuple[str, bool, float]]:
    """Return (source, spliced, strength of the ghost) of pictures with several histories; none is in the report."""
    measured: list[tuple[str, bool, float]] = []
    for folder, step in GHOST_SOURCES.items():
        paths = [path for path in sorted((media / folder).rglob("*.*")) if path.suffix in (".jpg", ".png", ".bmp")]
        files = [path.read_bytes() for path in paths[::step]]
        photos = [decode(data, max_pixels=altered.MAX_PIXELS) for data in files]
        for place, data in enumerate(files):
            rng = np.random.default_rng([SEED, place])
            other = photos[(place + max(1, len(photos) // 3)) % len(photos)]
            for fake, past in altered.histories(data, other, rng):
                image = decode(past, max_pixels=altered.MAX_PIXELS)
                table = luma_table(past, altered.MAX_PIXELS)
                measured.append((folder, fake, measure(image, table).ghost))
    return measured


def show_ghosts(measured: Sequence[tuple[str, bool, float]]) -> None:
    """Print the curve, in which every source has the same weight, and what ``limit`` and ``covers`` are based on."""
    sources, counts = [source for source, _, _ in measured], Counter((source, fake) for source, fake, _ in measured)
    pairs = [(fake, ghost) for _, fake, ghost in measured]
    show("GHOSTS", pairs, GHOSTS, 100.0, [1 / counts[source, fake] for source, fake, _ in measured])
    genuine, fakes = (np.array([ghost for fake, ghost in pairs if fake == kind]) for kind in (False, True))
    print(f"  {len(set(sources))} sources; 99 % of the genuine below {np.percentile(genuine, 99):.3f}")
    beyond = [int((kind > GHOSTS.limit).sum()) for kind in (genuine, fakes)]
    print(f"  beyond the limit {beyond[0]} genuine and {beyond[1]} splices")
    print(f"  splices above 98 % of the genuine: {(fakes > np.percentile(genuine, 98)).mean():.2f}")


def aasist(media: Path) -> Pairs:
    """Return (synthetic, logit of a synthetic voice) of the clips with published scores."""
    folder = media / "audio_spoof"
    network = voice.VoiceDetector(voice.Config())
    network.load()
    pairs: Pairs = []
    with (folder / "labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["reference_aasist_logit_bonafide"]:
                sound = altered.read_sound(folder / row["file"])[: voices.SAMPLES]
                (judged,) = network.predict_batch([network.prepare(sound)])
                if isinstance(judged, voice.Voice):
                    pairs.append((row["label"] == "spoof", -judged.score))
    return pairs


def write_domain(media: Path, path: Path = REFERENCE) -> None:
    """Write the embeddings, of length 1, of the clips that AASIST's curve is fitted to."""
    import torch

    from vision.networks.aasist import WEIGHT_FILE, load_with_embedding

    folder = media / "audio_spoof"
    network = load_with_embedding(resolve("aasist").files[WEIGHT_FILE])
    with (folder / "labels.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file) if row["reference_aasist_logit_bonafide"]]
    windows = [np.resize(altered.read_sound(folder / name)[: voices.SAMPLES], voices.SAMPLES) for name in names]
    with torch.inference_mode():
        embeddings = np.concatenate([network(torch.from_numpy(window[None])).numpy()[:, 2:] for window in windows])
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    np.savez_compressed(path, embeddings=(embeddings / lengths).astype(np.float16))


def fit(
    pairs: Sequence[tuple[bool, float]], limit: float, penalty: float, weights: Sequence[float] | None = None
) -> tuple[float, float]:
    """Return slope and intercept of a logistic curve, both classes weighted alike; ``penalty``: scikit-learn's C."""
    from sklearn.linear_model import LogisticRegression

    scores, fakes = np.clip([[score] for _, score in pairs], -limit, limit), [fake for fake, _ in pairs]
    given = np.array(weights) * len(pairs) / np.sum(weights) if weights else None
    curve = LogisticRegression(class_weight="balanced" if given is None else None, C=penalty)
    curve.fit(scores, fakes, given)
    return float(curve.coef_[0, 0]), float(curve.intercept_[0])


def show(name: str, pairs: Pairs, served: Calibration, penalty: float, weights: Sequence[float] | None = None) -> None:
    """Print a fitted curve beside the one that the service uses."""
    slope, intercept = fit(pairs, served.limit, penalty, weights)
    fakes = sum(fake for fake, _ in pairs)
    print(f"{name}: slope {slope:.2f}, intercept {intercept:.2f}; served: {served.slope:.2f}, {served.intercept:.2f}")
    print(f"  {fakes} fake and {len(pairs) - fakes} genuine, AUC {auc(pairs):.3f}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = os.environ.get("VISION_MODELS_DIR", "")
    parser.add_argument("media", nargs="?", type=Path, default=Path(models).parent / "media" if models else None)
    parser.add_argument("--domain", action="store_true", help="write the embeddings of AASIST's clips, and no more")
    given = parser.parse_args()
    media = given.media
    if media is None:
        parser.error("name the folder of media, or set VISION_MODELS_DIR")
    if given.domain:
        write_domain(media)
        return
    show_ghosts(ghosts(media))
    show("MESONET", mesonet(media), MESONET, 1.0)
    # Twenty clips are separated almost without a mistake; without a strong penalty the curve would be a step.
    show("AASIST", aasist(media), AASIST, 0.1)


if __name__ == "__main__":
    main()
