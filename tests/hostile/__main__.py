"""Hostile files and requests to every route: ``python -m tests.hostile --out report.md``.

Starts a service of its own, by dummies where a stage has weights, or attacks the one at ``--url``, which must have no
rate limit. ``--only NAME`` sends what has that in its name, ``--without NAME`` the rest. Ctrl-C ends it
with a report of what came until then.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx

from ops.bench.report import made_by, publish, table
from tests.hostile.attack import CPU_S, GROWN_MB, Attack, Outcome
from tests.hostile.corpus import chosen
from tests.hostile.service import running
from tests.hostile.usage import service_at

MOST_FINDS = 200


def attacked(only: str, without: list[str], url: str, *, quick: bool) -> Iterator[Outcome]:
    """Yield the outcome of each request; a service of our own that has died is started again."""
    with ExitStack() as own:

        def begin() -> Attack:
            own.close()
            address, pid = (url, service_at(httpx.URL(url).port or 80)) if url else own.enter_context(running())
            attack = Attack(address, pid)
            own.callback(attack.close)
            return attack

        attack = begin()
        for file in chosen(only, quick=quick):
            if any(part in file.name for part in without):
                continue
            yield from attack.file(file, file.make())
            if not attack.alive and not url:
                attack = begin()
        for request in attack.requests(only, quick=quick):
            if any(part in request.name for part in without):
                continue
            yield from attack.request(request)
            if not attack.alive and not url:
                attack = begin()


def _cell(outcomes: list[Outcome]) -> str:
    """Return status, seconds and MB of the worst of these."""
    if not outcomes:
        return ""
    worst = max(outcomes, key=lambda o: (bool(o.finds), o.usage.cpu_s))
    statuses = Counter(o.status for o in outcomes)
    status = str(worst.status) if len(outcomes) == 1 else ", ".join(f"{n} x {s}" for s, n in sorted(statuses.items()))
    mark = " **!**" if worst.finds else ""
    return f"{status}: {worst.usage.cpu_s:.1f} s, {max(o.usage.grown_mb for o in outcomes):.0f} MB{mark}"


def report(outcomes: list[Outcome], command: str, took: float, *, url: str = "") -> list[str]:
    """Return the lines of the report."""
    names = list(dict.fromkeys(o.name for o in outcomes))
    by_route = Counter(o.route for o in outcomes if not o.derived)
    routes = [route for route in by_route if any(o.route == route and "/" in o.name for o in outcomes)]
    finds = [o for o in outcomes if o.finds]
    slow = max(outcomes, key=lambda o: o.usage.cpu_s)
    waited = max(outcomes, key=lambda o: o.usage.wall_s)
    large = max(outcomes, key=lambda o: o.usage.grown_mb)
    died = sum("died" in find for o in outcomes for find in o.finds)
    taking = [r for r in routes if any(o.route == r and o.name.startswith(("jpeg/", "png/")) for o in outcomes)]
    cells: dict[tuple[str, str], list[Outcome]] = {}
    for o in outcomes:
        place = "then" if o.derived else o.route if o.route in taking else "others"
        cells.setdefault((o.name, place), []).append(o)
    columns = [*taking, "others", "then"]
    letters = {route: f"{number}" for number, route in enumerate(taking, 1)} | {"others": "others", "then": "then"}
    rows = [[name, *(_cell(cells.get((name, column), [])) for column in columns)] for name in names]
    per_route = []
    for route in sorted({o.route for o in outcomes}):
        of_it = [o for o in outcomes if o.route == route]
        statuses = ", ".join(f"{n} x {s}" for s, n in sorted(Counter(o.status for o in of_it).items()))
        slowest = max(of_it, key=lambda o: o.usage.cpu_s)
        largest = max(of_it, key=lambda o: o.usage.grown_mb)
        per_route.append(
            [
                *(f"`{route}`", statuses, f"{slowest.usage.cpu_s:.1f}", slowest.name),
                *(f"{max(o.usage.wall_s for o in of_it):.1f}", f"{largest.usage.grown_mb:.0f}", largest.name),
            ]
        )
    service = "a running service" if url else "a service of its own, whose requests have 10 s and analyses 20 s"
    return [
        "# Hostile files",
        "",
        made_by(command, "pillow", "pillow-heif", "av"),
        "",
        f"{len(names)} files and requests to {service}: {len(outcomes)} answers in {took:.0f} s, {len(finds)} with "
        f"finds, {died} processes died.",
        "",
        f"- Most of the processor: {slow.usage.cpu_s:.1f} s, {slow.name} to `{slow.route}` ({slow.status}).",
        f"- Longest until an answer: {waited.usage.wall_s:.1f} s, {waited.name} to `{waited.route}` ({waited.status}).",
        f"- Most memory: {large.usage.grown_mb:.0f} MB more than before, {large.name} to `{large.route}` "
        f"({large.status}); the most in all was {max(o.usage.peak_mb for o in outcomes):.0f} MB.",
        "",
        "A find is a status of 5xx other than 503, 504 and 507, an answer that is not as documented or gives "
        f"something away, more than {CPU_S:.0f} s of the processor or {GROWN_MB} MB, or work that goes on after it.",
        "",
        "## Finds",
        "",
        *(f"- {o.name} to `{o.route}`: {'; '.join(o.finds)}" for o in finds[:MOST_FINDS]),
        *([] if finds else ["None."]),
        "",
        "## Worst of each route",
        "",
        *table(("route", "answers", "processor, s", "by", "until its answer, s", "MB", "by"), per_route),
        "## Each file",
        "",
        "Status, seconds of the processor of all processes, and MB that memory grew at most. `others`: every other "
        "route; `then`: what works on an asset, once the file was accepted.",
        "",
        *(f"{letters[route]}. `{route}`" for route in taking),
        "",
        *table(("file", *(letters[column] for column in columns)), rows),
    ]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="what the name has in it")
    parser.add_argument("--without", action="append", default=[], help="what the name has not in it; several times")
    parser.add_argument("--quick", action="store_true", help="the short selection alone")
    parser.add_argument("--url", default="", help="a running service, else one is started")
    parser.add_argument("--list", action="store_true", help="names alone")
    parser.add_argument("--out", type=Path, help="write the report here")
    arguments = parser.parse_args()
    os.environ.setdefault("SVT_LOG", "1")  # errors of the AV1 encoder alone
    if arguments.list:
        print("\n".join(file.name for file in chosen(arguments.only, quick=arguments.quick)))
        return
    since, outcomes = time.monotonic(), []
    with suppress(KeyboardInterrupt):
        for outcome in attacked(arguments.only, arguments.without, arguments.url, quick=arguments.quick):
            outcomes.append(outcome)
            if outcome.finds:
                print(f"{outcome.name} to {outcome.route}: {outcome.status}: {'; '.join(outcome.finds)}", flush=True)
            if len(outcomes) % 200 == 0:
                print(f"{len(outcomes)} answers, {time.monotonic() - since:.0f} s", file=sys.stderr, flush=True)
    command = f"tests.hostile {' '.join(sys.argv[1:])}"
    publish(report(outcomes, command, time.monotonic() - since, url=arguments.url), arguments.out)
    sys.exit(any(outcome.finds for outcome in outcomes))


if __name__ == "__main__":
    main()
