"""What there is to run on: this machine, or the nodes of a Ray cluster, with the CPUs and GPUs that Ray counts.

Memory is compared as a whole, not as it is free at the moment: caches and other programs come and go.
"""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psutil

OTHER_PROGRAMS_MB: Final = 500.0
"""What the system and other programs have of a machine's memory."""
NO_PLACE: Final = ("node:", "memory", "object_store_memory", "CPU", "GPU")
"""Resources of a Ray node that are no custom ones, or are looked at by themselves."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its free share, and its memory in MB of 10^6 bytes where that is known."""

    free: float = 1.0
    memory_mb: float | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A machine: what of it is free."""

    name: str
    resources: Mapping[str, float]
    """Ray's names, such as CPU, without the GPUs."""
    memory_mb: float
    """Memory for Ray and all that runs on it."""
    gpus: tuple[Gpu, ...] = ()
    head: bool = True
    """Whether Ray's head, and with it the command, runs here."""
    cuda: bool = True
    """Whether its GPUs are there, as far as is known: Ray can be told of some that are not."""
    id: str = ""
    """Ray's id, where it is in a cluster."""


def memory_bytes() -> int:
    """Return the memory that this machine has, or its control group may use."""
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    total = int(psutil.virtual_memory().total)
    return total if text == "max" else min(total, int(text))


def gpu_memories_mb() -> list[float]:
    """Return the memory of each NVIDIA GPU of this machine, found as Ray finds them."""
    from ray._private.thirdparty import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [pynvml.nvmlDeviceGetMemoryInfo(handle).total / 1e6 for handle in handles]
    finally:
        pynvml.nvmlShutdown()


def this_machine() -> Node:
    """Return this machine, with what a Ray that is started on it would count."""
    from ray._private.utils import get_num_cpus

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    memories = gpu_memories_mb()
    if visible is not None:
        memories = memories[: len([each for each in visible.split(",") if each])]
    return Node(
        "this machine",
        {"CPU": float(get_num_cpus())},
        memory_bytes() / 1e6 - OTHER_PROGRAMS_MB,
        tuple(Gpu(memory_mb=each) for each in memories),
    )


def cluster_nodes() -> list[Node]:
    """Return the nodes of the Ray cluster that this process has joined, with what is free there.

    The memory of a machine elsewhere is what Ray found free when it started there, that of its GPUs is not known.
    """
    import ray
    from ray._private.state import available_resources_per_node

    free = available_resources_per_node()
    here = ray.util.get_node_ip_address()
    return [
        _node(entry, free.get(entry["NodeID"], {}), here=entry["NodeManagerAddress"] == here)
        for entry in ray.nodes()
        if entry["Alive"]
    ]


def without_applications(nodes: Sequence[Node], applications: Mapping[str, Mapping[str, Any]]) -> list[Node]:
    """Return the nodes as they would be without the replicas of Serve applications, as Serve's dashboard lists them."""
    held: dict[str, Counter[str]] = {node.id: Counter() for node in nodes}
    for app in applications.values():
        for deployment in app.get("deployments", {}).values():
            for replica in deployment.get("replicas", []):
                if replica.get("node_id") in held:
                    held[replica["node_id"]].update(deployment.get("required_resources") or {})
    return [_with(node, held[node.id]) for node in nodes]


def _with(node: Node, more: Mapping[str, float]) -> Node:
    free = sum(gpu.free for gpu in node.gpus) + more.get("GPU", 0)
    known = [gpu.memory_mb for gpu in node.gpus if gpu.memory_mb is not None]
    names = {*node.resources, *(name for name in more if name == "CPU" or not name.startswith(NO_PLACE))}
    resources = {name: node.resources.get(name, 0) + more.get(name, 0) for name in names}
    return replace(node, resources=resources, gpus=shares(len(node.gpus), free, known))


def _node(entry: Mapping[str, Any], free: Mapping[str, float], *, here: bool) -> Node:
    there: Mapping[str, float] = entry["Resources"]
    memory_mb = (there.get("memory", 0) + there.get("object_store_memory", 0)) / 1e6
    memories = gpu_memories_mb() if here and there.get("GPU") else []
    return Node(
        name=entry["NodeManagerHostname"] or entry["NodeManagerAddress"],
        resources={name: amount for name, amount in free.items() if not name.startswith(NO_PLACE) or name == "CPU"},
        memory_mb=memory_bytes() / 1e6 - OTHER_PROGRAMS_MB if here else memory_mb,
        gpus=shares(there.get("GPU", 0), free.get("GPU", 0), memories),
        cuda=not here or bool(memories),
        head="node:__internal_head__" in there,
        id=entry["NodeID"],
    )


def shares(there: float, free: float, memories_mb: list[float]) -> tuple[Gpu, ...]:
    """Return the GPUs of a node of which only the sum of the free shares is known: as many whole ones as there can be.

    ``memories_mb`` counts only where it is of all of them.
    """
    count = math.ceil(there)
    known: list[float | None] = [*memories_mb] if len(memories_mb) == count else [None] * count
    left, found = free, []
    for memory_mb in known:
        share = min(1.0, left)
        left = round(left - share, 4)
        found.append(Gpu(share, memory_mb))
    return tuple(found)
