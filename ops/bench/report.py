"""The benchmark's Markdown report."""

import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from ops.bench.client import Result


@dataclass
class Round:
    """One pass over all contestants; ``ceiling`` in images per second."""

    ceiling: float
    service: dict[str, Result]
    litserve: Result
    fastapi: Result

    def ratio(self, result: Result) -> float:
        """Share of the ceiling of this round."""
        return result.rate / self.ceiling

    def summary(self) -> str:
        """One line."""
        service = self.service["features, uncached"]
        return (
            f"ceiling {self.ceiling:.1f}/s; service {self.ratio(service):.2f}, "
            f"LitServe {self.ratio(self.litserve):.2f}, bare FastAPI {self.ratio(self.fastapi):.2f}"
        )


def processor() -> str:
    """Model name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
    ]
    return f"{os.cpu_count()} x {names[0] if names else platform.processor()}"


def _row(name: str, rounds: list[Round], pick: Callable[[Round], Result]) -> str:
    rates = [pick(r).rate for r in rounds]
    ratios = [r.ratio(pick(r)) for r in rounds]
    p50 = statistics.median(pick(r).percentile(0.5) for r in rounds)
    p99 = statistics.median(pick(r).percentile(0.99) for r in rounds)
    failed = sum(sum(pick(r).statuses.values()) - pick(r).statuses[200] for r in rounds)
    each = " / ".join(f"{ratio:.2f}" for ratio in ratios)
    return (
        f"| {name} | {statistics.median(rates):.1f} | **{statistics.median(ratios):.2f}** | {each} "
        f"| {p50:.0f} | {p99:.0f} | {failed} |"
    )


def write(rounds: list[Round], out: Path | None, arguments: str) -> None:
    """Print the report, and write it where asked to."""
    ceilings = " / ".join(f"{r.ceiling:.1f}" for r in rounds)
    lines = [
        "# Asset API, end to end",
        "",
        f"`python -m ops.bench {arguments}`, {date.today().isoformat()}; {processor()}; "
        f"ray {version('ray')}, openvino {version('openvino')}, python {platform.python_version()}.",
        "",
        "16 closed-loop clients on the same machine, 640×480 JPEGs of about 75 kB, all different. The ceiling is "
        "the bare loop of the fastest engine, JPEG decoding and resizing included, measured in the same round: "
        f"{ceilings} images/s. The service also reads the stored asset and writes the features durably; the two others "
        "are handed the bytes and keep nothing.",
        "",
        "| features, uncached | images/s | of the ceiling | by round | p50 ms | p99 ms | errors |",
        "|---|---|---|---|---|---|---|",
        _row("visiongraph (HAProxy → gateway → stage)", rounds, lambda r: r.service["features, uncached"]),
        _row("LitServe", rounds, lambda r: r.litserve),
        _row("bare FastAPI", rounds, lambda r: r.fastapi),
        "",
        "| visiongraph, other routes | requests/s | p50 ms | p99 ms | errors |",
        "|---|---|---|---|---|",
    ]
    for name in ("upload", "features, cached", "similarity of a pair"):
        results = [r.service[name] for r in rounds]
        lines.append(
            f"| {name} | {statistics.median(x.rate for x in results):.0f} "
            f"| {statistics.median(x.percentile(0.5) for x in results):.1f} "
            f"| {statistics.median(x.percentile(0.99) for x in results):.1f} "
            f"| {sum(sum(x.statuses.values()) - x.statuses[200] for x in results)} |"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    if out is not None:
        out.write_text(text)
