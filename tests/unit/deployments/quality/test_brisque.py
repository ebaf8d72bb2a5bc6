"""quality/brisque: the stage around ``vision.quality.brisque``."""

import numpy as np
import pytest

from deployments.quality.brisque import BrisqueScorer, Config, Distortion
from vision.errors import ModelNotLoaded
from vision.quality.brisque import RANGES, Svr


def test_the_score_is_clipped_and_raw_is_not() -> None:
    stage = BrisqueScorer(Config())
    low, high = RANGES
    stage._svr = Svr(np.zeros((1, 36)), np.array([200.0]), gamma=0.05, rho=60.0)
    middle = (low + high) / 2
    best, worst = stage.predict_batch([high + 10 * (high - low), middle])
    assert best == Distortion(0.0, pytest.approx(-60))
    assert worst == Distortion(100.0, pytest.approx(140))


def test_without_its_model_it_does_not_load() -> None:
    with pytest.raises(ModelNotLoaded, match="nothing: not registered"):
        BrisqueScorer(Config(model="nothing")).load()
