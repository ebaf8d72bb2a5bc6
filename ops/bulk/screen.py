"""A bulk run in the terminal: bars while it runs, a line for each file, a table at the end."""

from types import TracebackType
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ops.bulk.report import FileReport, Report
from ops.bulk.sources import Item

COLOURS: Final = {
    "indexed": "green",
    "skipped": "dim",
    "duplicate": "dim",
    "failed": "red",
    "cancelled": "yellow",
    "unfinished": "yellow",
}
NAME: Final = 40
"""Characters of a name in a bar."""


class Screen:
    """Watches a run; where there is no terminal, as in the log of ``ray job submit``, it prints the lines alone."""

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
        self._ended = 0

    def __enter__(self) -> "Screen":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begins(self, count: int) -> None:
        """So many files there are."""
        self._count = count
        self._all = self._progress.add_task("[bold]all[/]", total=count, unit="files")

    def frame(self, item: Item, reached: int, frames: int) -> None:
        """As ``Watcher`` says."""
        if item.name not in self._bars:
            self._bars[item.name] = self._progress.add_task(escape(item.filename[-NAME:]), total=frames, unit="frames")
        self._progress.update(self._bars[item.name], completed=reached)

    def ended(self, report: FileReport) -> None:
        """As ``Watcher`` says."""
        if (bar := self._bars.pop(report.name, None)) is not None:
            self._progress.remove_task(bar)
        self._ended += 1
        if self._all is not None:
            self._progress.update(self._all, completed=self._ended)
        found = f"{report.frames} frames, {report.shots} shots, {report.traces} traces"
        what = report.reason or (found if report.frames else "")
        colour = COLOURS[report.state]
        self._progress.console.print(
            f"[{colour}]{report.state:>10}[/] {self._ended}/{self._count} {escape(report.name)}: {escape(what)}",
            highlight=False,
            soft_wrap=True,
        )

    def says(self, text: str) -> None:
        """As ``Watcher`` says."""
        self._progress.console.print(escape(text), highlight=False, soft_wrap=True)


def summary(report: Report) -> Table:
    """What came of a run, in a few numbers."""
    table = Table("", "", box=None, show_header=False, pad_edge=False)
    for state, count in sorted(report.counts.items(), key=lambda each: list(COLOURS).index(each[0])):
        table.add_row(f"files {state}", f"[{COLOURS[state]}]{count}[/]")
    totals = report.totals
    table.add_row("hours of video", f"{totals['hours']:.2f}")
    table.add_row("frames", f"{totals['frames']:.0f}")
    table.add_row("shots", f"{totals['shots']:.0f}")
    table.add_row("traces", f"{totals['traces']:.0f}")
    table.add_row(
        "frames/s",
        f"{totals['frames_per_s']:.1f} ({totals['decoded_frames']:.0f} decoded in {totals['took_s']:.0f} s, "
        f"{totals['started_in_s']:.0f} s to start)",
    )
    for failure in report.failures:
        table.add_row("[red]failed[/]", f"{escape(failure.name)}: {escape(failure.reason or '')}")
    return table
