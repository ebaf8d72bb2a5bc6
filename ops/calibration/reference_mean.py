"""Compute the reference mean of an embedding model: ``python -m ops.calibration.reference_mean MODEL IMAGE…``.

Where the mean cosine of unrelated pictures is not near 0, the model's mean over a varied set of pictures is subtracted
before similarities are computed. Means are stored by model in ``configs/reference_means.npz``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deployments.embed.dinov3 import Config, Dinov3Embedder
from vision.embed.backbones import MEANS


def features_of(model: str, images: Sequence[Path]) -> NDArray[np.float32]:
    """Return raw features in torch fp32, float32[n, 384]."""
    stage = Dinov3Embedder(Config(models=[model], engine="torch-fp32", max_batch_size=8))
    stage.load()
    prepared = [stage.prepare(path.read_bytes()) for path in images]
    rows: list[NDArray[np.float32]] = []
    for start in range(0, len(prepared), 8):
        for result in stage.predict_batch(prepared[start : start + 8]):
            if isinstance(result, Exception):
                raise result
            rows.append(result.raw)
    return np.stack(rows)


def mean_cosine(features: NDArray[np.float32]) -> float:
    """Return the mean cosine of all pairs of different rows."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    n = len(unit)
    return float(((unit @ unit.T).sum() - n) / (n * (n - 1)))


def main() -> None:
    """Compute, print and store one mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("images", nargs="+", type=Path)
    arguments = parser.parse_args()
    features = features_of(arguments.model, arguments.images)
    mean = features.mean(0)
    means: dict[str, NDArray[np.float32]] = dict(np.load(MEANS)) if MEANS.exists() else {}
    means[arguments.model] = mean.astype(np.float32)
    np.savez(MEANS, allow_pickle=False, **means)
    print(
        f"{len(features)} images: mean cosine {mean_cosine(features):.3f} raw, "
        f"{mean_cosine(features - mean):.3f} centred"
    )


if __name__ == "__main__":
    main()
