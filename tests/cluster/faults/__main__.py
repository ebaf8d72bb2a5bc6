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
- **first**: seconds until a request of each of the four kinds that came after the fault was answered with 200
- **steady**: seconds until the last request that failed had ended; 0 where none failed
- **lost**: uploads that were acknowledged with 200 and are not there afterwards, of all that were acknowledged

| fault | answers | slowest answer, s | first, s | steady, s | lost | |
|---|---|---|---|---|---|---|
"""


def rows(seen: Iterator[Seen] | list[Seen]) -> Iterator[str]:
    """The lines of the table."""
    for each in seen:
        answers = ", ".join(f"{count} × {fate}" for fate, count in sorted(each.fates.items()))
        first = "never" if math.isinf(each.first_s) else f"{each.first_s:.1f}"
        notes = [each.note] if each.note else []
        notes += [f"{each.plain} errors without JSON or Retry-After"] if each.plain else []
        cells = [each.fault, answers, f"{each.worst_s:.1f}", first, f"{each.steady_s:.1f}"]
        yield f"| {' | '.join([*cells, f'{each.lost} of {each.acknowledged}', '; '.join(notes)])} |"


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
    parser.add_argument("--out", type=Path, help="file for the table; it goes to the terminal in any case")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    seen = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for each in observed(args.only, Path(folder)):
            seen.append(each)
            print(next(rows([each])), flush=True)
            if args.out:
                args.out.write_text(HEAD + "\n".join(rows(seen)) + "\n")
    return int(any(each.lost or math.isinf(each.first_s) for each in seen))


if __name__ == "__main__":
    sys.exit(main())
