"""Trains the muzzle models: ``python -m ops.training.muzzle MUZZLES --out DIR [--also DIR…] [--leave-one-out]``.

MUZZLES and ``--also`` are folders of labelled photos: a folder per animal, or flat names like cattle_0100_1.jpg. Those
of ``--also`` are animals too, but not their muzzles: they are trained on, and are no part of the domain. The backbone
is frozen and its features are kept on disk, unless ``--fine-tune`` gives it some epochs first. Training runs on Ray
Train: on one CPU, or on ``--workers`` of the cluster of RAY_ADDRESS, whose nodes share DIR. It is taken up again where
it ended, with the same arguments and the same DIR.

DIR gets the three members (safetensors, a JSON with thresholds and metrics, and their entries for configs/models.yaml),
loss curves, and the verification of animals that training never saw.
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, get_args

from deployments.muzzle.ensemble import CHAIN
from ops.training.export import export
from ops.training.features import FeatureExtractor
from ops.training.folds import HeldOut
from ops.training.heads import HeadConfig, Heads
from ops.training.loop import FINAL, fold_domain, fold_file, run_of, start_ray, train_folds
from ops.training.photos import find_photos
from ops.training.plots import draw_losses, draw_verification
from ops.training.triplets import Mining
from ops.training.verification import REFERENCES, dataset_of
from ops.training.views import ViewFeatures, features_file, view_features
from vision.muzzle.members import Domain, Ensemble, calibration, projected

DEFAULTS: Final = HeadConfig()


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("muzzles", type=Path)
    parser.add_argument("--also", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=CHAIN, help="backbones, the first that can be had")
    parser.add_argument("--leave-one-out", action="store_true", help="a training for each animal, which it never sees")
    parser.add_argument("--hold-out", nargs="*", default=[], help="animals left out of one training each")
    parser.add_argument("--views", type=int, default=8, help="augmented looks at each photo for each member")
    parser.add_argument("--epochs", type=int, default=DEFAULTS.epochs)
    parser.add_argument("--mining", choices=get_args(Mining), default=DEFAULTS.mining)
    parser.add_argument("--margin", type=float, default=DEFAULTS.margin)
    parser.add_argument("--decay", type=float, default=DEFAULTS.decay)
    parser.add_argument("--seed", type=int, default=DEFAULTS.seed)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--fine-tune", type=int, default=0, metavar="EPOCHS", help="of the backbone, before the heads")
    return parser.parse_args()


def fit(config: dict[str, Any], folder: Path, workers: int) -> None:
    """Run the loop on Ray Train; a run of the same configuration goes on from its last checkpoint."""
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    start_ray(workers)

    name = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:12]
    trainer = TorchTrainer(
        train_folds,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name=f"muzzle-{name}",
            storage_path=str(folder / "ray"),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=2),
        ),
    )
    trainer.fit()


def heads_of(
    fold: str,
    folder: Path,
    run: str,
    domain: Domain,
    share: float,
    found: ViewFeatures,
    animals: Sequence[str],
    muzzles: str,
) -> Heads:
    """The finished heads of a fold."""
    import torch

    heads = Heads(fold_domain(domain, found, animals, [] if fold == FINAL else [fold], muzzles), share, DEFAULTS)
    heads.load_state(torch.load(fold_file(folder, run, fold), weights_only=True))
    return heads


def judgeable(wanted: Sequence[str], animals: Sequence[str]) -> list[str]:
    """Those of the animals that have a probe beside three references; says which have not. Exits for unknown ones."""
    counts = Counter(animals)
    if unknown := [animal for animal in wanted if animal not in counts]:
        raise SystemExit(f"There are no photos of {', '.join(unknown)}; there are some of {', '.join(sorted(counts))}.")
    few = [animal for animal in wanted if counts[animal] <= REFERENCES]
    if few:
        print(f"Not held out, as they have {REFERENCES} photos or fewer: {', '.join(few)}.")
    return [animal for animal in wanted if animal not in few]


def untrained(
    folds: Sequence[str], domain: Domain, share: float, found: ViewFeatures, animals: Sequence[str], muzzles: str
) -> dict[str, Ensemble]:
    """The default ensemble, as calibrated without each animal."""
    return {fold: projected(fold_domain(domain, found, animals, [fold], muzzles), share) for fold in folds}


def main() -> None:
    """Features, training, verification, export."""
    arguments = parsed()
    folder: Path = arguments.out.resolve()
    photos, left_out = find_photos([arguments.muzzles, *arguments.also])
    for line in left_out:
        print(f"left out {line}")
    animals = [photo.animal for photo in photos]
    models: Sequence[str] = arguments.models
    if arguments.fine_tune:
        from ops.training.fine_tuning import fine_tuned

        print(fine_tuned(photos, models, arguments.fine_tune, folder))
        return
    extractor = FeatureExtractor(models)
    found = view_features(extractor, photos, arguments.views, arguments.seed, folder)
    domain, share = calibration(extractor.name, extractor.texture.dimensions)
    settings = replace(
        DEFAULTS,
        epochs=arguments.epochs,
        mining=arguments.mining,
        margin=arguments.margin,
        decay=arguments.decay,
        seed=arguments.seed,
    )
    held_out = judgeable(sorted(set(animals)) if arguments.leave_one_out else arguments.hold_out, animals)
    config = {
        "folder": str(folder),
        "features": str(features_file(extractor, photos, arguments.views, arguments.seed, folder)),
        "animals": animals,
        "folds": [*held_out, FINAL],
        "muzzles": arguments.muzzles.name,
        "domain": asdict(domain),
        "share": share,
        "heads": asdict(settings),
    }
    fit(config, folder, arguments.workers)
    common = (folder, run_of(config), domain, share, found, animals, arguments.muzzles.name)
    heads = {fold: heads_of(fold, *common) for fold in (*held_out, FINAL)}
    draw_losses({fold: each.losses for fold, each in heads.items()}, folder / "losses.png")
    trained = {fold: heads[fold].ensemble() for fold in held_out}
    default = untrained(held_out, domain, share, found, animals, arguments.muzzles.name)
    judged = {
        dataset: (HeldOut(default, found.plain, animals, dataset), HeldOut(trained, found.plain, animals, dataset))
        for dataset in dict.fromkeys(map(dataset_of, held_out))
    }
    metrics = {
        dataset: {"untrained": before.metrics(), "trained": after.metrics()}
        for dataset, (before, after) in judged.items()
    }
    if judged:
        draw_verification(judged, folder / "verification.png")
    of_muzzles = judged.get(arguments.muzzles.name)
    export(
        heads[FINAL].ensemble(),
        extractor,
        None if of_muzzles is None else of_muzzles[1].thresholds(domain.limit),
        training={
            "animals": len(set(animals)),
            "photos": len(photos),
            "datasets": sorted(set(map(dataset_of, animals))),
            "views": arguments.views,
            "heads": asdict(settings),
        },
        metrics=metrics,
        folder=folder,
    )
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(metrics, indent=2))


if __name__ == "__main__":
    main()
