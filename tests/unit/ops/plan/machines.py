"""Machines to plan for."""

from collections.abc import Sequence

from ops.plan.machines import OTHER_PROGRAMS_MB, Gpu, Node


def machine(
    cpus: float = 64, gpus: Sequence[float | None] = (), *, memory_gb: float = 512, name: str = "one", head: bool = True
) -> Node:
    """A machine with GPUs of these GB of memory each, None for unknown."""
    shares = tuple(Gpu(memory_mb=None if size is None else size * 1000) for size in gpus)
    return Node(name, {"CPU": cpus}, memory_gb * 1000 - OTHER_PROGRAMS_MB, shares, head=head)
