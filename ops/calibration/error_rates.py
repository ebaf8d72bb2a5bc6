"""How well a score tells pairs that match from pairs that do not."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """``errors`` of ``pairs``; ``bound``: what the true rate stays under with 95 % confidence (Clopper and Pearson)."""

    errors: int
    pairs: int
    bound: float

    def __str__(self) -> str:
        return f"{self.errors} of {self.pairs} (below {100 * self.bound:.1f} %)"


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """``matching`` and ``other``: float64[n] and float64[m] scores, higher is more alike; neither is empty."""

    matching: Scores
    other: Scores

    @property
    def auc(self) -> float:
        """The chance that a matching pair scores above another one; ties count half."""
        above = self.matching[:, None] - self.other
        return float(((above > 0) + 0.5 * (above == 0)).mean())

    @property
    def eer(self) -> float:
        """The error rate at the threshold where both kinds of error are nearest to each other, as their mean."""
        thresholds = np.unique(np.concatenate([self.matching, self.other]))
        missed = (self.matching < thresholds[:, None]).mean(1)
        false = (self.other >= thresholds[:, None]).mean(1)
        best = np.argmin(abs(missed - false))
        return float((missed[best] + false[best]) / 2)

    def false_matches(self, threshold: float) -> Rate:
        """Other pairs that score ``threshold`` or more."""
        return rate(int((self.other >= threshold).sum()), len(self.other))

    def false_non_matches(self, threshold: float) -> Rate:
        """Matching pairs that score less than ``threshold``."""
        return rate(int((self.matching < threshold).sum()), len(self.matching))

    def expected_false_matches(self, threshold: float) -> float:
        """Share of other pairs above ``threshold``, were their scores normally distributed."""
        from scipy.stats import norm

        return float(norm.sf(threshold, self.other.mean(), self.other.std(ddof=1)))


def rate(errors: int, pairs: int) -> Rate:
    from scipy.stats import beta

    bound = 1.0 if errors == pairs else float(beta.ppf(CONFIDENCE, errors + 1, pairs - errors))
    return Rate(errors, pairs, bound)
