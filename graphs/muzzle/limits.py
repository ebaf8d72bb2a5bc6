"""The thresholds of a verdict: of the environment, of what the models were calibrated to, or of the contract."""

from dataclasses import dataclass
from typing import Final

from configs.settings import Settings
from vision.muzzle.encoding import Thresholds

CONTRACT: Final = Thresholds(cosine=0.62, distance=0.85, mutual=0.40)


@dataclass(frozen=True, slots=True)
class Limits:
    """Least and greatest values that pass; ``margin`` is how much nearer the best animal must be than the next."""

    cosine: float
    distance: float
    mutual: float
    variance: float
    consistency: float
    margin: float


def limits_of(settings: Settings, calibrated: Thresholds | None) -> Limits:
    """A threshold set in the environment counts before that of trained models, and this before the contract's."""
    otherwise = calibrated or CONTRACT
    return Limits(
        cosine=_first(settings.predict_cosine_threshold, otherwise.cosine),
        distance=_first(settings.predict_euclidean_max, otherwise.distance),
        mutual=_first(settings.predict_mutual_min, otherwise.mutual),
        variance=settings.domain_variance_min,
        consistency=settings.domain_consistency_max,
        margin=settings.identify_margin_min,
    )


def _first(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given
