"""Triplet losses over batches of P animals with K views each."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Mining = Literal["batch-hard", "semi-hard"]


def triplet_loss(codes: "torch.Tensor", labels: "torch.Tensor", margin: float, mining: Mining) -> "torch.Tensor":
    """``codes`` float32[n, d] of length 1, ``labels`` int64[n] → the mean of ``max(0, margin + d(a, p) − d(a, n))``.

    ``batch-hard`` (Hermans, Beyer and Leibe 2017, https://arxiv.org/abs/1703.07737): for every anchor its farthest
    positive and nearest negative. ``semi-hard`` (Schroff et al. 2015, https://arxiv.org/abs/1503.03832): for every
    anchor and positive the nearest negative that is farther than the positive, the farthest one where none is.
    """
    import torch

    distances = (2 - 2 * (codes @ codes.T)).clamp_min(1e-12).sqrt()
    same = labels[:, None] == labels[None]
    itself = torch.eye(len(labels), dtype=torch.bool, device=codes.device)
    positive, negative = same & ~itself, ~same
    if mining == "batch-hard":
        farthest = distances.masked_fill(~positive, -1).amax(1)
        nearest = distances.masked_fill(~negative, torch.inf).amin(1)
        usable = positive.any(1) & negative.any(1)
        return torch.relu(margin + farthest - nearest)[usable].mean()
    anchors, positives = positive.nonzero(as_tuple=True)
    reach = distances[anchors, positives]
    beyond = distances[anchors].masked_fill(~negative[anchors], torch.inf)
    semi_hard = beyond.masked_fill(beyond <= reach[:, None], torch.inf).amin(1)
    farthest_negative = distances[anchors].masked_fill(~negative[anchors], -1).amax(1)
    chosen = torch.where(semi_hard.isinf(), farthest_negative, semi_hard)
    return torch.relu(margin + reach - chosen)[chosen >= 0].mean()


def animals_and_views(
    labels: NDArray[np.int64], groups: NDArray[np.int64], animals: int, views: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Row numbers int64[p · k] of a batch: ``animals`` animals of one group, ``views`` rows each.

    A group is a data set: animals of two are told apart by their cameras, which teaches nothing.
    """
    chosen_group = rng.choice(np.unique(groups), p=_weights(labels, groups))
    candidates = np.unique(labels[groups == chosen_group])
    chosen = rng.choice(candidates, min(animals, len(candidates)), replace=False)
    rows = [rng.choice(np.flatnonzero(labels == label), views) for label in chosen]
    return np.concatenate(rows).astype(np.int64)


def _weights(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Chances of the groups, by their number of animals; none for a group of one animal."""
    counts = np.array([len(np.unique(labels[groups == group])) for group in np.unique(groups)], np.float64)
    counts[counts < 2] = 0
    if not counts.any():
        raise ValueError("training needs two or more animals in one data set")
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
