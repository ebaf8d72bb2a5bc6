"""analysis/anomalies: how far test vectors lie outside the spread of a reference set.

The score is a z-score: the distance of a vector to the centroid of the references, minus the mean of the
references' own distances, divided by their standard deviation. Each reference's distance is taken to the centroid of
the others (leave-one-out), as a test vector had no part in the centroid either.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from deployments.serving.stage import Stage, StageConfig, StageRef
from vision.errors import InvalidInput

MIN_REFERENCES = 2
MIN_SPREAD = 0.02
"""Floor of the standard deviation of cosine distances: a set of near-copies must not make everything an outlier."""


@dataclass(frozen=True, slots=True, eq=False)
class AnomalyQuery:
    """``references``: float32[m, d], m ≥ 2, and ``tests``: float32[n, d]; unit vectors."""

    references: NDArray[np.float32]
    tests: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Anomalies:
    """``scores``: float[n], standard deviations above the references' mean distance (negative: closer than most);
    ``centroid_similarities``: float[n], cosine to the centroid, −1..1; ``reference_scores``: float[m], left one out."""

    scores: NDArray[np.float64]
    centroid_similarities: NDArray[np.float64]
    reference_scores: NDArray[np.float64]


ANOMALIES: Final = StageRef[AnomalyQuery, Anomalies]("analysis/anomalies")


class AnomalyDetector(Stage[StageConfig, AnomalyQuery, AnomalyQuery, Anomalies]):
    """AnomalyQuery → Anomalies."""

    key = ANOMALIES.key

    def predict(self, item: AnomalyQuery) -> Anomalies:
        m = len(item.references)
        if m < MIN_REFERENCES:
            raise InvalidInput(f"Anomaly detection needs at least {MIN_REFERENCES} reference assets, got {m}.")
        references = item.references.astype(np.float64)
        tests = item.tests.astype(np.float64)
        total = references.sum(0)
        own = 1 - _cosines(references, total - references)
        spread = max(float(own.std(ddof=1)), MIN_SPREAD)
        similarities = _cosines(tests, np.broadcast_to(total, tests.shape))
        return Anomalies((1 - similarities - own.mean()) / spread, similarities, (own - own.mean()) / spread)

    def info(self) -> dict[str, Any]:
        return {
            "method": "z-score of the cosine distance to the reference centroid, leave-one-out spread",
            "range": "unbounded; above anomaly_threshold (default 2.0) is an anomaly",
            "min_reference_assets": MIN_REFERENCES,
        }


def _cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
    cosines: NDArray[np.float64] = np.clip((a * b).sum(1) / lengths, -1, 1)
    return cosines
