"""visiongraph: the command line of the service."""

import sys
from collections.abc import Callable

import typer
from pydantic import ValidationError
from rich.console import Console

from ops.cli.check import check
from ops.cli.graph import graph
from ops.cli.index import index
from ops.cli.models import app as models
from ops.cli.plan import plan
from ops.cli.serve import serve
from ops.cluster import ClusterError
from ops.plan.choice import DoesNotFitError
from stores.errors import StoreError
from vision.weights import RegistryInvalid

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
app.command()(serve)
app.command()(plan)
app.command()(check)
app.command()(graph)
app.command()(index)
app.add_typer(models, name="models")


def main() -> None:
    """Run the command line; an expected failure prints one line, not a traceback."""
    _run(app)


def run(command: Callable[..., None]) -> None:
    """Run one command as ``main`` does."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(command)
    _run(alone)


def _run(commands: typer.Typer) -> None:
    try:
        commands()
    except (ClusterError, DoesNotFitError, RegistryInvalid, StoreError, ValidationError) as error:
        Console(stderr=True).print(f"[red]{error}[/]")
        sys.exit(1)


if __name__ == "__main__":
    main()
