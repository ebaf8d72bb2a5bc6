"""Place the replicas of a configuration on nodes and single GPUs, and say which does not fit and what to change.

A replica is on one node, and its share of a GPU on one GPU: sums over a cluster say nothing. Replicas are placed from
the largest on, each where the least is left over, which finds a place wherever Ray could.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil

from ops.plan.machines import Node
from ops.plan.needs import Need, memory

UNITS = 10_000
"""Ray counts resources in ten thousandths."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """Replicas of a deployment without a place: how many of how many, what they lack, and what to change."""

    need: Need
    missing: int
    lack: str
    change: str

    def __str__(self) -> str:
        """Return a line for people."""
        return f"{self.need.name} does not fit: {self.lack}. {self.change}."


@dataclass
class Bin:
    """What is left of a node."""

    node: Node
    left: dict[str, int]
    gpus: list[int]
    memory_mb: float
    placed: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, node: Node) -> "Bin":
        """Return a node with nothing on it but Ray."""
        left = {name: round(amount * UNITS) for name, amount in node.resources.items()}
        shares = [round(gpu.free * UNITS) for gpu in node.gpus]
        each = cls(node, left, shares, node.memory_mb)
        each.memory_mb -= each.of_ray_mb
        return each

    @property
    def of_ray_mb(self) -> float:
        """Return the MB that Ray and Serve take here."""
        return memory().head if self.node.head else memory().node

    def slots(self, need: Need) -> list[int] | None:
        """Return the indexes of the GPUs that a replica would get here, [] for none; None where it gets none."""
        wanted = round(need.gpus * UNITS)
        if not wanted:
            return []
        if wanted < UNITS:
            fitting = [n for n, left in enumerate(self.gpus) if left >= wanted and self._holds(n, need)]
            return [min(fitting, key=lambda n: self.gpus[n])] if fitting else None
        whole = [n for n, left in enumerate(self.gpus) if left == UNITS and self._holds(n, need)]
        count = wanted // UNITS
        return whole[:count] if len(whole) >= count else None

    def memory_of(self, need: Need) -> float:
        """Return the MB that a replica takes of the memory here."""
        return need.memory_mb + (memory().cuda if need.gpus and self.node.cuda else 0)

    def _holds(self, gpu: int, need: Need) -> bool:
        there = self.node.gpus[gpu].memory_mb
        return there is None or need.gpu_memory_mb() <= need.gpus * there

    def lacks(self, need: Need) -> set[str]:
        """Return the names of what a replica finds too little of here."""
        lacking = {
            name
            for name, amount in need.resources.items()
            if name not in ("GPU", "memory") and self.left.get(name, 0) < round(amount * UNITS)
        }
        if self.slots(need) is None:
            lacking.add("GPU")
        if self.memory_mb < self.memory_of(need):
            lacking.add("memory")
        if need.per_node is not None and self.placed[need.name] >= need.per_node:
            lacking.add("max_replicas_per_node")
        return lacking

    def place(self, need: Need) -> None:
        """Take what a replica needs."""
        for name, amount in need.resources.items():
            if name in self.left:
                self.left[name] -= round(amount * UNITS)
        for gpu in self.slots(need) or ():
            self.gpus[gpu] -= min(round(need.gpus * UNITS), UNITS)
        self.memory_mb -= self.memory_of(need)
        self.placed[need.name] += 1

    def rank(self, need: Need) -> tuple[float, ...]:
        """Return what makes this node a worse place than another: GPUs that are not asked for, then what is left."""
        spare_gpus = sum(self.gpus) - (self.gpus[slots[0]] if (slots := self.slots(need)) else 0)
        return (spare_gpus, self.left.get("CPU", 0), self.memory_mb)


@dataclass(frozen=True, slots=True)
class Packing:
    """Where replicas are placed, and which have no place: the one with the largest replicas first."""

    bins: tuple[Bin, ...]
    misfits: tuple[Misfit, ...]

    def nodes_of(self, need: Need) -> dict[str, int]:
        """Return how many replicas of a deployment each node has, by its name."""
        return {each.node.name: each.placed[need.name] for each in self.bins if each.placed[need.name]}


def pack(needs: Sequence[Need], nodes: Iterable[Node], *, most: bool = False) -> Packing:
    """Place the replicas that Serve starts with, or as many as there may be at most."""
    bins = [Bin.of(node) for node in nodes]
    missing: Counter[str] = Counter()
    lacking: dict[str, set[str]] = {}
    for need in sorted(needs, key=_size, reverse=True):
        for _ in range(need.at_most if most else need.at_least):
            lacks = [(each, each.lacks(need)) for each in bins]
            free = [each for each, lack in lacks if not lack]
            if free:
                min(free, key=lambda each: each.rank(need)).place(need)
            else:
                missing[need.name] += 1
                closest = min((lack for _, lack in lacks), key=len, default={"nodes"})
                lacking.setdefault(need.name, closest)
    misfits = [
        Misfit(need, missing[need.name], *_explain(need, lacking[need.name], needs, bins))
        for need in needs
        if missing[need.name]
    ]
    return Packing(tuple(bins), tuple(sorted(misfits, key=lambda each: _size(each.need), reverse=True)))


def _size(need: Need) -> tuple[float, float, float]:
    return (need.gpus, sum(n for name, n in need.resources.items() if name not in ("GPU", "memory")), need.memory_mb)


def _explain(need: Need, lacking: set[str], needs: Sequence[Need], bins: Sequence[Bin]) -> tuple[str, str]:
    """Return what a replica lacks and what to change, of the first resource that it lacks."""
    alone = [Bin.of(each.node) for each in bins]
    if "GPU" in lacking:
        return _explain_gpu(need, needs, alone)
    if "CPU" in lacking:
        wanted, there = need.resources["CPU"], sum(each.node.resources.get("CPU", 0) for each in bins)
        total = sum(each.resources.get("CPU", 0) * each.at_least for each in needs)
        if all("CPU" in each.lacks(need) for each in alone):
            most = max((each.node.resources.get("CPU", 0) for each in bins), default=0)
            return (
                f"a replica needs {wanted:g} CPUs of one machine, and the largest has {most:g} free",
                "Lower num_cpus in its ray_actor_options",
            )
        return (
            f"all together need {total:g} CPUs, and {there:g} are free",
            "Lower num_cpus in ray_actor_options or min_replicas, or add CPUs",
        )
    if "memory" in lacking:
        total = sum(alone[0].memory_of(each) * each.at_least for each in needs)
        there = sum(each.memory_mb for each in alone)
        return (
            f"all together need {total / 1000:.1f} GB of memory beside Ray, and {there / 1000:.1f} GB are there",
            "Pack stages into fewer processes, or add memory",
        )
    if "max_replicas_per_node" in lacking:
        return (
            f"a node may have {need.per_node} replicas of it, and there are {len(bins)} nodes",
            "Raise max_replicas_per_node",
        )
    name = min(lacking)
    if name == "nodes":
        return "there is no node", "Start a node of Ray"
    return f"no node has {need.resources[name]:g} of {name} free", f"Start a node with it, or remove {name}"


def _explain_gpu(need: Need, needs: Sequence[Need], alone: Sequence[Bin]) -> tuple[str, str]:
    gpus = [gpu for each in alone for gpu in each.node.gpus]
    if not gpus:
        return f"a replica needs {need.gpus:g} of a GPU, and there is none", "Use a configuration without num_gpus"
    known = [gpu.memory_mb for gpu in gpus if gpu.memory_mb is not None]
    if len(known) == len(gpus) and all(need.gpu_memory_mb() > need.gpus * each for each in known):
        share, wanted = need.gpus * max(known) / 1000, need.gpu_memory_mb() / 1000
        return (
            f"its {need.gpus:g} of a GPU are {share:.1f} GB, and its models need {wanted:.1f} GB",
            f"Raise num_gpus (and cuda_memory_fraction) to {ceil(100 * need.gpu_memory_mb() / max(known)) / 100:g}, "
            "or lower max_batch_size",
        )
    if all(each.slots(need) is None for each in alone):
        free = max(gpu.free for gpu in gpus)
        what = f"the freest has {free:g} left" if need.gpus < 1 else f"no machine has {need.gpus:g} whole ones free"
        return f"a replica needs {need.gpus:g} of a GPU, and {what}", "Lower num_gpus in its ray_actor_options"
    total, free = sum(each.gpus * each.at_least for each in needs), sum(gpu.free for gpu in gpus)
    return (
        f"shares of GPUs add up to {total:g}, and {free:g} of {len(gpus)} are free; a share is of one GPU",
        "Lower num_gpus (and cuda_memory_fraction) or min_replicas, or add a GPU",
    )
