"""The dashboard and the rules are those that the command writes, and speak of metrics that there are."""

import json
import re

import pytest
import yaml

from deployments.serving.metrics import METRICS
from ops.monitoring.facts import ALERTS, ROWS
from ops.monitoring.write import DASHBOARD, RULES, written
from tests.graphs.harness import ROOT

PANELS = [panel for panels in ROWS.values() for panel in panels]
EXPRESSIONS = [query.expression for panel in PANELS for query in panel.queries] + [a.expression for a in ALERTS]
ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count")}
EXPORTED = {
    f"ray_visiongraph_{name}{ending}": metric for name, metric in METRICS.items() for ending in ENDINGS[metric.kind]
}
OTHERS = {"ray_node_cpu_utilization", "ray_node_mem_used", "haproxy_frontend_http_responses_total", "up"}


def test_the_files_are_what_the_command_writes() -> None:
    for path, text in written().items():
        assert path.read_text() == text, f"run `python -m ops.monitoring`: {path.name} is old"


def test_every_metric_is_on_the_dashboard_and_nothing_else_is() -> None:
    asked = set(re.findall(r"\b(?:ray|haproxy)_\w+", " ".join(EXPRESSIONS)))
    assert asked <= set(EXPORTED) | OTHERS
    shown = " ".join(query.expression for panel in PANELS for query in panel.queries)
    assert [
        name for name in METRICS if not re.search(rf"ray_visiongraph_{name}(_total|_bucket|_count)?\b", shown)
    ] == []


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_labels_are_those_of_the_metrics(expression: str) -> None:
    for name, selector in re.findall(r"(ray_visiongraph_\w+)\{([^}]*)\}", expression):
        labels = re.findall(r"(\w+)(?:=~|!~|!=|=)", selector)
        assert set(labels) <= set(EXPORTED[name].labels), name
    known = {label for name, metric in EXPORTED.items() if name in expression for label in metric.labels}
    for listed in re.findall(r"\bby \(([^)]*)\)", expression):
        assert set(re.split(r",\s*", listed)) <= known | {"le", "NodeAddress", "instance", "code"}


def test_grafana_reads_the_dashboard() -> None:
    board = json.loads(DASHBOARD.read_text())
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    plots = [panel for panel in board["panels"] if panel["type"] == "timeseries"]
    assert rows == list(ROWS)
    assert [panel["title"] for panel in plots] == [panel.title for panel in PANELS]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in plots]
    assert all(x + width <= 24 for x, _, width, _ in places)
    for n, (x, y, w, h) in enumerate(places):
        assert not any(x < x2 + w2 and x2 < x + w and y < y2 + h2 and y2 < y + h for x2, y2, w2, h2 in places[:n])
    source = yaml.safe_load((ROOT / "ops/deploy/grafana/provisioning/datasources/prometheus.yaml").read_text())
    assert {panel["datasource"]["uid"] for panel in plots} == {source["datasources"][0]["uid"]}


def test_every_alert_says_what_to_do_and_is_in_the_documentation() -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    page = (ROOT / "docs" / "monitoring.md").read_text()
    assert "## Alerts" in page
    for rule, alert in zip(group["rules"], ALERTS, strict=True):
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["description"].endswith(".")
        assert f"| {alert.name} |" in page


def test_every_metric_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    for name, metric in METRICS.items():
        labels = ", ".join(metric.labels)
        assert f"| `{name}` | {metric.kind} | {labels} |" in page, name
