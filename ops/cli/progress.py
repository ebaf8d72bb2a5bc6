"""Progress of commands that copy files, on the console."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal

from stores.backup import OnProgress


@contextmanager
def shown_progress(console: Console) -> Iterator[OnProgress]:
    """Show what is being done, and how many bytes of how many, while this is open."""
    with console.status("starting …") as status:

        def show(what: str, done: int, in_all: int) -> None:
            status.update(f"{what}: {decimal(done)}" + (f" of {decimal(in_all)}" if in_all else ""))

        yield show
