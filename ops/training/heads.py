"""The projection heads: three affine maps from standardised features, trained side by side with a triplet loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ops.training.triplets import Mining, animals_and_views, triplet_loss
from ops.training.views import ViewFeatures
from vision.muzzle.encoding import MEMBER_IDS
from vision.muzzle.members import Domain, Ensemble, Member, affine, projections

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float32]
Average = Callable[["torch.nn.Module"], None]
"""Makes the gradients of a module those of all workers on average."""

LEFT_OUT: Final = 0.15
"""Share of the photos that each member does not see, another choice for each."""


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """How heads are trained; ``margin`` is a distance of unit codes, 0-2."""

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
    """Rows of one member: ``features`` float32[n, d] standardised, ``labels`` and ``groups`` int64[n]."""

    features: Array
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


class Heads:
    """Weights, optimiser and progress of one training, which can be put down and taken up again."""

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
        """Of each epoch, one of each member."""

    def run_epoch(self, rows: Sequence[TrainingRows], rank: int = 0, average: Average | None = None) -> list[float]:
        """Train all members over one epoch; returns the mean loss of each.

        Of several workers each has a ``rank``, draws batches of its own, and steps by the ``average`` of all gradients.
        """
        import torch

        # By epoch, so that a training taken up again draws what it would have drawn.
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
        """Everything that ``load_state`` needs to go on from here."""
        return {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "losses": self.losses,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.losses = int(state["epoch"]), list(state["losses"])

    def ensemble(self) -> Ensemble:
        """The members as the service takes them."""
        weights = [np.asarray(layer.weight.detach().numpy().T, np.float32) for layer in self._layers]
        maps = [affine(self._domain, weight, self._offset) for weight in weights]
        members = tuple(Member(number, *parts) for number, parts in zip(MEMBER_IDS, maps, strict=True))
        return Ensemble(members, self._domain, "trained")


def training_rows(
    found: ViewFeatures, animals: Sequence[str], domain: Domain, held_out: Sequence[str], seed: int
) -> list[TrainingRows]:
    """What each member is trained on: plain and augmented views of the animals that are not held out.

    Every member has its own views, and is not shown another 15 % of the photos.
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
        views = np.concatenate([found.plain[seen, None], found.augmented[number][seen]], axis=1)
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
    """The domain whose mean is that of the animals that are not held out."""
    kept = np.array([animal not in held_out for animal in animals])
    return replace(domain, mean=domain.standard(plain[kept]).mean(0))
