"""The support vector regression of BRISQUE: 36 features to a score.

An epsilon-SVR with an RBF kernel, read from a model file of LIBSVM (Chang and Lin 2011): the score of x is
Σ coefficientᵢ · exp(−γ‖x − vectorᵢ‖²) − ρ.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FEATURES = 36

# Smallest and largest value of each feature over the training set: the file "allrange" of the BRISQUE release.
# Features are scaled to -1..1 of these, and may lie outside.
RANGES = np.array(
    [
        *[(0.338, 10), (0.017204, 0.806612)],
        *[(0.236, 1.642), (-0.123884, 0.20293), (0.000155, 0.712298), (0.001122, 0.470257)],
        *[(0.244, 1.641), (-0.123586, 0.179083), (0.000152, 0.710456), (0.000975, 0.470984)],
        *[(0.249, 1.555), (-0.135687, 0.100858), (0.000174, 0.684173), (0.000913, 0.534174)],
        *[(0.258, 1.561), (-0.143408, 0.100486), (0.000179, 0.685696), (0.000888, 0.536508)],
        *[(0.471, 3.264), (0.012809, 0.703171)],
        *[(0.218, 1.046), (-0.094876, 0.187459), (1.5e-05, 0.442057), (0.001272, 0.40803)],
        *[(0.222, 1.042), (-0.115772, 0.162604), (1.6e-05, 0.444362), (0.001374, 0.40243)],
        *[(0.227, 0.996), (-0.117188, 0.098323), (3e-05, 0.531903), (0.001122, 0.369589)],
        *[(0.228, 0.99), (-0.12243, 0.098658), (2.8e-05, 0.530092), (0.001118, 0.370399)],
    ]
).T


@dataclass(frozen=True, eq=False)
class Svr:
    """``vectors``: float64[n, 36]; ``coefficients``: float64[n]."""

    vectors: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    gamma: float
    rho: float

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[m, 36] as ``brisque_features.features`` gives them → float64[m]."""
        low, high = RANGES
        scaled = 2 * (features - low) / (high - low) - 1
        distances = ((scaled[:, None] - self.vectors) ** 2).sum(2)
        scores: NDArray[np.float64] = (np.exp(-self.gamma * distances) * self.coefficients).sum(1) - self.rho
        return scores


def load_svr(path: Path) -> Svr:
    """Read a model file of LIBSVM. Raises ValueError for another kind of model."""
    header, _, body = path.read_text(encoding="ascii").partition("\nSV\n")
    values = dict(line.split(maxsplit=1) for line in header.splitlines())
    if (values.get("svm_type"), values.get("kernel_type")) != ("epsilon_svr", "rbf"):
        raise ValueError(f"{path.name} is no epsilon-SVR with an RBF kernel")
    rows = [line.split() for line in body.splitlines()]
    vectors = np.zeros((len(rows), FEATURES))
    for vector, (_, *entries) in zip(vectors, rows, strict=True):
        for entry in entries:
            index, value = entry.split(":")
            vector[int(index) - 1] = float(value)
    return Svr(vectors, np.array([float(row[0]) for row in rows]), float(values["gamma"]), float(values["rho"]))
