"""Train the projection heads: three affine maps of standardised features, side by side, by a triplet loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ops.training.features import ViewFeatures
from vision.muzzle.ensemble import MEMBER_IDS, Domain, Ensemble, Member, affine, projections

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float32]
Mining = Literal["batch-hard", "semi-hard"]
Average = Callable[["torch.nn.Module"], None]
"""Replaces the gradients of a module by their mean over all workers."""

LEFT_OUT: Final = 0.15
"""Share of the photos that each member does not see; each member leaves out others."""


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """Hyperparameters; ``margin`` is a distance of unit codes, 0-2."""

    epochs: int = 30
    batches: int = 20
    animals: int = 4
    views: int = 6
    margin: float = 0.3
    learning_rate: float = 1e-3
    decay: float = 0.2
    """How strongly the weights are pulled back to the projections that they start from."""
    mining: Mining = "batch-hard"
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRows:
    """Training data of one member: ``features`` float32[n, d] standardised, ``labels`` and ``groups`` int64[n]."""

    features: Array
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


class Heads:
    """Weights, optimiser and progress of one training, which can be saved and resumed."""

    def __init__(self, domain: Domain, share: float, config: HeadConfig) -> None:
        import torch

        self.config = config
        self._domain = domain
        self._offset = share * domain.mean
        self._start = [torch.from_numpy(weight) for weight in projections(len(domain.mean))]
        self._layers = [torch.nn.Linear(len(domain.mean), weight.shape[1], bias=False) for weight in self._start]
        self.module = torch.nn.ModuleList(self._layers)
        with torch.no_grad():
            for layer, weight in zip(self._layers, self._start, strict=True):
                layer.weight.copy_(weight.T)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=config.learning_rate)
        self.epoch = 0
        self.losses: list[list[float]] = []
        """Mean loss of each member, by epoch."""

    def run_epoch(self, rows: Sequence[TrainingRows], rank: int = 0, average: Average | None = None) -> list[float]:
        """Train all members for one epoch and return the mean loss of each.

        Every worker has a ``rank``, draws its own batches, and steps by the ``average`` of all gradients.
        """
        import torch

        # By epoch, so that a resumed training draws what it would have drawn.
        rngs = [np.random.default_rng((self.config.seed, number, self.epoch, rank)) for number in MEMBER_IDS]
        sums = [0.0] * len(MEMBER_IDS)
        for _ in range(self.config.batches):
            self.optimizer.zero_grad()
            for place, (part, rng) in enumerate(zip(rows, rngs, strict=True)):
                chosen = animals_and_views(part.labels, part.groups, self.config.animals, self.config.views, rng)
                inputs = torch.from_numpy(part.features[chosen] - self._offset)
                codes = torch.nn.functional.normalize(self._layers[place](inputs), dim=1)
                labels = torch.from_numpy(part.labels[chosen])
                loss = triplet_loss(codes, labels, self.config.margin, self.config.mining)
                pull = (self._layers[place].weight - self._start[place].T).square().sum()
                (loss + self.config.decay * pull).backward()  # type: ignore[no-untyped-call]
                sums[place] += float(loss.detach()) / self.config.batches
            if average is not None:
                average(self.module)
            self.optimizer.step()
        self.epoch += 1
        self.losses.append(sums)
        return sums

    def state(self) -> dict[str, Any]:
        """Return everything that ``load_state`` needs to resume from here."""
        return {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "losses": self.losses,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from what ``state`` returned."""
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.losses = int(state["epoch"]), list(state["losses"])

    def ensemble(self) -> Ensemble:
        """Return the trained members as the service uses them."""
        weights = [np.asarray(layer.weight.detach().numpy().T, np.float32) for layer in self._layers]
        maps = [affine(self._domain, weight, self._offset) for weight in weights]
        members = tuple(Member(number, *parts) for number, parts in zip(MEMBER_IDS, maps, strict=True))
        return Ensemble(members, self._domain, "trained")


def training_rows(
    features: ViewFeatures, animals: Sequence[str], domain: Domain, held_out: Sequence[str], seed: int
) -> list[TrainingRows]:
    """Return the training data of each member: plain and augmented views of the animals that are not held out.

    Every member has its own views, and leaves out its own 15 % of the photos.
    """
    names = sorted(set(animals))
    labels = np.array([names.index(animal) for animal in animals])
    datasets = sorted({animal.partition("/")[0] for animal in animals})
    groups = np.array([datasets.index(animal.partition("/")[0]) for animal in animals])
    allowed = np.array([animal not in held_out for animal in animals])
    rows = []
    for number in MEMBER_IDS:
        chance = np.random.default_rng((seed, number)).random(len(animals))
        seen = np.flatnonzero(allowed & (chance >= LEFT_OUT))
        views = np.concatenate([features.plain[seen, None], features.augmented[number][seen]], axis=1)
        each = views.shape[1]
        rows.append(
            TrainingRows(
                features=domain.standard(views.reshape(-1, views.shape[2])),
                labels=np.repeat(labels[seen], each),
                groups=np.repeat(groups[seen], each),
            )
        )
    return rows


def without_animals(domain: Domain, plain: Array, animals: Sequence[str], held_out: Sequence[str]) -> Domain:
    """Return the domain with the mean of the animals that are not held out."""
    kept = np.array([animal not in held_out for animal in animals])
    return replace(domain, mean=domain.standard(plain[kept]).mean(0))


def triplet_loss(codes: "torch.Tensor", labels: "torch.Tensor", margin: float, mining: Mining) -> "torch.Tensor":
    """Return the mean of ``max(0, margin + d(a, p) − d(a, n))`` of unit ``codes`` float32[n, d], ``labels`` int64[n].

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
    """Draw a batch, row numbers int64[p · k]: ``animals`` animals of one group, ``views`` rows each.

    A group is a data set: animals of two differ by their cameras, which teaches nothing about muzzles.
    """
    chosen_group = rng.choice(np.unique(groups), p=_weights(labels, groups))
    candidates = np.unique(labels[groups == chosen_group])
    chosen = rng.choice(candidates, min(animals, len(candidates)), replace=False)
    rows = [rng.choice(np.flatnonzero(labels == label), views) for label in chosen]
    return np.concatenate(rows).astype(np.int64)


def _weights(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probability of each group, by its number of animals; 0 for a group of one animal.

    Raises ValueError where no group has two.
    """
    counts = np.array([len(np.unique(labels[groups == group])) for group in np.unique(groups)], np.float64)
    counts[counts < 2] = 0
    if not counts.any():
        raise ValueError("training needs two or more animals in one data set")
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
