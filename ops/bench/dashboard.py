"""Draw the dashboard from a Prometheus: every panel with its expressions over the last minutes.

::

    python -m ops.bench.dashboard --prometheus http://127.0.0.1:9090 --minutes 10 --out ops/bench/reports/dashboard.png

It says which panels have no data.
"""

import argparse
import re
import time
from pathlib import Path
from typing import Any, Final

import httpx

from ops.monitoring.facts import ROWS, Panel, Query

COLUMNS: Final = 4
MOST_NAMED: Final = 6
UNITS: Final = {"reqps": "requests/s", "ops": "per second", "percentunit": "share", "Bps": "bytes/s", "short": ""}


def series_of(client: httpx.Client, query: Query, end: float, seconds: float, window: str) -> dict[str, Any]:
    """Return (times in seconds before the end, values) of each series of an expression, by its name in the legend."""
    expression = query.expression.replace("$__rate_interval", window)
    asked: dict[str, str | float] = {
        "query": expression,
        "start": end - seconds,
        "end": end,
        "step": max(1.0, seconds / 200),
    }
    answer = client.get("/api/v1/query_range", params=asked)
    if answer.status_code != 200:
        raise ValueError(f"{expression}: {answer.text}")
    found: dict[str, Any] = {}
    for each in answer.json()["data"]["result"]:
        parts = re.split(r"\{\{(\w+)\}\}", query.legend)  # every second one is the name of a label
        name = "".join(each["metric"].get(part, "") if number % 2 else part for number, part in enumerate(parts))
        found[name] = [(float(at) - end, float(value)) for at, value in each["values"]]
    return found


def draw(axes: Any, panel: Panel, plots: dict[str, Any]) -> None:
    """Draw one panel; the largest series are named."""
    largest = sorted(plots, key=lambda name: -max(value for _, value in plots[name]))
    for name in largest:
        times, values = zip(*plots[name], strict=True)
        label = name if name in largest[:MOST_NAMED] else None
        axes.plot([each / 60 for each in times], values, label=label and label[:56], linewidth=1)
    axes.set_title(panel.title, fontsize=8, loc="left", fontweight="bold")
    axes.set_ylabel(UNITS.get(panel.unit, panel.unit), fontsize=6)
    axes.tick_params(labelsize=6)
    axes.grid(visible=True, linewidth=0.3)
    axes.set_ylim(bottom=0)
    if plots:
        axes.legend(fontsize=5, loc="upper left", framealpha=0.6)
    else:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, fontsize=7, color="gray")


def main() -> None:
    """Read the arguments, and draw."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--window", default="1m", help="in place of Grafana's interval: four scrapes or more")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    lines = {row: -(-len(panels) // COLUMNS) for row, panels in ROWS.items()}
    figure, grid = pyplot.subplots(sum(lines.values()), COLUMNS, figsize=(20, 2.6 * sum(lines.values())))
    end, line = time.time(), 0
    with httpx.Client(base_url=args.prometheus, timeout=30) as client:
        for row, panels in ROWS.items():
            for number in range(lines[row] * COLUMNS):
                axes = grid[line + number // COLUMNS][number % COLUMNS]
                if number >= len(panels):
                    axes.set_axis_off()
                    continue
                plots: dict[str, Any] = {}
                for query in panels[number].queries:
                    plots |= series_of(client, query, end, args.minutes * 60, args.window)
                draw(axes, panels[number], plots)
                if not plots:
                    print(f"no data: {row}: {panels[number].title}")
            grid[line][0].annotate(row, (0, 1.18), xycoords="axes fraction", fontsize=11, fontweight="bold")
            line += lines[row]
    figure.tight_layout()
    figure.savefig(args.out, dpi=80)


if __name__ == "__main__":
    main()
