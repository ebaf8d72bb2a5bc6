"""Train the muzzle models: ``python -m ops.training.muzzle MUZZLES --out DIR [--also DIR…] [--leave-one-out]``.

MUZZLES and ``--also`` are folders of labelled photos: a folder per animal, or flat names like cattle_0100_1.jpg.
``--also`` names photos of animals without their muzzles: they are trained on, and are no part of the domain. The
backbone is frozen and its features are kept on disk, unless ``--fine-tune`` gives it some epochs first. Training runs
on Ray Train: on one CPU, or on ``--workers`` of the cluster of RAY_ADDRESS, whose nodes share DIR. The same command
resumes a training that was interrupted.

DIR gets the three members (safetensors, a JSON with thresholds and metrics, and their entries for configs/models.yaml),
loss curves, and the verification of animals that training never saw.
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

from deployments.muzzle.ensemble import CHAIN
from ops.calibration.error_rates import Verification
from ops.training.export import export
from ops.training.features import FeatureExtractor, ViewFeatures, features_file, view_features
from ops.training.heads import HeadConfig, Heads, Mining
from ops.training.loop import FINAL, fold_domain, fold_file, run_of, start_ray, train_folds
from ops.training.photos import find_photos
from ops.training.verification import REFERENCES, HeldOut, dataset_of
from vision.muzzle.ensemble import MEMBER_IDS, Domain, Ensemble, calibration, projected

DEFAULTS: Final = HeadConfig()
BEFORE, AFTER = "#b5523b", "#2f6f9f"
COLOURS: Final = ("#2f6f9f", "#b5523b", "#4f8a4b")
"""Of the members in the plot of losses."""


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("muzzles", type=Path)
    parser.add_argument("--also", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=CHAIN, help="backbones, the first that is available")
    parser.add_argument("--leave-one-out", action="store_true", help="one more training for each animal, without it")
    parser.add_argument("--hold-out", nargs="*", default=[], help="animals left out of one training each")
    parser.add_argument("--views", type=int, default=8, help="augmented views of each photo for each member")
    parser.add_argument("--epochs", type=int, default=DEFAULTS.epochs)
    parser.add_argument("--mining", choices=get_args(Mining), default=DEFAULTS.mining)
    parser.add_argument("--margin", type=float, default=DEFAULTS.margin)
    parser.add_argument("--decay", type=float, default=DEFAULTS.decay)
    parser.add_argument("--seed", type=int, default=DEFAULTS.seed)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--fine-tune", type=int, default=0, metavar="EPOCHS", help="of the backbone, before the heads")
    return parser.parse_args()


def fit(config: dict[str, Any], folder: Path, workers: int) -> None:
    """Run the loop on Ray Train; a run with the same configuration resumes from its last checkpoint."""
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
    features: ViewFeatures,
    animals: Sequence[str],
    muzzles: str,
) -> Heads:
    """Load the finished heads of a fold."""
    import torch

    heads = Heads(fold_domain(domain, features, animals, [] if fold == FINAL else [fold], muzzles), share, DEFAULTS)
    heads.load_state(torch.load(fold_file(folder, run, fold), weights_only=True))
    return heads


def judgeable(wanted: Sequence[str], animals: Sequence[str]) -> list[str]:
    """Return the animals with a probe beside three references, and print the others. Exits for unknown animals."""
    counts = Counter(animals)
    if unknown := [animal for animal in wanted if animal not in counts]:
        raise SystemExit(f"There are no photos of {', '.join(unknown)}; only of {', '.join(sorted(counts))}.")
    few = [animal for animal in wanted if counts[animal] <= REFERENCES]
    if few:
        print(f"Not held out, as they have {REFERENCES} photos or fewer: {', '.join(few)}.")
    return [animal for animal in wanted if animal not in few]


def untrained(
    folds: Sequence[str], domain: Domain, share: float, features: ViewFeatures, animals: Sequence[str], muzzles: str
) -> dict[str, Ensemble]:
    """Return the default ensemble, calibrated without each animal in turn."""
    return {fold: projected(fold_domain(domain, features, animals, [fold], muzzles), share) for fold in folds}


def draw_losses(losses: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """Draw each member's mean triplet loss by epoch: a line for the training on all animals, the range of all folds."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    every = np.array(list(losses.values()))
    for place, (number, colour) in enumerate(zip(MEMBER_IDS, COLOURS, strict=True)):
        epochs = np.arange(1, every.shape[1] + 1)
        axes.fill_between(epochs, every[:, :, place].min(0), every[:, :, place].max(0), color=colour, alpha=0.2)
        axes.plot(epochs, every[-1, :, place], color=colour, label=f"model {number}")
    axes.set(xlabel="epoch", ylabel="triplet loss", title=f"{len(every)} trainings: all animals (line), and the range")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def draw_verification(judged: Mapping[str, tuple[HeldOut, HeldOut]], path: Path) -> None:
    """Draw for each data set the ROC of pairs of photos, and scores of probes against templates, before and after."""
    pyplot = _pyplot()
    figure, rows = pyplot.subplots(len(judged), 3, figsize=(13, 3.9 * len(judged)), layout="constrained", squeeze=False)
    for axes, (dataset, (before, after)) in zip(rows, judged.items(), strict=True):
        for kind, colour, each in (("untrained", BEFORE, before), ("trained", AFTER, after)):
            _roc(axes[0], each.pairs, f"{kind}: AUC {each.pairs.auc:.4f}, EER {100 * each.pairs.eer:.1f} %", colour)
        axes[0].set(title=f"{dataset}: pairs of photos", xlabel="false accepts", ylabel="true accepts")
        axes[0].legend(loc="lower right")
        for axis, kind, each in ((axes[1], "untrained", before), (axes[2], "trained", after)):
            _histogram(axis, each.templates)
            title = f"{kind}: AUC {each.templates.auc:.4f}, EER {100 * each.templates.eer:.1f} %"
            axis.set(title=title, xlabel="cosine of probe and template", ylabel="% of a kind", xlim=(-0.6, 1))
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main() -> None:
    """Compute features, train, verify and export."""
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
    features = view_features(extractor, photos, arguments.views, arguments.seed, folder)
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
    common = (folder, run_of(config), domain, share, features, animals, arguments.muzzles.name)
    heads = {fold: heads_of(fold, *common) for fold in (*held_out, FINAL)}
    draw_losses({fold: each.losses for fold, each in heads.items()}, folder / "losses.png")
    trained = {fold: heads[fold].ensemble() for fold in held_out}
    default = untrained(held_out, domain, share, features, animals, arguments.muzzles.name)
    judged = {
        dataset: (
            HeldOut(default, features.plain, animals, dataset),
            HeldOut(trained, features.plain, animals, dataset),
        )
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


def _roc(axes: Any, scores: Verification, label: str, colour: str) -> None:
    thresholds = np.concatenate([[np.inf], np.sort(np.concatenate([scores.matching, scores.other]))[::-1]])
    false = (scores.other[None] >= thresholds[:, None]).mean(1)
    true = (scores.matching[None] >= thresholds[:, None]).mean(1)
    axes.plot(false, true, color=colour, label=label, drawstyle="steps-post")
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.01))


def _histogram(axes: Any, scores: Verification) -> None:
    edges = np.linspace(-0.6, 1, 41)
    for name, values, colour in (("two animals", scores.other, BEFORE), ("one animal", scores.matching, AFTER)):
        weights = np.full(len(values), 100 / len(values))
        axes.hist(values, edges, weights=weights, color=colour, alpha=0.65, label=f"{name}: {len(values)}")
    axes.legend(loc="upper left")


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


if __name__ == "__main__":
    main()
