"""visiongraph: the command line of the service."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

import typer
from pydantic import ValidationError
from rich.console import Console

from ops.cluster import ClusterError
from ops.plan.choice import DoesNotFitError
from stores.errors import StoreError
from vision.weights import RegistryInvalid

COMMANDS: Final = (
    "serve",
    "plan",
    "check",
    "graph",
    "index",
    "models",
    "keys",
    "audit",
    "backup",
    "restore",
    "migrate",
)
"""Each is a module of ops.cli with a function of its name, or with ``app`` where it has commands of its own."""


def commands(chosen: Sequence[str] = COMMANDS) -> typer.Typer:
    """Return the command line with these commands: each imports much that the others do without."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
    app.callback()(_visiongraph)
    for name in chosen:
        module = import_module(f"ops.cli.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command()(getattr(module, name))
    return app


def _visiongraph() -> None:
    """Run the service."""


def main() -> None:
    """Run the command line; an expected failure prints one line, not a traceback."""
    wanted = [name for name in COMMANDS if name in sys.argv[1:2]]
    _run(commands(wanted or COMMANDS))


def run(command: Callable[..., None]) -> None:
    """Run one command as ``main`` does."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(command)
    _run(alone)


def _run(app: typer.Typer) -> None:
    try:
        app()
    except (ClusterError, DoesNotFitError, RegistryInvalid, StoreError, ValidationError) as error:
        Console(stderr=True).print(f"[red]{error}[/]", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
