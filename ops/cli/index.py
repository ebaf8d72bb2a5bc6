"""visiongraph index: index an archive of videos on all machines of a Ray cluster."""

import json
import logging
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ops.bulk.driver import AlreadyRunning, Stopped
from ops.bulk.driver import index as index_sources
from ops.bulk.plan import SHARE, Options, PlanError
from ops.bulk.report import Screen, summary
from ops.bulk.run import PipelineBroken
from ops.bulk.sources import SourceError
from ops.bulk.submit import absolute, submit
from ops.cluster import ClusterError
from vision.errors import StageError

console = Console()
STOPPED = 3
EXPECTED = (SourceError, PlanError, PipelineBroken, AlreadyRunning)


def index(
    source: Annotated[
        list[str],
        typer.Argument(help="A folder, a file, a glob, s3://bucket/prefix?endpoint_url=…, asset ids, or @FILE of ids."),
    ],
    report: Annotated[Path | None, typer.Option(help="Where to write a JSON report.")] = None,
    share: Annotated[float, typer.Option(help="Part of the cluster's CPUs and GPUs to take, 0-1.")] = SHARE,
    decoders: Annotated[int, typer.Option(min=0, help="Workers that decode; 0: by the size of the cluster.")] = 0,
    people: Annotated[int, typer.Option(min=0, help="Workers for faces and camera movement; 0: as above.")] = 0,
    cuts: Annotated[int, typer.Option(min=0, help="Workers for cuts; 0: as above.")] = 0,
    objects: Annotated[int, typer.Option(min=0, help="Workers for objects; 0: as above.")] = 0,
    gpus_per_actor: Annotated[
        float, typer.Option(min=0.01, max=1, help="GPU share of each worker that uses one.")
    ] = 0.125,
    config: Annotated[
        Path | None, typer.Option(help="Serve configuration with the user_config of the stages.", exists=True)
    ] = None,
    submitted: Annotated[
        bool, typer.Option("--submit", help="Run it as a job of the Ray cluster that runs, as beside the service.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="With --submit: show what it prints, and wait for its end.")] = True,
) -> None:
    """Index people, objects and shots in every video of SOURCE; skip finished videos, and resume unfinished ones.

    Exit code 0: every file is indexed; 1: one failed or was cancelled; 3: the run was stopped first.
    """
    if report is not None and not os.access(report if report.exists() else report.parent, os.W_OK):
        raise ClusterError(f"The report cannot be written to {report}; name a file in a writable folder.")
    if submitted:
        numbers = {"share": share, "decoders": decoders, "people": people, "cuts": cuts, "objects": objects}
        arguments = [f"--{name}={value}" for name, value in (numbers | {"gpus-per-actor": gpus_per_actor}).items()]
        files = {"report": report, "config": config}
        arguments += [f"--{name}={path.absolute()}" for name, path in files.items() if path is not None]
        _submit([*arguments, "--", *map(absolute, source)], wait=wait)
        return
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    options = Options(share, decoders, people, cuts, gpus_per_actor, objects)
    try:
        with Screen(console) as screen:
            result = index_sources(source, options, screen, config=config)
    except Stopped as error:
        console.print(str(error))
        raise typer.Exit(STOPPED) from error
    except EXPECTED as error:
        raise ClusterError(str(error)) from error
    except StageError as error:
        raise ClusterError(error.message) from error
    console.print(summary(result))
    if report is not None:
        try:
            report.write_text(json.dumps(result.to_json(), indent=2) + "\n")
        except OSError as error:
            raise ClusterError(f"{report} cannot be written: {error.strerror}.") from error
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _submit(arguments: list[str], *, wait: bool) -> None:
    submission = submit(arguments)
    console.print(f"submitted as job {submission.job_id}")
    if not wait:
        return
    try:
        code = submission.follow(lambda text: console.out(text, end="", highlight=False))
    except KeyboardInterrupt:
        console.print("It runs on; see or cancel it at /api/v1/jobs?kind=bulk-index, or in Ray's dashboard.")
        raise typer.Exit(STOPPED) from None
    if code:
        raise typer.Exit(code)
