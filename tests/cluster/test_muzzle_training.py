"""Training of the muzzle heads on a real Ray: folds, checkpoints, and resuming after the driver ended."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from ops.training.heads import HeadConfig
from ops.training.loop import FINAL, fold_file, run_of
from ops.training.muzzle import fit
from vision.muzzle.ensemble import MEMBER_IDS

ANIMALS = [f"herd/cow_{number}" for number in range(3) for _ in range(4)]

pytestmark = pytest.mark.filterwarnings("ignore")  # those of Ray Train's own


def test_folds_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    rng = np.random.default_rng(0)
    named: dict[str, Any] = {f"member-{number}": rng.normal(size=(12, 2, 384)) for number in MEMBER_IDS}
    features = tmp_path / "features.npz"
    plain = rng.normal(size=(12, 384)).astype(np.float32)
    np.savez(features, plain=plain, **{name: rows.astype(np.float32) for name, rows in named.items()})
    ones = np.ones(384, np.float32)
    config = {
        "folder": str(tmp_path),
        "features": str(features),
        "animals": ANIMALS,
        "folds": ["herd/cow_0", FINAL],
        "muzzles": "herd",
        "domain": {"centre": 0 * ones, "scale": ones, "mean": ones, "limit": 0.5},
        "share": 0.5,
        "heads": asdict(HeadConfig(epochs=2, batches=2)),
    }
    try:
        fit(config, tmp_path, workers=1)
        state = torch.load(fold_file(tmp_path, run_of(config), FINAL), weights_only=True)
        assert state["epoch"] == 2
        assert np.shape(state["losses"]) == (2, 3)
        before = fold_file(tmp_path, run_of(config), "herd/cow_0").stat().st_mtime_ns
        fold_file(tmp_path, run_of(config), FINAL).unlink()
        fit(config, tmp_path, workers=1)  # from its last checkpoint, which was of the last epoch
        assert torch.load(fold_file(tmp_path, run_of(config), FINAL), weights_only=True)["losses"] == state["losses"]
        assert fold_file(tmp_path, run_of(config), "herd/cow_0").stat().st_mtime_ns == before
    finally:
        ray.shutdown()
