"""How much of a cluster a bulk run takes, and how its workers share that."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

SHARE: Final = 0.5
"""Of the CPUs; the rest is for live traffic."""
PARTS: Final = {"looking": 0.4, "cutting": 0.35, "decoding": 0.12}
"""Of the CPUs of a run that the largest steps take, where there is no GPU for cuts; see ops/bench/reports/bulk.md."""


class PlanError(Exception):
    """The workers do not fit; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may set; 0 workers: as many as the cluster has room for."""

    share: float = SHARE
    decoders: int = 0
    lookers: int = 0
    cutters: int = 0
    gpus_per_actor: float = 0.125


@dataclass(frozen=True, slots=True)
class Plan:
    """Workers of each step, the CPUs that Ray counts for one of them, and the GPUs for one that has a use for them."""

    decoders: int
    lookers: int
    cutters: int
    finishers: int
    cpus: float
    gpus: float

    @property
    def workers(self) -> int:
        """All of them."""
        return self.decoders + self.lookers + self.cutters + self.finishers


def planned(resources: Mapping[str, float], options: Options) -> Plan:
    """A plan for a cluster with these resources (``ray.cluster_resources``). Raises PlanError."""
    if not 0 < options.share <= 1:
        raise PlanError(f"--share is a part of the cluster, above 0 and at most 1, not {options.share:g}.")
    cpus = options.share * resources.get("CPU", 0.0)
    gpus = options.gpus_per_actor if resources.get("GPU", 0.0) > 0 else 0.0
    on_cpu = PARTS["cutting"] * cpus
    lookers = options.lookers or max(1, int(PARTS["looking"] * cpus + (on_cpu if gpus else 0)))
    decoders = options.decoders or max(1, int(PARTS["decoding"] * cpus))
    cutters = options.cutters or max(1, round(lookers / 8) if gpus else int(on_cpu))
    finishers = max(1, round(cpus / 16))
    # GPUs hold as many workers as fit into their share; the others wait for them.
    if gpus:
        room = int(options.share * resources["GPU"] / gpus)
        if room < 2:
            raise PlanError(
                f"{options.share:g} of {resources['GPU']:g} GPUs hold no two workers of {gpus:g}; raise --share or "
                "lower --gpus-per-actor."
            )
        cutters, finishers = min(cutters, room // 2), min(finishers, room // 2)
    workers = decoders + lookers + cutters + finishers
    # A worker uses a core at most times; where there are more workers than cores, they share them.
    return Plan(decoders, lookers, cutters, finishers, round(min(1.0, cpus / workers), 3), gpus)


def stage_configs(path: Path) -> dict[str, dict[str, Any]]:
    """The ``user_config`` of every stage that a Serve configuration sets one for."""
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    deployments = [each for app in config["applications"] for each in app.get("deployments", [])]
    return {key: values for each in deployments for key, values in (each.get("user_config") or {}).items()}
