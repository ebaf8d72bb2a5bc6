"""visiongraph restore: make a home from a backup."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal

from configs.settings import settings
from ops.cli.progress import shown_progress
from stores.backup import restore as make
from stores.backup import verify


def restore(
    source: Annotated[Path, typer.Argument(help="Folder of a backup.")],
    check: Annotated[bool, typer.Option("--check", help="Only verify it: every file is what it was.")] = False,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy files that are on the same disk, too, in place of links to them.")
    ] = False,
) -> None:
    """Verify a backup, and make VISION_HOME of it, which has to be empty or not there."""
    console, source = Console(), source.resolve()
    with shown_progress(console) as on_progress:
        if check:
            header = verify(source, on_progress)
        else:
            header = make(settings(), source, link=not copy, on_progress=on_progress)
    done = f"{source} is whole" if check else f"restored {settings().home.resolve()}"
    console.print(
        f"{done}: {', '.join(header.stores)} of {header.made_at}, {header.files} files, {decimal(header.bytes)}",
        soft_wrap=True,
    )
