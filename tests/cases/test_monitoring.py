"""A real Prometheus scrapes a loaded service, and every expression of the dashboard and of the alerts is run."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from ops.cluster import free_port
from ops.monitoring.facts import ALERTS, ROWS
from ops.monitoring.write import RULES
from tests.cases.prometheus import PROGRAM, PROMTOOL, Prometheus, prometheus
from tests.graphs.harness import ROOT
from tests.graphs.samples import picture
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no Prometheus here (Debian's package prometheus)")


class Load(threading.Thread):
    """A client that sends what people send, bad requests included, until it is stopped."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.stopped = threading.Event()
        self.sent = 0

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self.stopped.is_set():
                data = picture(self.sent % 4)
                asset = client.post("/api/v1/upload-media", files={"file": ("a.png", data)}).json()["asset_id"]
                client.post("/api/v1/extract-features", json={"asset_id": asset}).raise_for_status()
                client.get(f"/api/v1/media/{asset}/content").raise_for_status()
                client.post("/api/v1/semantic-search", json={"query_asset_id": asset}).raise_for_status()
                assert client.get(f"/no/such/{self.sent}").status_code == 404
                client.get("/livez").raise_for_status()
                self.sent += 1


class Monitored:
    """A running service, what loads it, and the Prometheus that scrapes it."""

    def __init__(self, process: "subprocess.Popen[str]", load: Load, prometheus: Prometheus) -> None:
        self.process, self.load, self.prometheus = process, load, prometheus


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    home, port = tmp_path_factory.mktemp("monitored"), free_port(0)
    environment = os.environ | {
        "VISION_HOME": str(home / "home"),
        "RATE_LIMIT_ENABLED": "false",
        "RAY_ADDRESS": "local",
        "RAY_metrics_report_interval_ms": "1000",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "PYTHONPATH": str(ROOT),
    }
    with tempfile.TemporaryDirectory(prefix="vg") as ray_folder, (home / "log").open("w") as log:
        command = [sys.executable, "-m", "tests.cases.monitored", str(port), ray_folder]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        api = next((line for line in lines if line.strip().isdigit()), None)
        assert api is not None, (home / "log").read_text()[-4000:]
        load = Load(f"http://127.0.0.1:{int(api)}")
        load.start()
        try:
            with prometheus(home / "prometheus", {"visiongraph": f"127.0.0.1:{port}"}) as server:
                server.wait("rate(ray_visiongraph_requests_total[8s]) > 0")
                server.wait("rate(ray_visiongraph_job_frames_total[8s]) > 0")
                yield Monitored(process, load, server)
        finally:
            load.stopped.set()
            load.join(30)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)
            process.stdout.close()


PANELS = [(f"{row}: {panel.title}", panel) for row, panels in ROWS.items() for panel in panels]


def test_every_panel_has_data_under_load(monitored: Monitored) -> None:
    empty: dict[str, str] = {}
    for _ in range(20):  # what happens seldom is not in the first seconds
        empty = {}
        for title, panel in PANELS:
            for query in panel.queries:
                series = monitored.prometheus.query(query.expression)
                wanted = panel.source == "service" and not panel.fault and "fault" not in query.expression
                if wanted and not any(each["value"][1] != "NaN" for each in series):
                    empty[title] = query.expression
        if not empty:
            break
        time.sleep(1)
    assert empty == {}
    assert monitored.load.is_alive()


def test_figures_are_those_of_the_load(monitored: Monitored) -> None:
    count = "sum(ray_visiongraph_requests_total{%s})"
    sent = monitored.load.sent
    monitored.prometheus.wait(count % 'route="/api/v1/extract-features"' + f" >= {sent}")
    uploads = monitored.prometheus.query(count % 'route="/api/v1/upload-media",status="200",method="POST",api="assets"')
    unknown = monitored.prometheus.query(count % 'route="other",status="404"')
    assert sent <= float(uploads[0]["value"][1]) <= monitored.load.sent + 1
    assert sent <= float(unknown[0]["value"][1]) <= monitored.load.sent + 1
    frames = float(monitored.prometheus.query("sum(ray_visiongraph_job_frames_total)")[0]["value"][1])
    assert frames > 0
    assert frames % 25 == 0
    ended = monitored.prometheus.query('sum(ray_visiongraph_job_attempts_total{outcome="succeeded"})')
    assert float(ended[0]["value"][1]) <= frames / 100
    routes = monitored.prometheus.query("group by (route) (ray_visiongraph_requests_total)")
    assert {each["metric"]["route"] for each in routes} == {
        "/api/v1/upload-media",
        "/api/v1/extract-features",
        "/api/v1/media/{asset_id}/content",
        "/api/v1/semantic-search",
        "/livez",
        "other",
    }


def test_every_alert_is_evaluated_and_none_fires_while_all_is_well(monitored: Monitored) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        (group,) = monitored.prometheus.get("rules")["groups"]
        rules = {rule["name"]: rule for rule in group["rules"]}
        if all(rule["health"] != "unknown" for rule in rules.values()) or time.monotonic() > until:
            break
        time.sleep(0.2)
    assert {name: rule.get("lastError") for name, rule in rules.items() if rule["health"] != "ok"} == {}
    assert set(rules) == {alert.name for alert in ALERTS}
    active = {name for name, rule in rules.items() if rule["state"] != "inactive"}
    assert active - {"VisiongraphDiskLow", "VisiongraphDiskFull"} == set()


def test_the_rules_pass_promtool() -> None:
    if PROMTOOL is None:
        pytest.skip("there is no promtool here (Debian's package prometheus)")
    done = subprocess.run([PROMTOOL, "check", "rules", str(RULES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_a_service_that_ends_is_missed(monitored: Monitored) -> None:
    """The last one here, as it ends the service."""
    (down,) = [alert for alert in ALERTS if alert.name == "VisiongraphDown"]
    (target,) = [alert for alert in ALERTS if alert.name == "VisiongraphTargetDown"]
    for alert in (down, target):
        assert monitored.prometheus.query(alert.expression) == []
    monitored.load.stopped.set()
    monitored.load.join(30)
    assert monitored.process.stdin is not None
    monitored.process.stdin.close()
    monitored.process.wait(60)
    monitored.prometheus.wait(down.expression)
    monitored.prometheus.wait(target.expression)
