"""A real Prometheus that scrapes a service every second, with the rules that are deployed."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from ops.cluster import free_port
from ops.monitoring.write import RULES
from tests.waiting import PATIENCE_S

PROGRAM = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
CONFIG = RULES.parents[1] / "prometheus.yml"
WINDOW = "8s"
"""In place of Grafana's interval."""

Series = list[dict[str, Any]]


class Prometheus:
    """A client of one."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **params: str | float) -> Any:
        """What an API route gives; it must succeed."""
        answer = httpx.get(f"{self._url}/api/v1/{path}", params=params, timeout=30)
        assert answer.status_code == 200, f"{params}: {answer.text}"
        return answer.json()["data"]

    def query(self, expression: str) -> Series:
        """The series of an expression now."""
        series: Series = self.get("query", query=expression.replace("$__rate_interval", WINDOW))["result"]
        return series

    def wait(self, expression: str, seconds: float = 60) -> Series:
        """The series of an expression as soon as there are any."""
        until = time.monotonic() + seconds
        while not (series := self.query(expression)):
            assert time.monotonic() < until, f"no data: {expression}"
            time.sleep(0.2)
        return series


@contextmanager
def prometheus(folder: Path, targets: dict[str, str], interval: str = "1s") -> Iterator[Prometheus]:
    """A Prometheus of the deployed configuration, whose jobs scrape these addresses."""
    assert PROGRAM is not None
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    config["rule_files"] = [str(RULES)]
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] in targets]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    folder.mkdir(parents=True, exist_ok=True)
    path, address = folder / "prometheus.yml", f"127.0.0.1:{free_port(0)}"
    path.write_text(yaml.safe_dump(config))
    command = [PROGRAM, f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}", "--log.level=error"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                if httpx.get(f"http://{address}/-/ready").status_code == 200:
                    break
            except httpx.TransportError:
                assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(30)
