"""Measure the speed of everything beside its ceilings and peers, and beside an older checkout, in one run.

    python -m ops.bench.speed --out ops/bench/reports/speed.md --before OLDER-CHECKOUT

``--before`` is measured by the benchmarks of this checkout: only what they measure is older. Each line is a process of
its own, but those of the running service share one. ``--only`` picks lines; with ``--results FILE`` what was measured
is kept there, and only what ``--only`` names, or what is missing, is measured anew.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from configs.settings import settings
from ops.bench import assets, bulk, idle, indexing, nearest, photos, streaming, uploads
from ops.bench.load import Service, jpegs
from ops.bench.report import Contestant, Line, contestants_table, made_by, publish, table

BENCH: Final = Path(__file__).parent
ROOT: Final = BENCH.parents[1]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a line is measured with: the running service, a folder of photographs and films, and whether with peers."""

    served: Service | None
    media: Path
    peers: bool

    @property
    def service(self) -> Service:
        """Return the running service."""
        assert self.served is not None, "this line needs the service"
        return self.served


@dataclass(frozen=True, slots=True)
class Asked:
    """A line of the report: ``unit`` says what its value is, ``aim`` what it should be."""

    title: str
    unit: str
    aim: str
    measure: Callable[[Setting], Line]
    needs_service: bool = False
    digits: int = 2
    command: str = ""
    """What measures the same alone, with more detail."""


def idle_service(served: Service, seconds: float = 20.0, windows: int = 3) -> Line:
    """Measure what the service costs when nobody asks; the value is CPU milliseconds a second."""
    assets.uploaded(jpegs(1), served)
    time.sleep(idle.SETTLE_S)
    seen = [idle.observe(served.cpu, seconds) for _ in range(windows)]
    window = sorted(seen, key=lambda each: each.total_ms)[windows // 2]
    shares = ", ".join(f"{name} {ms:.1f}" for name, ms in window.cpu_ms.items() if ms >= 0.5)
    return Line(window.total_ms, (), (f"By process: {shares}; {window.wakes:.0f} wake-ups of threads a second.",))


LINES: Final = {
    "idle": Asked(
        "the idle service",
        "CPU ms a second",
        "≤ 60",
        lambda setting: idle_service(setting.service),
        needs_service=True,
        digits=0,
        command="ops.bench.idle",
    ),
    "features": Asked(
        "features end to end, light model",
        "CPU ms a request over the bare stage's",
        "≤ 1.06, and not above LitServe and bare FastAPI",
        lambda setting: assets.features(setting.service, peers=setting.peers),
        needs_service=True,
        digits=3,
        command="ops.bench.assets",
    ),
    "cached": Asked(
        "cached features",
        "requests/s over bare Starlette's with the same body",
        "≥ 0.6",
        lambda setting: assets.cached(setting.service, peers=setting.peers),
        needs_service=True,
        command="ops.bench.assets",
    ),
    "photos": Asked(
        "photo analysis",
        "CPU ms a photo over the sum of its parts alone",
        "≤ 1.10, and twice as many photos a second",
        lambda setting: photos.line(setting.service, setting.media),
        needs_service=True,
        command="ops.bench.photos",
    ),
    "uploads": Asked(
        "uploads of 75 kB",
        "a second, each durable",
        "what the disk and the processor give",
        lambda setting: uploads.line(setting.service),
        needs_service=True,
        digits=0,
        command="ops.bench.uploads",
    ),
    "film": Asked(
        "a 1080p film",
        "times real time",
        "≥ 6",
        lambda setting: indexing.line(setting.media),
        command="ops.bench.indexing PHOTOS",
    ),
    "bulk": Asked(
        "bulk indexing",
        "CPU ms a frame over its steps', once all workers run",
        "≤ 1.25",
        lambda setting: bulk.line(setting.media),
        command="ops.bench.bulk PHOTOS VIDEO…",
    ),
    "thumbnails": Asked(
        "random 1080p thumbnails",
        "a second",
        "≥ 25",
        lambda setting: streaming.line(),
        digits=1,
        command="ops.bench.streaming",
    ),
    "vectors": Asked(
        "top 10 of a million vectors",
        "ms a query",
        "< 10, recall ≥ 0.99",
        lambda setting: nearest.line(setting.media),
        digits=1,
        command="ops.bench.nearest --media FOLDER",
    ),
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="an older checkout, measured in the same run")
    parser.add_argument("--only", nargs="+", choices=LINES, metavar="LINE", help=f"of {', '.join(LINES)}")
    parser.add_argument("--media", type=Path, help="folder of photographs and films; by default beside the models")
    parser.add_argument("--results", type=Path, help="JSON file of what was measured until now")
    parser.add_argument("--out", type=Path, help="Markdown file; by default only printed")
    parser.add_argument("--measure", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--peers", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    media = arguments.media or (settings().models_dir or ROOT).parent / "media"
    if arguments.measure is not None:
        measure(arguments.only, media, arguments.measure, peers=arguments.peers)
        return
    results = read(arguments.results)
    checkouts = {"now": ROOT} | ({"before": arguments.before.resolve()} if arguments.before else {})
    started = time.monotonic()
    for name, missing in pending(results, arguments.only, list(checkouts)):
        with overlaid(checkouts[name]) as folder:
            results[name] = results.get(name, {}) | in_processes(folder, missing, media, peers=name == "now")
        if arguments.results is not None:
            arguments.results.write_text(json.dumps(results, indent=1))
    command = " ".join(["ops.bench.speed", *sys.argv[1:]])
    publish(report(results, command, time.monotonic() - started), arguments.out)
    if any("error" in each for each in results["now"].values()):
        raise SystemExit(1)


def read(path: Path | None) -> dict[str, dict[str, Any]]:
    """Return what was measured until now, by checkout and line."""
    known: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path is not None and path.exists() else {}
    return known


def pending(
    results: dict[str, dict[str, Any]], only: Sequence[str] | None, checkouts: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """Yield (checkout, lines that have to be measured), a line of one next to that of the other.

    Those that need the service come together, as it takes a minute to start.
    """
    wanted = only or [key for key in LINES if any(key not in results.get(name, {}) for name in checkouts)]
    groups = [[key for key in wanted if LINES[key].needs_service]]
    groups += [[key] for key in wanted if not LINES[key].needs_service]
    for group in groups:
        for name in checkouts:
            keys = [key for key in group if only or key not in results.get(name, {})]
            if keys:
                yield name, keys


@contextmanager
def overlaid(checkout: Path) -> Iterator[Path]:
    """Yield a folder of links to all of a checkout, but with the benchmarks of this one."""
    if checkout == ROOT:
        yield ROOT
        return
    with tempfile.TemporaryDirectory(prefix="before-") as name:
        folder = Path(name)
        (folder / "ops").mkdir()
        for entry in checkout.iterdir():
            if entry.name != "ops":
                (folder / entry.name).symlink_to(entry)
        for entry in (checkout / "ops").iterdir():
            (folder / "ops" / entry.name).symlink_to(BENCH if entry.name == BENCH.name else entry)
        yield folder


def in_processes(folder: Path, keys: Sequence[str], media: Path, *, peers: bool) -> dict[str, Any]:
    """Measure lines with the code in a folder; return them by key, or ``error`` of one that failed."""
    with tempfile.TemporaryDirectory(prefix="speed-") as name:
        output = Path(name) / "lines.json"
        argv = [sys.executable, "-m", "ops.bench.speed", "--measure", str(output), "--media", str(media.resolve())]
        argv += ["--peers"] * peers + ["--only", *keys]
        ended = subprocess.run(argv, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, check=False)
        lines: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {}
    return {key: lines.get(key, {"error": f"its process ended with {ended.returncode}"}) for key in keys}


def measure(keys: Sequence[str], media: Path, output: Path, *, peers: bool) -> None:
    """Measure lines in this process, and write each to a file when it is done."""
    lines: dict[str, Any] = {}

    def measured(key: str, setting: Setting) -> None:
        print(f"{key} …", file=sys.stderr, flush=True)
        try:
            lines[key] = asdict(LINES[key].measure(setting))
        except Exception as error:  # the others are measured all the same, and the report says what failed
            traceback.print_exc()
            lines[key] = {"error": f"{type(error).__name__}: {error}"}
        output.write_text(json.dumps(lines))

    serving = [key for key in keys if LINES[key].needs_service]
    if serving:
        with assets.light_service() as served:
            for key in serving:
                measured(key, Setting(served, media, peers))
    for key in keys:
        if key not in serving:
            measured(key, Setting(None, media, peers))


def report(results: dict[str, dict[str, Any]], command: str, seconds: float) -> list[str]:
    """Return the lines of the report."""
    now, before = results.get("now", {}), results.get("before", {})
    keys = [key for key in LINES if key in now]
    rows = [
        [
            f"[{LINES[key].title}](#{key})",
            LINES[key].unit,
            _value(before.get(key), LINES[key].digits),
            f"**{_value(now[key], LINES[key].digits)}**",
            LINES[key].aim,
        ]
        for key in keys
    ]
    text = [
        "# Speed",
        "",
        f"{made_by(command, 'ray', 'openvino', 'av', 'lancedb')}; {seconds / 60:.0f} minutes.",
        "",
        "CPU ms are milliseconds of the processor that all processes of a contestant need together, Ray's and "
        "HAProxy's included. *Before* is an older checkout, measured in the same run by the same benchmarks. What is "
        "left between a figure and its aim, and why: [speed-floors](speed-floors.md).",
        "",
        *table(["", "what", "before", "now", "aim"], rows),
    ]
    for key in keys:
        asked = LINES[key]
        alone = f"; alone, with more detail: `python -m {asked.command}`" if asked.command else ""
        text += [f"## {key}", "", f"{asked.title}, {asked.unit}. `python -m ops.bench.speed --only {key}`{alone}.", ""]
        text += _section(now[key], before.get(key))
    return text


def _value(line: Any, digits: int) -> str:
    if line is None:
        return ""
    return "failed" if "error" in line else f"{line['value']:,.{digits}f}"


def _section(now: Any, before: Any) -> list[str]:
    if "error" in now:
        return [f"It failed: {now['error']}", ""]
    contestants = [Contestant(**each) for each in now["contestants"]]
    if before is not None and "error" not in before:
        older = [Contestant(**each) for each in before["contestants"]]
        contestants += [Contestant(f"before: {each.name}", each.rate, each.cpu_ms) for each in older]
    text = [
        *(contestants_table(contestants) if contestants else []),
        *[line for note in now["notes"] for line in (note, "")],
    ]
    if before is not None:
        notes = [f"It failed: {before['error']}"] if "error" in before else before["notes"]
        text += [line for note in notes for line in (f"Before: {note}", "")]
    return text


if __name__ == "__main__":
    main()
