"""visiongraph index: an archive of videos, on all machines of a Ray cluster."""

import json
import logging
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ops.bulk.driver import AlreadyRunning
from ops.bulk.driver import index as index_sources
from ops.bulk.plan import SHARE, Options, PlanError
from ops.bulk.run import PipelineBroken
from ops.bulk.screen import Screen, summary
from ops.bulk.sources import SourceError
from ops.cluster import ClusterError
from vision.errors import StageError

console = Console()
EXPECTED = (SourceError, PlanError, PipelineBroken, AlreadyRunning)


def index(
    source: Annotated[
        list[str],
        typer.Argument(help="A folder, a file, a glob, s3://bucket/prefix?endpoint_url=…, asset ids, or @FILE of ids."),
    ],
    report: Annotated[Path | None, typer.Option(help="Where to write a JSON report.")] = None,
    share: Annotated[float, typer.Option(help="Part of the cluster's CPUs and GPUs to take, 0-1.")] = SHARE,
    decoders: Annotated[int, typer.Option(min=0, help="Workers that decode; 0: by the cluster's size.")] = 0,
    people: Annotated[int, typer.Option(min=0, help="Workers that look for faces and camera movement.")] = 0,
    cuts: Annotated[int, typer.Option(min=0, help="Workers that look for cuts.")] = 0,
    gpus_per_actor: Annotated[float, typer.Option(min=0.01, max=1, help="GPU share of a worker that has one.")] = 0.125,
    config: Annotated[
        Path | None, typer.Option(help="Serve configuration whose user_config the stages take.", exists=True)
    ] = None,
) -> None:
    """Find people and shots in every video of SOURCE; what is done already is skipped, what was begun is gone on with.

    Ends with 0 when every file is indexed, 1 when one failed or was cancelled, 3 when it was stopped first.
    """
    if report is not None and not os.access(report if report.exists() else report.parent, os.W_OK):
        raise ClusterError(f"The report cannot be written to {report}: name a place that is there and may be written.")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    options = Options(share, decoders, people, cuts, gpus_per_actor)
    try:
        with Screen(console) as screen:
            made = index_sources(source, options, screen, config=config)
    except EXPECTED as error:
        raise ClusterError(str(error)) from error
    except StageError as error:
        raise ClusterError(error.message) from error
    console.print(summary(made))
    if report is not None:
        try:
            report.write_text(json.dumps(made.to_json(), indent=2) + "\n")
        except OSError as error:
            raise ClusterError(f"{report} cannot be written: {error.strerror}.") from error
    if made.exit_code:
        raise typer.Exit(made.exit_code)
