"""What classifiers of transformers mean by their labels: which outputs are fake, and how likely they are together."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vision.errors import ModelNotLoaded
from vision.weights import Weights
from vision.weights.checkpoint import read_json

Array = NDArray[np.float32]

FAKE: Final = ("fake", "deepfake", "ai", "artificial", "synthetic", "manipulated", "spoof", "spoofed", "generated")
REAL: Final = ("real", "realism", "authentic", "human", "natural", "genuine", "bonafide", "bona")
SURE: Final = 1e-6
"""A probability of a classifier is kept so far from 0 and 1."""


def fake_outputs(weights: Weights) -> list[int]:
    """Which outputs mean fake, by the labels in ``config.json``.

    Raises ModelNotLoaded where there is a label that means neither, or none of one kind.
    """
    config = read_json(weights, "config.json")
    labels = {int(index): str(label).lower() for index, label in config.get("id2label", {}).items()}
    words = {index: label.replace("-", " ").replace("_", " ").split() for index, label in labels.items()}
    fake = [index for index, parts in words.items() if any(part in FAKE for part in parts)]
    real = [index for index, parts in words.items() if any(part in REAL for part in parts) and index not in fake]
    if not fake or not real or len(fake) + len(real) != len(labels):
        told = ", ".join(labels.values()) or "nothing by name"
        raise ModelNotLoaded(f"{weights.name} tells {told} apart, not real from fake.")
    return fake


def fake_log_odds(outputs: Array, fake: list[int]) -> Array:
    """Logits, float32[n, labels] → log-odds of any of the fake ones, float32[n]."""
    logits = outputs.astype(np.float64)
    chances = np.exp(logits - logits.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    together = np.clip(chances[:, fake].sum(1), SURE, 1 - SURE)
    odds: Array = np.log(together / (1 - together)).astype(np.float32)
    return odds
