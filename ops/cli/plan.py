"""visiongraph plan: what a configuration needs, where that has a place, and what an update to it would restart."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from ops.cluster import RAY_OPTIONS, ClusterError, join
from ops.plan.choice import choose, fit_gateways, shown, there
from ops.plan.machines import Node, cluster_nodes, memory_bytes, this_machine, without_applications
from ops.plan.needs import Need, needs
from ops.plan.packing import Packing, pack
from ops.plan.update import Change, changes

COLOURS = {"restarts": "yellow", "stops": "red", "starts": "green", "in place": "cyan"}


def plan(
    config: Annotated[
        Path | None, typer.Argument(help="Serve configuration; default: the one for what there is.")
    ] = None,
) -> None:
    """Compare what a configuration needs with this machine, or the Ray cluster that runs here, node by node.

    Beside a running service it also lists what `serve deploy` of the configuration would restart. Exit code 1: its
    minimum does not fit.
    """
    console = Console()
    with console.status("…"):
        nodes, running = what_there_is()
        path = config or choose(nodes).path
        wanted, data = read(path)
        update = changes(running, data) if running.keys() & _names(data) else []
        if update:
            nodes = without_applications(nodes, running)
        least, most = pack(wanted, nodes), pack(wanted, nodes, most=True)
        table = needs_table(shown(path), wanted, least, most, nodes)
    console.print(table)
    for misfit in least.misfits:
        console.print(f"[red]{misfit}[/]", soft_wrap=True)
    if not least.misfits:
        missing = sum(misfit.missing for misfit in most.misfits)
        short = f"; at most it could have {missing} replicas more than have a place" if missing else ""
        console.print(f"[green]It fits {there(nodes)}[/]{short}.", soft_wrap=True)
    if update:
        console.print(update_table(update))
    raise typer.Exit(1 if least.misfits else 0)


def what_there_is() -> tuple[list[Node], dict[str, Any]]:
    """Return the nodes, and the Serve applications that run on them; without a Ray cluster this machine and none."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    context = join(**RAY_OPTIONS)
    if context is None:
        return [this_machine()], {}
    return cluster_nodes(), _applications(context.dashboard_url)


def read(path: Path) -> tuple[list[Need], dict[str, Any]]:
    """Return what a configuration needs, and the configuration. Raises ClusterError if it cannot be read."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        fit_gateways(data, memory_bytes())
        return needs(data), data
    except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise ClusterError(
            f"{path} cannot be planned for: {error}; `visiongraph check --config {path}` says more"
        ) from error


def needs_table(title: str, wanted: Sequence[Need], least: Packing, most: Packing, nodes: Sequence[Node]) -> Table:
    """Return a table of the deployments, with what each replica needs and where the first ones have a place."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_footer=False)
    for name in ("deployment", "replicas", "CPUs", "GPU", "GPU memory", "memory", "place"):
        table.add_column(name, justify="left" if name in ("deployment", "place") else "right")
    homeless = {misfit.need.name: misfit.missing for misfit in least.misfits}
    for need in wanted:
        homes = [name if count == 1 else f"{count} × {name}" for name, count in least.nodes_of(need).items()]
        if need.name in homeless:
            homes.append(f"[red]{homeless[need.name]} without[/]")
        table.add_row(
            need.name,
            str(need.at_least) if need.at_least == need.at_most else f"{need.at_least} to {need.at_most}",
            f"{need.resources.get('CPU', 0):g}",
            f"{need.gpus:g}" if need.gpus else "",
            _gb(need.gpu_memory_mb()) if need.gpus else "",
            _gb(least.bins[0].memory_of(need)) if least.bins else "",
            ", ".join(homes) or "on demand",
        )
    table.add_section()
    table.add_row("at least", *_sums(wanted, least, [need.at_least for need in wanted]), style="bold")
    table.add_row("at most", *_sums(wanted, most, [need.at_most for need in wanted]))
    gpus = [gpu for node in nodes for gpu in node.gpus]
    known = [gpu.memory_mb for gpu in gpus if gpu.memory_mb is not None]
    table.add_row(
        "there is",
        "",
        f"{sum(node.resources.get('CPU', 0) for node in nodes):g}",
        f"{sum(gpu.free for gpu in gpus):g}",
        _gb(sum(known)) if known and len(known) == len(gpus) else "",
        _gb(sum(node.memory_mb for node in nodes)),
        "",
    )
    return table


def _sums(wanted: Sequence[Need], packing: Packing, counts: Sequence[int]) -> Iterable[str]:
    """Yield the sums of a number of replicas; those of memory with what Ray itself takes."""

    def total(amounts: Iterable[float]) -> float:
        return sum(amount * count for amount, count in zip(amounts, counts, strict=True))

    memory = total(packing.bins[0].memory_of(need) for need in wanted) if packing.bins else 0
    yield f"{sum(counts)}"
    yield f"{total(need.resources.get('CPU', 0) for need in wanted):g}"
    yield f"{total(need.gpus for need in wanted):g}"
    yield _gb(total(need.gpu_memory_mb() for need in wanted))
    yield _gb(memory + sum(each.of_ray_mb for each in packing.bins))
    yield ""


def update_table(update: Sequence[Change]) -> Table:
    """Return a table of what an update does to each deployment of the running service."""
    table = Table(title="serve deploy would", title_justify="left", box=None, pad_edge=False)
    for name in ("deployment", "effect", "because"):
        table.add_column(name)
    for change in update:
        if change.effect != "unchanged":
            table.add_row(change.name, f"[{COLOURS[change.effect]}]{change.effect}[/]", change.because)
    same = sum(change.effect == "unchanged" for change in update)
    table.add_row(f"{same} unchanged", "", "", style="dim")
    return table


def _applications(dashboard_url: str | None) -> dict[str, Any]:
    if not dashboard_url:
        return {}
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

    applications: dict[str, Any] = ServeSubmissionClient(f"http://{dashboard_url}").get_serve_details()["applications"]
    return applications


def _names(config: dict[str, Any]) -> set[str]:
    return {str(app.get("name", "default")) for app in config.get("applications", [])}


def _gb(mb: float) -> str:
    return f"{mb / 1000:.1f} GB"
