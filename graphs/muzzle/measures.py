"""Numbers that verdicts rest on, of codes alone: pure functions of numpy arrays.

Each model's code has length 1. The ensemble's is their concatenation; cosine and distance are taken on it, or on the
mean of several, divided by its length, so that ``distance² = 2 − 2 · cosine``. Numbers come rounded to four places, and
verdicts are of the rounded ones: what is shown is what was judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from vision.muzzle.encoding import MuzzleEncoding

Vector = NDArray[np.float32]
PLACES = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """``cosine`` clipped to 0-1, ``distance`` 0-2."""

    cosine: float
    distance: float


@dataclass(frozen=True, slots=True)
class Verification:
    """A probe against the template of its references and against each of them."""

    template: Comparison
    references: tuple[Comparison, ...]

    @property
    def cosines(self) -> tuple[float, ...]:
        """Of the references, in their order."""
        return tuple(reference.cosine for reference in self.references)

    @property
    def mean_cosine(self) -> float:
        """Of the references."""
        return round(sum(self.cosines) / len(self.cosines), PLACES)


def concatenated(encoding: MuzzleEncoding) -> Vector:
    """float32[128 n], the ensemble code; of the length √n."""
    return encoding.codes.reshape(-1)


def unit(vector: Vector) -> Vector:
    """Divided by its length; a vector of zeros stays one."""
    length = float(np.linalg.norm(vector))
    return vector if length == 0 else (vector / length).astype(np.float32)


def template(vectors: Sequence[Vector]) -> Vector:
    """The mean of some vectors, of length 1."""
    return unit(np.mean([unit(vector) for vector in vectors], axis=0))


def compared(first: Vector, second: Vector) -> Comparison:
    """Cosine and distance of two vectors of any length."""
    cosine = float(np.dot(unit(first).astype(np.float64), unit(second).astype(np.float64)))
    cosine = min(1.0, max(-1.0, cosine))
    return Comparison(round(max(0.0, cosine), PLACES), round(float(np.sqrt(2 - 2 * cosine)), PLACES))


def verification(references: Sequence[Vector], probe: Vector) -> Verification:
    """A probe against one or more references."""
    return Verification(
        template=compared(template(references), probe),
        references=tuple(compared(reference, probe) for reference in references),
    )


def mutual_similarity(references: Sequence[Vector]) -> float:
    """Mean cosine of all pairs, clipped to 0-1; 1 for a single reference."""
    cosines = [float(np.dot(unit(a), unit(b))) for a, b in combinations(references, 2)]
    return round(min(1.0, max(0.0, float(np.mean(cosines)))), PLACES) if cosines else 1.0


def embedding_variance(encoding: MuzzleEncoding) -> float:
    """Variance of the numbers of the plain concatenation, rounded to six places.

    At most n / (128 n) = 0.0078, near which it lies; all numbers alike give 0.
    """
    return round(float(np.var(concatenated(encoding), dtype=np.float64)), 6)


def cross_model_consistency(encoding: MuzzleEncoding) -> float:
    """Mean cosine of the codes of all pairs of models, −1 to 1; 0 where only one model is loaded."""
    cosines = [float(np.dot(a, b)) for a, b in combinations(encoding.codes, 2)]
    return round(min(1.0, max(-1.0, float(np.mean(cosines)))), PLACES) if cosines else 0.0
