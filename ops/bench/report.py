"""The benchmark's Markdown report."""

import os
import platform
import statistics
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

from ops.bench.client import Result

UNCACHED = "features, uncached"


@dataclass
class Measured:
    """``ceilings`` in images per second, before each contestant and after the last; one result per round for the
    others."""

    ceilings: list[float] = field(default_factory=list)
    service: list[dict[str, Result]] = field(default_factory=list)
    litserve: list[Result] = field(default_factory=list)
    fastapi: list[Result] = field(default_factory=list)


def processor() -> str:
    """Model name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
    ]
    return f"{os.cpu_count()} x {names[0] if names else platform.processor()}"


def _errors(results: list[Result]) -> int:
    return sum(sum(result.statuses.values()) - result.statuses[200] for result in results)


def _row(name: str, results: list[Result], ceiling: float) -> str:
    rates = [result.rate for result in results]
    p50 = statistics.median(result.percentile(0.5) for result in results)
    p99 = statistics.median(result.percentile(0.99) for result in results)
    each = " / ".join(f"{rate / ceiling:.2f}" for rate in rates)
    median = statistics.median(rates)
    return (
        f"| {name} | {median:.1f} | **{median / ceiling:.2f}** | {each} | {p50:.0f} | {p99:.0f} | {_errors(results)} |"
    )


def write(measured: Measured, out: Path | None, arguments: str) -> None:
    """Print the report, and write it where asked to."""
    beside = [statistics.mean(pair) for pair in pairwise(measured.ceilings)]
    ceilings = " / ".join(f"{rate:.1f}" for rate in measured.ceilings)
    lines = [
        "# Asset API, end to end",
        "",
        f"`python -m ops.bench.assets {arguments}`, {date.today().isoformat()}; {processor()}; "
        f"ray {version('ray')}, openvino {version('openvino')}, python {platform.python_version()}.",
        "",
        "16 closed-loop clients on the same machine, 640×480 JPEGs of about 75 kB, all different. The ceiling is "
        "the bare loop of the fastest engine, JPEG decoding and resizing included, with the machine "
        f"to itself, the faster of two passes, before and after each contestant: {ceilings} images/s; a contestant is "
        "compared with the mean of the two beside it. The service also reads the stored "
        "asset and writes the features durably; the two others are handed the bytes and keep nothing.",
        "",
        "| features, uncached | images/s | of the ceiling | by round | p50 ms | p99 ms | errors |",
        "|---|---|---|---|---|---|---|",
        _row("visiongraph (HAProxy → gateway → stage)", [each[UNCACHED] for each in measured.service], beside[0]),
        _row("LitServe", measured.litserve, beside[1]),
        _row("bare FastAPI", measured.fastapi, beside[2]),
        "",
        "| visiongraph, other routes | requests/s | p50 ms | p99 ms | errors |",
        "|---|---|---|---|---|",
    ]
    for name in ("upload", "features, cached", "similarity of a pair"):
        results = [each[name] for each in measured.service]
        lines.append(
            f"| {name} | {statistics.median(x.rate for x in results):.0f} "
            f"| {statistics.median(x.percentile(0.5) for x in results):.1f} "
            f"| {statistics.median(x.percentile(0.99) for x in results):.1f} "
            f"| {_errors(results)} |"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    if out is not None:
        out.write_text(text)
