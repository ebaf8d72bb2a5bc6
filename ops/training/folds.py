"""Leave-one-animal-out: one training a fold, each judged on the animal that it never saw."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphs.muzzle.limits import CONTRACT
from ops.calibration.error_rates import Verification
from ops.training.verification import (
    Kinds,
    dataset_of,
    equal_error_threshold,
    measured,
    mutual_scores,
    pair_scores,
    pooled,
    summary,
    template_scores,
)
from vision.muzzle.checkpoint import CalibratedThresholds
from vision.muzzle.members import Ensemble

Array = NDArray[np.float32]
LOWEST_SHARE = 0.02
"""Of triples of one animal that may be refused as unlike each other; the contract's threshold is the strictest."""


class HeldOut:
    """Scores of held-out animals of one data set; ``ensembles`` are by the animal that each did not see."""

    def __init__(self, ensembles: Mapping[str, Ensemble], plain: Array, animals: Sequence[str], dataset: str) -> None:
        pairs: list[Kinds] = []
        templates: list[Kinds] = []
        self.mutual: list[float] = []
        for animal, ensemble in ensembles.items():
            if dataset_of(animal) == dataset:
                codes = ensemble.encode(plain).reshape(len(plain), -1)
                pairs.append(pair_scores(codes, animals, [animal]))
                templates.append(template_scores(codes, animals, [animal]))
                own = [row for row, name in enumerate(animals) if name == animal]
                self.mutual += mutual_scores(codes[own], [animal] * len(own))
        self.pairs: Verification = measured(pooled(pairs))
        self.templates: Verification = measured(pooled(templates))

    def metrics(self) -> dict[str, Any]:
        """Of pairs of photos, and of a probe against three references."""
        return {"pairs": summary(self.pairs), "templates": summary(self.templates)}

    def thresholds(self, domain_limit: float) -> CalibratedThresholds:
        """Where the two kinds of error of probes against templates are equal."""
        cosine = equal_error_threshold(self.templates)
        return CalibratedThresholds(
            cosine=round(cosine, 4),
            distance=round(float(np.sqrt(max(0.0, 2 - 2 * cosine))), 4),
            mutual=round(min(CONTRACT.mutual, max(0.0, float(np.quantile(self.mutual, LOWEST_SHARE)))), 4),
            domain=domain_limit,
        )
