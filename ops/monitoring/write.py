"""The files that are made of ``facts``: a dashboard for Grafana, rules for Prometheus."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, Final

import yaml
from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, SortOrder, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from ops.monitoring.facts import ALERTS, ROWS, RUNBOOK, Panel

DEPLOY: Final = Path(__file__).parents[1] / "deploy"
DASHBOARD: Final = DEPLOY / "grafana" / "dashboards" / "visiongraph.json"
RULES: Final = DEPLOY / "prometheus" / "rules" / "visiongraph.yml"
WIDTH: Final = 24
"""Of Grafana's grid."""
IN_A_ROW: Final = 3
HEIGHT: Final = 8
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="prometheus")


def written() -> Mapping[Path, str]:
    """Return the text of every file."""
    return {DASHBOARD: made_dashboard(), RULES: made_rules()}


def made_dashboard() -> str:
    """Return the dashboard as JSON, as Grafana reads it from a file."""
    board = (
        dashboard.Dashboard("visiongraph")
        .uid("visiongraph")
        .tags(["visiongraph"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    numbers = count(1)
    for title, panels in ROWS.items():
        board.with_row(dashboard.Row(title).id(next(numbers)))
        for panel in panels:
            board.with_panel(_panel(panel).id(next(numbers)))
    return JSONEncoder(sort_keys=True, indent=1).encode(board.build()) + "\n"


def _panel(panel: Panel) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(WIDTH // IN_A_ROW)
        .height(HEIGHT)
        .min(0)
        .fill_opacity(10)
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    for number, query in enumerate(panel.queries):
        made.with_target(
            prometheus.Dataquery()
            .ref_id(chr(ord("A") + number))
            .expr(query.expression)
            .legend_format(query.legend)
            .range()
            .datasource(SOURCE)
        )
    return made


class _Dumper(yaml.SafeDumper):
    """Writes lists as people do, their dashes indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def made_rules() -> str:
    """Return the alerts as rules of Prometheus, in YAML."""
    rules: list[dict[str, Any]] = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": f"{alert.minutes}m",
            "labels": {"severity": alert.severity},
            "annotations": {
                "summary": alert.summary,
                "description": alert.action,
                "runbook": RUNBOOK,
            },
        }
        for alert in ALERTS
    ]
    groups = {"groups": [{"name": "visiongraph", "rules": rules}]}
    note = "# Made by `python -m ops.monitoring` from ops/monitoring/facts.py.\n"
    return note + yaml.dump(groups, Dumper=_Dumper, sort_keys=False, width=45, allow_unicode=True)
