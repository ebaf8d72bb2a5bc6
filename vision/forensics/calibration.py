"""From what a model gives to the probability that a picture or a voice was made or changed.

Platt's scaling (1999, Probabilistic outputs for support vector machines): a logistic curve over the raw score, fitted
with both classes counting alike and then moved to ``PRIOR``, the share of made or changed media among what is handed
in. ``ops.calibration.authenticity`` fits the curves; ``ops/bench/reports/authenticity.md`` says what they rest on and
how often they are wrong. All of them rest on a few dozen samples: they order what they were measured on, and are no
promise for anything else. Only the curve of ghosts was measured on sources that it was not fitted to.
"""

import math
from dataclasses import dataclass
from typing import Final

PRIOR: Final = 0.3


@dataclass(frozen=True, slots=True)
class Calibration:
    """``slope`` and ``intercept`` of the log-odds over a raw score kept within ±``limit``; ``on``: what it rests on.

    ``covers``: share of what is made or changed that the score can see at all, 0-1. The rest of it looks to the score
    as genuine media do, so a low score is a weak sign of being genuine, and the lower the share the weaker.
    """

    slope: float
    intercept: float
    limit: float
    on: str
    covers: float = 1.0

    def probability(self, score: float) -> float:
        """0-1, higher is more likely made or changed."""
        kept = min(max(score, -self.limit), self.limit)
        ratio = self.covers * math.exp(self.slope * kept + self.intercept) + 1 - self.covers
        return sigmoid(math.log(ratio) + logit(PRIOR))

    def info(self) -> dict[str, float | str]:
        """Return the calibration for model-info."""
        numbers = {"slope": self.slope, "intercept": self.intercept, "limit": self.limit, "covers": self.covers}
        return {**numbers, "prior": PRIOR, "on": self.on}


def sigmoid(value: float) -> float:
    """Log-odds to a probability."""
    return 1 / (1 + math.exp(-value))


def logit(probability: float) -> float:
    """A probability, neither 0 nor 1, to log-odds."""
    return math.log(probability / (1 - probability))


MESONET: Final = Calibration(
    slope=0.20,
    intercept=0.95,
    limit=6.0,
    on="13 faces that were swapped or retouched and 37 that were not (FaceForensics++, MesoNet, CIPLAB, family photos)",
)
"""Of the log-odds of MesoInception-4 that a face is no real one."""

GHOSTS: Final = Calibration(
    slope=28.7,
    intercept=-4.13,
    limit=0.25,
    covers=0.4,
    on="62 pictures of 7 sources (landscapes, animals, AVA, lossless references, people): each as it is, saved again, "
    "made smaller, saved twice, and with a part of another one in it; every source counts alike. None of the labelled "
    "pictures or the photographs of the report is among them",
)
"""Of the strength of the JPEG ghost. The other measures of forensics/signal told these no better than chance.

``limit``: beyond it there are 15 of the 62 splices, but only one genuine picture to learn from. ``covers``: about two
splices in five are stronger than all but two genuine pictures in a hundred; the others look like genuine ones, as does
a face that was made anew."""

AASIST: Final = Calibration(
    slope=0.51,
    intercept=1.43,
    limit=8.0,
    on="20 clips with published scores: 4 recordings and one fake of ASVspoof 2019, 15 of commercial speech synthesis",
)
"""Of the logit that a voice was made: the negative of AASIST's published score."""

TREMBLING: Final = Calibration(
    slope=3.5,
    intercept=9.8,
    limit=10.0,
    on="5 stretches of genuine footage with small faces, and the same with another face pasted into each frame anew",
)
"""Of the mean logarithm of the three measures of trembling of forensics/temporal; set by eye between the two kinds."""
