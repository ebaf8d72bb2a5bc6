"""What a machine with an NVIDIA GPU makes of the service, in under eight minutes and without a network.

    python -m ops.bench.gpu --out ops/bench/reports/gpu.md [--wheels FOLDER] [--media FOLDER] [--sections plan,stages]

Installs the wheels of a folder first, if one is given. Each section is a process of its own with its own time, and one
that fails or takes too long is reported so while the others go on. The report is written after each section, so that a
machine that is taken away leaves what there is. Without a GPU the same runs on the processor, and the report says so.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from ops.bench.report import REPORTS, made_by, publish, table

ROOT: Final = Path(__file__).parents[2]
TOTAL_S: Final = 470.0
STOP_S: Final = 60.0
"""For the service to end; it is asked to as soon as the last section that needs it is over."""
LOG_LINES: Final = 12
"""Of the log of a section that failed, shown in the report."""
PACKAGES: Final = ("torch", "transformers", "openvino", "ray", "av", "opencv-python-headless", "numpy")


@dataclass(frozen=True, slots=True)
class Section:
    """``argv``: what Python runs; ``served``: whether the service has to run beside it."""

    name: str
    title: str
    argv: tuple[str, ...]
    seconds: float
    served: bool = False


@dataclass(slots=True)
class Outcome:
    """``lines`` in Markdown; ``failure``: empty when the section came to its end."""

    section: Section
    lines: list[str]
    seconds: float
    failure: str = ""


@dataclass(slots=True)
class Service:
    """The service under test; ``process`` is None before it was started."""

    argv: list[str]
    port: int
    log: Path
    environment: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    def start(self, until: float) -> str:
        """Start it and wait until it is ready; return what went wrong, if anything did."""
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                self.argv, env=self.environment, stdout=output, stderr=output, start_new_session=True
            )
        while self.process.poll() is None:
            with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return ""
            if time.monotonic() > until:
                return "it was not ready in time"
            time.sleep(0.5)
        return f"it ended with {self.process.returncode}"

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Ask it to end, and end it."""
        if self.process is not None:
            _end(self.process, signal.SIGTERM, STOP_S)


def sections(args: argparse.Namespace) -> list[Section]:
    """Return the sections in their order; with ``small`` they have little to do."""
    small = ["--small"] if args.small else []
    media = ["--media", str(args.media)] if args.media else []
    stages = ["--stages", args.stages] if args.stages else []
    engine = ["--engine", args.engine] if args.engine else []
    film = ["--film", str(args.film)] if args.film else []
    at = ["--port", str(args.port), *small, *media]
    made = [
        Section("install", "What is there", ("-m", "ops.bench.gpu", "--installation"), 40),
        Section("plan", "Whether it fits", ("-m", "ops.cli.main", "plan", str(args.config)), 30),
        Section("stages", "Stages", ("-m", "ops.bench.gpu_stages", *small, *media, *stages, *engine), 140),
        Section("serve", f"Start of the service with {args.config.name}", (), 130, served=True),
        Section("routes", "Routes", ("-m", "ops.bench.gpu_service", "routes", *at), 45, served=True),
        Section("features", "Features", ("-m", "ops.bench.gpu_service", "features", *at), 45, served=True),
        Section("film", "A film", ("-m", "ops.bench.gpu_service", "film", *at, *film), 100, served=True),
    ]
    return [replace(section, seconds=args.time_factor * section.seconds) for section in made]


def run(
    chosen: Sequence[Section], service: Service, folder: Path, seconds: float, on_outcome: Callable[[Outcome], None]
) -> None:
    """Run sections one after the other, for ``seconds`` in all; every outcome is reported when it is there."""
    deadline = time.monotonic() + seconds
    served = [section for section in chosen if section.served]
    try:
        for section in chosen:
            began = time.monotonic()
            left = min(section.seconds, deadline - began)
            failure, lines = "", list[str]()
            if left <= 0:
                failure = f"not run: the {seconds:.0f} s of all sections were over"
            elif section.name == "serve":
                failure = service.start(began + left)
                lines = [] if not failure else _quoted(service.log)
                if not failure:
                    lines = [f"Ready after {time.monotonic() - began:.1f} s.", ""]
            elif section.served and not service.runs:
                failure = "not run: the service does not run"
            else:
                lines, failure = _child(section, folder, left)
            on_outcome(Outcome(section, lines, time.monotonic() - began, failure))
            if served and section is served[-1]:
                service.stop()
    finally:
        service.stop()


def _child(section: Section, folder: Path, seconds: float) -> tuple[list[str], str]:
    """Return what a section printed, and what went wrong."""
    printed, log = folder / f"{section.name}.md", folder / f"{section.name}.log"
    with printed.open("wb") as output, log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, *section.argv], cwd=ROOT, stdout=output, stderr=errors, start_new_session=True
        )
    failure = ""
    try:
        if process.wait(seconds):
            failure = f"it ended with {process.returncode}"
    except subprocess.TimeoutExpired:
        failure = f"it took more than {seconds:.0f} s"
    finally:
        _end(process, signal.SIGTERM, 5)
    if section.name == "plan" and "No such command" in log.read_text(errors="replace"):
        return ["This version has no `visiongraph plan`.", ""], ""
    lines = printed.read_text(errors="replace").splitlines()
    if section.name == "plan" and lines:
        lines = ["```text", *lines, "```"]
    return [*lines, "", *(_quoted(log) if failure else [])], failure


def _end(process: "subprocess.Popen[bytes]", how: int, seconds: float) -> None:
    """End a process and what it started, which is in its session."""
    with suppress(ProcessLookupError):
        if process.poll() is None:
            process.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _quoted(log: Path) -> list[str]:
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return ["```text", *lines, "```", ""] if lines else []


def report(head: Sequence[str], outcomes: Sequence[Outcome]) -> list[str]:
    """Return the lines of the report."""
    rows = [
        (outcome.section.name, f"{outcome.seconds:.0f}", f"**failed**: {outcome.failure}" if outcome.failure else "ok")
        for outcome in outcomes
    ]
    lines = [*head, *table(("section", "s", "result"), rows)]
    for outcome in outcomes:
        lines += [f"## {outcome.section.title}", ""]
        if outcome.failure:
            lines += [f"Failed: {outcome.failure}.", ""]
        lines += outcome.lines
    return lines


def gpu() -> str:
    """Return name, memory and driver of the first GPU by nvidia-smi; empty without one."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.splitlines()[0] if answer.returncode == 0 and answer.stdout.strip() else ""


def installation() -> int:
    """Print what is installed and what it can use; return 1 when the service would not run."""
    rows = []
    for package in PACKAGES:
        try:
            rows.append((package, version(package)))
        except PackageNotFoundError:
            rows.append((package, "**missing**"))
    rows.append(("GPU", gpu() or "none"))
    print(*table(("what", "which"), rows), sep="\n", flush=True)

    import torch

    from vision.engines import has_cuda
    from vision.media.nvdec import is_available

    facts = [("torch's CUDA", torch.version.cuda or "none"), ("torch can use a GPU", has_cuda())]
    if has_cuda():
        facts.append(("computes bf16", torch.cuda.is_bf16_supported()))
    facts.append(("FFmpeg can use NVDEC", is_available()))
    print(*table(("what", "which"), facts), sep="\n", flush=True)
    if gpu() and not has_cuda():
        print("There is a GPU, but this torch cannot use it: install a build of torch for its CUDA.")
        return 1
    return int(any("missing" in row[1] for row in rows))


def install(wheels: Path) -> None:
    """Install all wheels of a folder. Raises SystemExit with pip's message."""
    files = sorted(map(str, wheels.glob("*.whl")))
    if not files:
        raise SystemExit(f"{wheels} has no wheels.")
    argv = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(wheels), "--no-deps", *files]
    answer = subprocess.run(argv, capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(answer.stderr[-2000:])


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPORTS / "gpu.md", help="the report")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that are installed first")
    parser.add_argument("--media", type=Path, help="folder of pictures, films and sounds; else they are made")
    parser.add_argument("--film", type=Path, help="the film to index; else one of a minute is made")
    parser.add_argument("--config", type=Path, help="Serve configuration; by default workstation.yaml with a GPU")
    parser.add_argument("--sections", help="names, separated by commas; by default all")
    parser.add_argument("--stages", help="keys of the stages to measure, separated by commas; by default all on a GPU")
    parser.add_argument("--engine", help="engine of the stages that have a choice; by default auto")
    parser.add_argument("--port", type=int, default=8177)
    parser.add_argument("--time-factor", type=float, default=1.0, help="more time for every section, on slow machines")
    parser.add_argument("--small", action="store_true", help="little of everything, for machines without a GPU")
    parser.add_argument("--installation", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    args = parser().parse_args(argv)
    if args.installation:
        return installation()
    if args.wheels:
        install(args.wheels)
    card = gpu()
    names = "workstation.yaml", "laptop.yaml"
    paths = [ROOT / "configs" / name for name in (names if card else names[::-1])]
    args.config = args.config or next(path for path in paths if path.exists())
    all_sections = sections(args)
    wanted = args.sections.split(",") if args.sections else [section.name for section in all_sections]
    unknown = set(wanted) - {section.name for section in all_sections}
    if unknown:
        raise SystemExit(f"There is no section {', '.join(sorted(unknown))}.")
    head = [
        "# On a GPU" if card else "# Without a GPU",
        "",
        f"{made_by('ops.bench.gpu ' + ' '.join(sys.argv[1:] if argv is None else argv))}; {card or 'no GPU'}.",
        "",
        *(
            []
            if card
            else ["**This was run on a processor alone: it shows that all sections run, not what a GPU is worth.**", ""]
        ),
    ]
    outcomes: list[Outcome] = []

    def on_outcome(outcome: Outcome) -> None:
        outcomes.append(outcome)
        print(f"{outcome.section.name}: {outcome.failure or 'ok'} ({outcome.seconds:.0f} s)", file=sys.stderr)
        args.out.write_text("\n".join(report(head, outcomes)).rstrip("\n") + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        argv_served = ["--config", str(args.config), "--host", "127.0.0.1", "--port", str(args.port)]
        service = Service(
            [sys.executable, "-m", "ops.cli.main", "serve", *argv_served, "--dashboard-port", str(args.port + 1)],
            args.port,
            folder / "serve.log",
            os.environ | {"VISION_HOME": str(folder / "home"), "RATE_LIMIT_ENABLED": "false", "RAY_ADDRESS": "local"},
        )
        run(
            [each for each in all_sections if each.name in wanted],
            service,
            folder,
            args.time_factor * TOTAL_S,
            on_outcome,
        )
    publish(report(head, outcomes), args.out)
    return int(any(outcome.failure for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
