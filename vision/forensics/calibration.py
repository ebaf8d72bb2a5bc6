"""Calibration of raw scores to the probability that an image or a voice is synthetic or manipulated.

Platt scaling (1999, Probabilistic outputs for support vector machines): a logistic curve over the raw score, fitted
with equal weight of both classes and then shifted to ``PRIOR``, the share of manipulated media among submissions.
``ops.calibration.authenticity`` fits the curves; ``ops/bench/reports/authenticity.md`` has the samples and error rates.
Each curve is fitted to a few dozen samples: it ranks media like those, and is no guarantee for others. Only the curve
of ghosts was measured on sources that it was not fitted to.
"""

import math
from dataclasses import dataclass
from typing import Final

PRIOR: Final = 0.3


@dataclass(frozen=True, slots=True)
class Calibration:
    """``slope`` and ``intercept`` of the log-odds over a raw score clipped to ±``limit``; ``on``: the samples it was
    fitted to.

    ``covers``: share of manipulated media that the score can detect at all, 0 to 1. The others score like genuine
    media, so the lower this share, the weaker is a low score as evidence of being genuine.
    """

    slope: float
    intercept: float
    limit: float
    on: str
    covers: float = 1.0

    def probability(self, score: float) -> float:
        """Return the probability of being synthetic or manipulated, 0 to 1."""
        clipped = min(max(score, -self.limit), self.limit)
        ratio = self.covers * math.exp(self.slope * clipped + self.intercept) + 1 - self.covers
        return sigmoid(math.log(ratio) + logit(PRIOR))

    def info(self) -> dict[str, float | str]:
        """Return what model-info reports about the calibration."""
        numbers = {"slope": self.slope, "intercept": self.intercept, "limit": self.limit, "covers": self.covers}
        return {**numbers, "prior": PRIOR, "on": self.on}


def sigmoid(value: float) -> float:
    """Return the probability for log-odds."""
    return 1 / (1 + math.exp(-value))


def logit(probability: float) -> float:
    """Return the log-odds of a probability between 0 and 1, both excluded."""
    return math.log(probability / (1 - probability))


MESONET: Final = Calibration(
    slope=0.20,
    intercept=0.95,
    limit=6.0,
    on="13 faces that were swapped or retouched and 37 that were not (FaceForensics++, MesoNet, CIPLAB, family photos)",
)
"""Of the log-odds of MesoInception-4 that a face is fake."""

GHOSTS: Final = Calibration(
    slope=28.7,
    intercept=-4.13,
    limit=0.25,
    covers=0.4,
    on="62 pictures of 7 sources (landscapes, animals, AVA, lossless references, people): each as it is, saved again, "
    "made smaller, saved twice, and with a part of another one in it; every source counts alike. None of the labelled "
    "pictures or the photographs of the report is among them",
)
"""Of the strength of the JPEG ghost. The other measures of forensics/signal did no better than chance on these.

``limit``: above it are 15 of the 62 splices but only one genuine image. ``covers``: about two splices in five are
stronger than 98 % of the genuine images; the others score like genuine ones, as does a generated face."""

AASIST: Final = Calibration(
    slope=0.51,
    intercept=1.43,
    limit=8.0,
    on="20 clips with published scores: 4 recordings and one fake of ASVspoof 2019, 15 of commercial speech synthesis",
)
"""Of the logit that a voice is synthetic: the negative of AASIST's published score."""

INSTABILITY: Final = Calibration(
    slope=3.5,
    intercept=9.8,
    limit=10.0,
    on="5 stretches of genuine footage with small faces, and the same with another face pasted into each frame anew",
)
"""Of ``instability`` of forensics/temporal; set by eye between the two kinds of footage."""
