"""visiongraph models: list, fetch and verify model weights, and add models of the hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from vision.weights import Model, Weights, WeightsUnavailable, locate, store, verify
from vision.weights import Progress as Show

app = typer.Typer(help="Model weights: list, pull, verify, add.", no_args_is_help=True)


@app.command("list")
def list_models(
    config: Annotated[
        Path | None, typer.Option(help="Serve configuration whose stages use them; default: the one that serve takes.")
    ] = None,
) -> None:
    """List every registered model: its licence, where its weights are or would come from, and which stages use it."""
    # They bring Ray, which the other commands do without.
    from ops.models.serving import chains, uses
    from ops.plan.choice import default_config

    used = uses(store(), chains(config or default_config()))
    table = Table("name", "task", "licence", "commercial", "size", "here", "where from", "stages", box=None)
    for name, model in store().models.root.items():
        here, where = locate(store(), name)
        table.add_row(
            *map(Text, (name, model.task, model.licence, "yes" if model.commercial else "no", _size(model))),
            Text("yes", "green") if here else Text("no", "yellow"),
            Text(where),
            Text("\n".join(used.get(name, ["none"]))),
        )
    Console().print(table)


@app.command()
def add(
    model: Annotated[str, typer.Argument(metavar="hub:ORG/NAME", help="Repository of the model hub.")],
    stage: Annotated[str, typer.Option("--for", metavar="STAGE", help="Stage that is to use it, as room/name.")],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; default: the newest commit of the main branch.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Register a model of the hub for a stage: show its licence, download it, try it, pin it in VISION_MODELS_FILE."""
    from ops.models.add import NotAdded, download, look, register

    console = Console()
    try:
        candidate = look(model, stage, revision, store())
        for name, text in candidate.facts().items():
            console.print(Text.assemble((f"{name:12}", "cyan"), text), soft_wrap=True)
        if not candidate.model.commercial:
            console.print(Text(candidate.warning, "bold red"), soft_wrap=True)
        if not yes:
            typer.confirm(f"Download it and try it in {stage}?", abort=True)
        with _progress(console, candidate.name) as show:
            weights = download(candidate, store(), show)
        with console.status(f"trying it in {stage} …"):
            path, trial = register(candidate, weights, store())
    except NotAdded as error:
        console.print(Text(str(error), "red"), soft_wrap=True)
        raise typer.Exit(1) from error
    told = {"loaded in": f"{trial.load_s:g} s", "one item": f"{trial.item_ms:g} ms", **trial.info}
    for name, value in told.items():
        console.print(Text.assemble((f"{name:12}", "cyan"), str(value)), soft_wrap=True)
    console.print(Text(f"{candidate.name} is registered in {path}. {stage} uses it with this line in its", "green"))
    console.print("user_config in the Serve configuration, from its next start on:")
    console.print(Text(f"{stage}: {{models: [{', '.join(candidate.chain)}]}}"), soft_wrap=True)


@app.command()
def pull(
    names: Annotated[list[str] | None, typer.Argument(help="Models to fetch.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch every registered model.")] = False,
) -> None:
    """Fetch and verify models; a broken download resumes. Exit code 1: some are missing."""
    known = store().models.root
    if bool(names) == everything:
        raise typer.BadParameter("give names of models, or --all")
    chosen = list(known) if everything else names or []
    if unknown := [name for name in chosen if name not in known]:
        raise typer.BadParameter(f"not registered: {', '.join(unknown)}; `models list` shows the names")
    console, failures = Console(), 0
    for name in chosen:
        model = known[name]
        terms = f" ({model.licence_url})" if model.licence_url else ""
        limit = "" if model.commercial else ", not for commercial use"
        console.print(Text(f"{name}: licence {model.licence}{terms}{limit}"), soft_wrap=True)
        try:
            weights = _pull(console, name)
        except WeightsUnavailable as error:
            failures += 1
            lines = [f"no verified weights for {name}", *error.reasons]
            console.print(Text("\n- ".join(lines), "red"), soft_wrap=True)
        else:
            console.print(Text(f"{weights.version} in {weights.path}, from {weights.source}"), soft_wrap=True)
    raise typer.Exit(1 if failures else 0)


@app.command("verify")
def verify_models() -> None:
    """Hash all weights on this machine. Exit code 1: at least one is not as registered."""
    console = Console()
    checked = [file for name in store().models.root for file in verify(store(), name)]
    faults = [file for file in checked if file.fault]
    for file in faults:
        console.print(Text(f"{file.name}, {file.place}: {file.fault}", "red"), soft_wrap=True)
    console.print(f"{len(checked)} files, {len(faults)} faults")
    raise typer.Exit(1 if faults else 0)


def _pull(console: Console, name: str) -> Weights:
    with _progress(console, name) as show:
        return store().resolve(name, progress=show)


@contextmanager
def _progress(console: Console, name: str) -> Iterator[Show]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(name, total=None)

        def show(file: str, done: int, total: int) -> None:
            bars.update(task, description=f"{name} {file}", completed=done, total=total or None)

        yield show


def _size(model: Model) -> str:
    sizes = [spec.size for spec in model.files.values()]
    total = sum(size or 0 for size in sizes) / 1e6
    if None not in sizes:
        return f"{total:.1f} MB"
    return f"over {total:.1f} MB" if total else "unknown"
