"""Choose the Serve configuration for the machine or cluster that there is, and refuse one that cannot fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from ops.plan.machines import Node, this_machine
from ops.plan.needs import GATEWAY, Need, needs
from ops.plan.packing import Misfit, pack

ROOT: Final = Path(__file__).parents[2]
CONFIGS: Final = (ROOT / "serve_config.yaml", ROOT / "configs" / "workstation.yaml", ROOT / "configs" / "laptop.yaml")
"""The configurations of this repository, the one that asks for most first."""
TWO_GATEWAYS_FROM_BYTES: Final = 10 * 2**30
"""Memory of a machine from which a second gateway, of 0.8 GB, leaves enough for the rest, which takes 7 GB."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A configuration that fits, and why it was chosen."""

    path: Path
    reason: str


class DoesNotFitError(Exception):
    """No replica of a deployment can be placed; the message names it and says what to change."""


def choose(nodes: Sequence[Node]) -> Choice:
    """Return the first of ``CONFIGS`` that fits. Raises DoesNotFitError when none does."""
    refused: list[tuple[Path, Misfit]] = []
    for path in CONFIGS:
        misfit = first_misfit(read_needs(path, nodes), nodes)
        if misfit is None:
            why = (
                f"{refused[-1][0].name} does not: {refused[-1][1].need.name}, {refused[-1][1].lack}" if refused else ""
            )
            return Choice(path, f"it fits {there(nodes)}" + (f"; {why}" if why else ""))
        refused.append((path, misfit))
    path, misfit = refused[-1]
    raise DoesNotFitError(f"{path.name} is for the smallest machines, but {misfit}")


def require_fit(path: Path, config: dict[str, Any], nodes: Sequence[Node]) -> Choice:
    """Return a configuration that was asked for. Raises DoesNotFitError if its minimum has no place."""
    misfit = first_misfit(needs(config), nodes)
    if misfit is None:
        return Choice(path, f"it was asked for and fits {there(nodes)}")
    fitting = next((other for other in CONFIGS if first_misfit(read_needs(other, nodes), nodes) is None), None)
    instead = f" Or use {shown(fitting)}, which fits {there(nodes)}." if fitting else ""
    raise DoesNotFitError(f"{path.name} cannot start: {misfit}{instead}")


def first_misfit(wanted: Sequence[Need], nodes: Sequence[Node]) -> Misfit | None:
    """Return the first deployment whose minimum has no place, None when all have one."""
    return next(iter(pack(wanted, nodes).misfits), None)


def read_needs(path: Path, nodes: Sequence[Node]) -> list[Need]:
    """Return what a configuration file needs on these nodes."""
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    fit_gateways(config, round(max((node.memory_mb for node in nodes), default=0) * 1e6))
    return needs(config)


def default_config() -> Path:
    """Return the configuration of this repository whose stages suit this machine best, whatever it has beside GPUs."""
    return CONFIGS[0] if this_machine().gpus else CONFIGS[-1]


def fit_gateways(config: dict[str, Any], memory_bytes: int) -> int:
    """Leave the gateway one replica where memory is short; return how many it has, 0 where it scales by itself."""
    for app in config["applications"]:
        if app.get("import_path") == GATEWAY:
            for deployment in app.get("deployments", []):
                if deployment.get("num_replicas") == 2 and memory_bytes < TWO_GATEWAYS_FROM_BYTES:
                    deployment["num_replicas"] = 1
                return int(deployment.get("num_replicas") or 0)
    return 0


def shown(path: Path) -> str:
    """Return a path as people write it: from the repository's root where it is in there."""
    full = path.resolve()
    return str(full.relative_to(ROOT)) if full.is_relative_to(ROOT) else str(path)


def there(nodes: Sequence[Node]) -> str:
    """Return what the nodes have, in words."""
    gpus = [gpu for node in nodes for gpu in node.gpus]
    cpus = sum(node.resources.get("CPU", 0) for node in nodes)
    sizes = sorted({round(gpu.memory_mb / 1000) for gpu in gpus if gpu.memory_mb})
    of_size = f" of {' and '.join(map(str, sizes))} GB" if sizes else ""
    shares = round(sum(gpu.free for gpu in gpus), 4)
    words = [
        f"{cpus:g} CPUs",
        f"{shares:g} GPU{'' if shares == 1 else 's'}{of_size}" if gpus else "no GPU",
        f"{sum(node.memory_mb for node in nodes) / 1000:.0f} GB of memory",
    ]
    return ", ".join(words) + (f" on {len(nodes)} nodes" if len(nodes) > 1 else "")
