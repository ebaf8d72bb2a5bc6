"""visiongraph backup: copy the embedded stores, also while the service runs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal

from configs.settings import settings
from ops.cli.progress import shown_progress
from stores.backup import backup as make
from stores.backup import elsewhere


def backup(
    target: Annotated[
        Path | None, typer.Argument(help="New folder of the backup; default: backup-DATE-TIME beside VISION_HOME.")
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy files that are on the same disk, too, in place of links to them.")
    ] = False,
) -> None:
    """Copy the embedded stores into a new folder, as they are at one moment, and verify it."""
    config, console = settings(), Console()
    home = config.home.resolve()
    target = (target or home.with_name(f"backup-{datetime.now(UTC):%Y%m%d-%H%M%S}")).resolve()
    with shown_progress(console) as on_progress:
        header, copied = make(config, target, link=not copy, on_progress=on_progress)
    links = f", {decimal(copied.linked_bytes)} of them links to files of this disk" if copied.linked_bytes else ""
    console.print(
        f"backed up {', '.join(header.stores)}: {header.files} files, {decimal(header.bytes)}{links}, in {target}",
        soft_wrap=True,
    )
    if copied.linked_bytes:
        console.print("[yellow]Links are lost with this disk:[/] copy the folder to another one.", soft_wrap=True)
    for name, instead in elsewhere(config).items():
        console.print(f"[yellow]not in it: the {name}, which are elsewhere.[/] Use {instead}.", soft_wrap=True)
