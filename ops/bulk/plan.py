"""Plan how much of a cluster a bulk run takes, and how its workers share that."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

SHARE: Final = 0.5
"""Default part of the CPUs; the rest is for live traffic."""
PARTS: Final = {"frames": 0.4, "cuts": 0.35, "decoding": 0.12, "objects": 0.0}
"""Parts of a run's CPUs for its largest steps, without a GPU for cuts; see ops/bench/reports/bulk.md."""
PARTS_WITH_OBJECTS: Final = {"frames": 0.21, "cuts": 0.2, "decoding": 0.06, "objects": 0.4}
"""The same where objects are looked for, without a GPU; see ops/bench/reports/objects.md."""


class PlanError(Exception):
    """The workers do not fit into the cluster; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """Command line options; 0 workers: by the size of the cluster."""

    share: float = SHARE
    decoders: int = 0
    frame_workers: int = 0
    cut_workers: int = 0
    gpus_per_actor: float = 0.125
    object_workers: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of workers, CPUs of each worker as Ray counts them, and GPUs of each worker that uses one.

    ``object_workers``: 0 where no objects are looked for.
    """

    decoders: int
    frame_workers: int
    cut_workers: int
    finalizers: int
    cpus: float
    gpus: float
    object_workers: int = 0

    @property
    def workers(self) -> int:
        """The number of all workers."""
        return self.decoders + self.frame_workers + self.cut_workers + self.finalizers + self.object_workers

    def without_objects(self) -> "Plan":
        """Return the plan whose workers for objects do faces and camera movement."""
        return replace(self, frame_workers=self.frame_workers + self.object_workers, object_workers=0)


def make_plan(resources: Mapping[str, float], options: Options, largest: float = 0.0, *, objects: bool = False) -> Plan:
    """Plan for a cluster with these resources (``ray.cluster_resources``). Raises PlanError.

    ``objects``: whether they are looked for.

    ``largest``: CPUs of the largest of its nodes, where there are several. The workers fit into what is left when that
    one is lost, if it has half of all CPUs or less: else those that Ray starts anew would wait for another node.
    """
    if not 0 < options.share <= 1:
        raise PlanError(f"--share must be a part of the cluster, above 0 and at most 1; {options.share:g} is not.")
    cpus = options.share * resources.get("CPU", 0.0)
    gpus = options.gpus_per_actor if resources.get("GPU", 0.0) > 0 else 0.0
    parts = PARTS_WITH_OBJECTS if objects and not gpus else PARTS
    on_cpu = parts["cuts"] * cpus
    frame_workers = options.frame_workers or max(1, int(parts["frames"] * cpus + (on_cpu if gpus else 0)))
    decoders = options.decoders or max(1, int(parts["decoding"] * cpus))
    cut_workers = options.cut_workers or max(1, round(frame_workers / 8) if gpus else int(on_cpu))
    object_workers = 0
    if objects:
        on_gpu = round(frame_workers / 8) if gpus else int(parts["objects"] * cpus)
        object_workers = options.object_workers or max(1, on_gpu)
    finalizers = max(1, round(cpus / 16))
    # GPUs hold as many workers as fit into their share; the others wait for them.
    if gpus:
        slots, kinds = int(options.share * resources["GPU"] / gpus), 3 if objects else 2
        if slots < kinds:
            raise PlanError(
                f"{options.share:g} of {resources['GPU']:g} GPUs are too few for {'three' if objects else 'two'} "
                f"workers of {gpus:g}; raise --share or lower --gpus-per-actor."
            )
        cut_workers, finalizers = min(cut_workers, slots // kinds), min(finalizers, slots // kinds)
        object_workers = min(object_workers, slots // kinds)
    workers = decoders + frame_workers + cut_workers + finalizers + object_workers
    # A worker is busy on one core most of the time; more workers than cores share them.
    left = max(0.5 * cpus, cpus - options.share * largest)
    cpus_each = round(min(1.0, left / workers), 3)
    return Plan(decoders, frame_workers, cut_workers, finalizers, cpus_each, gpus, object_workers)


def served_stages(path: Path) -> frozenset[str]:
    """Return the stages that a Serve configuration has."""
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    arguments = [app.get("args") or {} for app in config["applications"]]
    return frozenset(key for each in arguments for part in ("stages", "here") for key in each.get(part) or ())


def stage_configs(path: Path) -> dict[str, dict[str, Any]]:
    """Return the ``user_config`` of every stage for which a Serve configuration has one."""
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    deployments = [each for app in config["applications"] for each in app.get("deployments", [])]
    return {key: values for each in deployments for key, values in (each.get("user_config") or {}).items()}
