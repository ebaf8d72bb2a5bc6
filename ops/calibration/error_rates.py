"""Measure how well a score separates matching pairs from other pairs, and report it at the points of a scale."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision.faces.calibration import Points

Scores = NDArray[np.float64]
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """An error rate: ``errors`` of ``pairs``; ``bound``: upper 95 % confidence bound of the true rate, 0-1 (Clopper and
    Pearson)."""

    errors: int
    pairs: int
    bound: float

    def __str__(self) -> str:
        return f"{self.errors} of {self.pairs} (below {100 * self.bound:.1f} %)"


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """Scores of matching and other pairs, float64[n] and float64[m], neither empty; higher is more alike."""

    matching: Scores
    other: Scores

    @property
    def auc(self) -> float:
        """Area under the ROC curve: the share of (matching, other) in which matching scores higher; ties count half."""
        above = self.matching[:, None] - self.other
        return float(((above > 0) + 0.5 * (above == 0)).mean())

    @property
    def eer(self) -> float:
        """Equal error rate: the mean of both error rates at the threshold where they are nearest to each other."""
        thresholds = np.unique(np.concatenate([self.matching, self.other]))
        missed = (self.matching < thresholds[:, None]).mean(1)
        false = (self.other >= thresholds[:, None]).mean(1)
        best = np.argmin(abs(missed - false))
        return float((missed[best] + false[best]) / 2)

    def false_matches(self, threshold: float) -> Rate:
        """Return the rate of other pairs that score ``threshold`` or more."""
        return rate(int((self.other >= threshold).sum()), len(self.other))

    def false_non_matches(self, threshold: float) -> Rate:
        """Return the rate of matching pairs that score less than ``threshold``."""
        return rate(int((self.matching < threshold).sum()), len(self.matching))

    def expected_false_matches(self, threshold: float) -> float:
        """Return the share of other pairs above ``threshold`` if their scores were normally distributed."""
        from scipy.stats import norm

        return float(norm.sf(threshold, self.other.mean(), self.other.std(ddof=1)))


def rate(errors: int, pairs: int) -> Rate:
    """Return an error rate with its confidence bound."""
    from scipy.stats import beta

    bound = 1.0 if errors == pairs else float(beta.ppf(CONFIDENCE, errors + 1, pairs - errors))
    return Rate(errors, pairs, bound)


def table(measured: Verification, points: Points) -> str:
    """Return error rates at the points of a scale, as Markdown."""
    kinds = (("matching", measured.matching), ("other", measured.other))
    lines = [
        f"AUC {measured.auc:.4f}, equal error rate {measured.eer:.4f}",
        "",
        "| pairs | number | least | mean | deviation | greatest |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {len(scores)} | {scores.min():.3f} | {scores.mean():.3f} | {scores.std(ddof=1):.3f} "
            f"| {scores.max():.3f} |"
            for name, scores in kinds
        ),
        "",
        "| per cent | cosine | false matches | by a normal distribution | false non-matches |",
        "|---|---|---|---|---|",
        *(
            f"| {percentage:g} | {cosine:g} | {measured.false_matches(cosine)} "
            f"| {100 * measured.expected_false_matches(cosine):.2g} % | {measured.false_non_matches(cosine)} |"
            for cosine, percentage in points[1:-1]
        ),
    ]
    return "\n".join(lines)


def draw(measured: Verification, points: Points, title: str, path: Path) -> None:
    """Draw histograms of both kinds of pairs, and the points of the scale as lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    low = np.floor(10 * min(measured.matching.min(), measured.other.min())) / 10
    edges = np.linspace(low, 1, round((1 - low) / 0.02) + 1)
    for name, scores, colour in (("other", measured.other, "#b5523b"), ("matching", measured.matching, "#2f6f9f")):
        weights = np.full(len(scores), 100 / len(scores))
        axes.hist(scores, edges, weights=weights, color=colour, alpha=0.65, label=f"{name}: {len(scores)} pairs")
    for cosine, percentage in points[1:-1]:
        axes.axvline(cosine, color="black", linewidth=1, linestyle="-" if percentage == 75 else ":")
        label = f"{percentage:g} %"
        axes.annotate(
            label, (cosine, 1.01), xycoords=("data", "axes fraction"), ha="center", va="bottom", rotation=90, fontsize=8
        )
    axes.set(xlabel="cosine", ylabel="% of the pairs of a kind", xlim=(low, 1))
    axes.set_title(title, pad=32)
    axes.legend(loc="upper left")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
