"""The result of a bulk run, by file and in total: as JSON, and in the terminal."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Final, Literal

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ops.bulk.sources import Item

State = Literal["indexed", "skipped", "duplicate", "failed", "cancelled", "unfinished"]
COLOURS: Final = {
    "indexed": "green",
    "skipped": "dim",
    "duplicate": "dim",
    "failed": "red",
    "cancelled": "yellow",
    "unfinished": "yellow",
}
NAME: Final = 40
"""Characters of a file name in a bar."""


@dataclass(frozen=True, slots=True)
class FileReport:
    """The result of one file.

    ``skipped``: it was indexed before; ``duplicate``: the same bytes as an earlier file of this run; ``cancelled``: its
    job was cancelled; ``unfinished``: the run was stopped first. ``seconds``: of video. ``decoded``: frames that this
    run decoded, fewer than ``frames`` where it resumed another run.
    """

    name: str
    state: State
    asset_id: str | None = None
    job_id: str | None = None
    reason: str | None = None
    attempts: int = 0
    seconds: float = 0.0
    frames: int = 0
    decoded: int = 0
    shots: int = 0
    traces: int = 0
    identities: int = 0
    objects: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run; ``started_in``: seconds until the pipeline's first row, ``took``: from there to the end."""

    sources: Sequence[str]
    files: Sequence[FileReport] = field(default_factory=tuple)
    took: float = 0.0
    started_in: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """The number of files by state."""
        return dict(Counter(file.state for file in self.files))

    @property
    def failures(self) -> list[FileReport]:
        """The files that failed."""
        return [file for file in self.files if file.state == "failed"]

    @property
    def totals(self) -> dict[str, float]:
        """Totals over all files that are indexed now, and the speed of this run."""
        indexed = [file for file in self.files if file.state in ("indexed", "skipped")]
        decoded = sum(file.decoded for file in self.files)
        return {
            "files": len(self.files),
            "hours": round(sum(file.seconds for file in indexed) / 3600, 4),
            "frames": sum(file.frames for file in indexed),
            "decoded_frames": decoded,
            "frames_per_s": round(decoded / self.took, 1) if self.took > 0 else 0.0,
            "shots": sum(file.shots for file in indexed),
            "traces": sum(file.traces for file in indexed),
            "objects": sum(file.objects for file in indexed),
            "took_s": round(self.took, 1),
            "started_in_s": round(self.started_in, 1),
        }

    @property
    def exit_code(self) -> int:
        """0 when every file is indexed; 1 when one failed or was cancelled; 3 when some are unfinished."""
        counts = self.counts
        return 1 if counts.get("failed") or counts.get("cancelled") else 3 if counts.get("unfinished") else 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON report."""
        return {
            "sources": list(self.sources),
            "counts": self.counts,
            "totals": self.totals,
            "failures": [{"name": file.name, "reason": file.reason} for file in self.failures],
            "files": [asdict(file) for file in self.files],
        }


class Screen:
    """Shows the progress of a run: bars, and a line for each file.

    Without a terminal, as in the log of ``ray job submit``, only the lines are printed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all: TaskID | None = None
        self._bars: dict[str, TaskID] = {}
        self._count = 0
        self._done = 0

    def __enter__(self) -> "Screen":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def start(self, count: int) -> None:
        """As in ``Monitor``."""
        self._count = count
        self._all = self._progress.add_task("[bold]all[/]", total=count, unit="files")

    def frame(self, item: Item, reached: int, frames: int) -> None:
        """As in ``Monitor``."""
        if item.name not in self._bars:
            self._bars[item.name] = self._progress.add_task(escape(item.filename[-NAME:]), total=frames, unit="frames")
        self._progress.update(self._bars[item.name], completed=reached)

    def file_done(self, report: FileReport) -> None:
        """As in ``Monitor``."""
        if (bar := self._bars.pop(report.name, None)) is not None:
            self._progress.remove_task(bar)
        self._done += 1
        if self._all is not None:
            self._progress.update(self._all, completed=self._done)
        counts = f"{report.frames} frames, {report.shots} shots, {report.traces} traces, {report.objects} objects"
        details = report.reason or (counts if report.frames else "")
        colour = COLOURS[report.state]
        self._progress.console.print(
            f"[{colour}]{report.state:>10}[/] {self._done}/{self._count} {escape(report.name)}: {escape(details)}",
            highlight=False,
            soft_wrap=True,
        )

    def message(self, text: str) -> None:
        """As in ``Monitor``."""
        self._progress.console.print(escape(text), highlight=False, soft_wrap=True)


def summary(report: Report) -> Table:
    """Return the totals of a run as a table."""
    table = Table("", "", box=None, show_header=False, pad_edge=False)
    for state, count in sorted(report.counts.items(), key=lambda each: list(COLOURS).index(each[0])):
        table.add_row(f"files {state}", f"[{COLOURS[state]}]{count}[/]")
    totals = report.totals
    table.add_row("hours of video", f"{totals['hours']:.2f}")
    table.add_row("frames", f"{totals['frames']:.0f}")
    table.add_row("shots", f"{totals['shots']:.0f}")
    table.add_row("traces", f"{totals['traces']:.0f}")
    table.add_row("objects", f"{totals['objects']:.0f}")
    table.add_row(
        "frames/s",
        f"{totals['frames_per_s']:.1f} ({totals['decoded_frames']:.0f} decoded in {totals['took_s']:.0f} s, "
        f"{totals['started_in_s']:.0f} s to start)",
    )
    for failure in report.failures:
        table.add_row("[red]failed[/]", f"{escape(failure.name)}: {escape(failure.reason or '')}")
    return table
