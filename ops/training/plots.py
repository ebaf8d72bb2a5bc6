"""Pictures of a training: its losses, and how well it verifies animals that it never saw."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ops.calibration.error_rates import Verification
from ops.training.folds import HeldOut
from vision.muzzle.encoding import MEMBER_IDS

BEFORE, AFTER = "#b5523b", "#2f6f9f"
COLOURS: Final = ("#2f6f9f", "#b5523b", "#4f8a4b")


def draw_losses(losses: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """Mean triplet loss of each member by epoch: its range over the folds, and the training on all animals."""
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
    """For each data set: ROC of pairs of photos, and the scores of probes against templates, before and after."""
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
