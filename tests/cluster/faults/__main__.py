"""``python -m tests.cluster.faults --out docs/faults.md``: every fault, and the table of what was seen."""

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.conftest import start
from tests.cluster.faults.observe import Seen
from tests.cluster.faults.suite import clients, disk_and_clock, kills, restarts, stores

PARTS = ("kills", "clients", "restarts", "disk", "stores")
HEAD = """# Faults

What clients see when parts of the service fail, as measured by `make faults` on one machine with two cores: each fault
happens under a load of four clients, which upload pictures, extract the features of those uploads, judge quality and
read records, one request after the other.

- **answers**: all of them from the fault on, by status; `reset`, `closed` and `refused` are connections that ended
  without an answer, `hung` had none in a minute
- **first**: seconds until a request of each of the four kinds was answered with 200 that came after the first failure,
  or after the fault where none failed
- **steady**: seconds until the last request that failed had ended; 0 where none failed
- **lost**: uploads that were acknowledged with 200 and are not there afterwards, of all that were acknowledged

| fault | answers | slowest answer, s | first, s | steady, s | lost | |
|---|---|---|---|---|---|---|
"""


def row_of(seen: Seen) -> str:
    """The line of the table."""
    answers = ", ".join(f"{count} × {fate}" for fate, count in sorted(seen.fates.items()))
    first = "never" if math.isinf(seen.first_s) else f"{seen.first_s:.1f}"
    notes = [seen.note] if seen.note else []
    notes += [f"{seen.plain} errors without JSON or Retry-After"] if seen.plain else []
    cells = [seen.fault, answers, f"{seen.worst_s:.1f}", first, f"{seen.steady_s:.1f}"]
    return f"| {' | '.join([*cells, f'{seen.lost} of {seen.acknowledged}', '; '.join(notes)])} |"


def with_rows(text: str, new: dict[str, str]) -> str:
    """The page with these rows, by fault, in the place of the rows that it has for them."""
    old = {
        line.split("|")[1].strip(): line
        for line in text.partition(HEAD.splitlines()[-1])[2].splitlines()
        if line.startswith("| ")
    }
    return HEAD + "\n".join((old | new).values()) + "\n"


def observed(parts: list[str], folder: Path) -> Iterator[Seen]:
    """Run these parts of the suite."""
    if {"kills", "clients", "restarts"} & set(parts):
        running = start(folder / "home", folder / "serve.log")
        try:
            if "clients" in parts:
                yield from clients(running)
            if "kills" in parts:
                yield from kills(running)
            if "restarts" in parts:
                for seen, again in restarts(running, folder):
                    running = again
                    yield seen
        finally:
            running.stop()
    if "disk" in parts:
        yield from disk_and_clock(folder)
    if "stores" in parts:
        yield from stores(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file of the table, whose other rows stay; they are printed as well")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    seen: list[Seen] = []
    page = args.out.read_text() if args.out and args.out.exists() else ""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for each in observed(args.only, Path(folder)):
            seen.append(each)
            row = row_of(each)
            print(row, flush=True)
            if args.out:
                page = with_rows(page, {each.fault: row})
                args.out.write_text(page)
    return int(any(each.lost or math.isinf(each.first_s) for each in seen))


if __name__ == "__main__":
    sys.exit(main())
