"""quality/brisque: the stage around ``vision.quality.brisque``."""

from pathlib import Path

import numpy as np
import pytest

from deployments.quality.brisque import BrisqueScorer, Config, Distortion
from vision.errors import ModelNotLoaded
from vision.quality.brisque import MATLAB, OPENCV, Svr
from vision.weights import Weights


def weights(name: str, path: Path) -> Weights:
    return Weights(name, path.parent, {path.name: path}, "folder brisque", "MIT", "epsilon-SVR", f"{name}@01234567")


def test_the_score_is_clipped_and_raw_is_not() -> None:
    stage = BrisqueScorer(Config())
    stage._weights = weights("brisque-live", Path("allmodel"))
    low, high = MATLAB.ranges
    stage._svr = Svr(np.zeros((1, 36)), np.array([200.0]), gamma=0.05, rho=60.0)
    middle = (low + high) / 2
    best, worst = stage.predict_batch([(high + 10 * (high - low), ()), (middle, ("plain_ground",))])
    assert best == Distortion(0.0, pytest.approx(-60), "brisque-live@01234567")
    assert worst == Distortion(100.0, pytest.approx(140), "brisque-live@01234567", ("plain_ground",))


def test_without_its_model_it_does_not_load() -> None:
    with pytest.raises(ModelNotLoaded, match="nothing: not registered"):
        BrisqueScorer(Config(models=["nothing"])).load()


@pytest.mark.parametrize(("name", "recipe"), [("brisque-live", MATLAB), ("brisque-live-opencv", OPENCV)])
def test_each_regression_gets_the_features_of_its_training(
    name: str, recipe: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model"
    file.write_text("svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nrho 0\nSV\n1 1:0\n")
    asked: list[list[str]] = []
    monkeypatch.setattr(
        "deployments.quality.brisque.resolve_first", lambda names: [asked.append(names), weights(name, file)][1]
    )
    stage = BrisqueScorer(Config())
    stage.load()
    stage.warm_up()
    assert asked == [["brisque-live", "brisque-live-opencv"]]
    assert stage._svr.recipe is recipe
    assert stage.info()["model"] == name
    assert "brisque-live-opencv" not in stage.info()["accuracy"]
