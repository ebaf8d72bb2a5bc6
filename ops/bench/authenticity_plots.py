"""Pictures of the authenticity report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

COLOURS: Final = {False: "#2a7f62", True: "#c0392b"}


def draw_scores(parts: Mapping[str, Sequence[tuple[str, bool, float]]], out: Path) -> None:
    """One panel per part: risk scores by group, genuine and fake."""
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
    """How far risk scores move, by change."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.boxplot(list(moves.values()), tick_labels=list(moves), orientation="horizontal", whis=(0, 100))
    axes.axvline(0, color="#888", linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xlabel="points of risk that the same picture moves by")
    figure.savefig(out, dpi=90)
