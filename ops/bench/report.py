"""What every benchmark report has: how it was made, on which machine, and tables in Markdown."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

REPORTS: Final = Path(__file__).parent / "reports"


@dataclass(frozen=True, slots=True)
class Contestant:
    """What was measured of one system: items a second, and milliseconds of the processor an item.

    Those are of all its processes together (``ops.bench.cpu``); None where it was not measured.
    """

    name: str
    rate: float | None = None
    cpu_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the speed report, as one checkout of this repository gives it.

    ``value`` is the number that has an aim. ``contestants``: the service first, then its ceiling and its peers, from
    the same run. ``notes``: sentences on how it was measured and what else was seen.
    """

    value: float
    contestants: tuple[Contestant, ...]
    notes: tuple[str, ...] = ()


def processor() -> str:
    """Return the number of processors and the name of their model."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
    ]
    return f"{os.cpu_count()} x {names[0] if names else platform.processor()}"


def made_by(command: str, *packages: str) -> str:
    """Return the command, the date, the processor, and the versions of these packages and of Python."""
    versions = ", ".join([*(f"{name} {version(name)}" for name in packages), f"python {platform.python_version()}"])
    return f"`python -m {command.strip()}`, {date.today().isoformat()}; {processor()}; {versions}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return the lines of a Markdown table, and an empty one after it."""
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
        "",
    ]


def contestants_table(contestants: Sequence[Contestant]) -> list[str]:
    """Return the lines of a table of contestants."""
    return table(
        ["", "a second", "CPU ms each"],
        [
            [
                each.name,
                "" if each.rate is None else f"{each.rate:.1f}",
                "" if each.cpu_ms is None else f"{each.cpu_ms:.2f}",
            ]
            for each in contestants
        ],
    )


def publish(lines: Sequence[str], out: Path | None) -> None:
    """Print a report, and write it to ``out`` if given."""
    text = "\n".join(lines).rstrip("\n") + "\n"
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")


def publish_section(heading: str, lines: Sequence[str], out: Path | None) -> None:
    """Print a section of a report, and write it to ``out`` if given, in the place of the one of this heading."""
    text = "\n".join([f"## {heading}", "", *lines]).rstrip("\n") + "\n"
    print(text)
    if out is None:
        return
    before, *sections = (out.read_text(encoding="utf-8") if out.exists() else "").split("\n## ")
    them = {section.partition("\n")[0]: f"## {section.rstrip()}\n" for section in sections} | {heading: text}
    out.write_text("\n".join([f"{before.rstrip()}\n", *them.values()]), encoding="utf-8")
