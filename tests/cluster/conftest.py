"""The real service on a real Ray cluster, started by the command line as a newcomer starts it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from ops.cluster import free_port
from tests.graphs.conftest import picture

READY_WITHIN_S = 240
LAST = ("test_serving", "test_docs", "test_notebooks", "test_crashes", "test_faults", "test_power_cut")
"""Modules that share one start of the service, the one that kills it for good at the end; others have their own Ray."""


@dataclass
class RunningService:
    """A service started by ``visiongraph serve``; ``home`` holds its stores."""

    home: Path
    port: int
    dashboard_port: int
    process: subprocess.Popen[bytes]
    log: Path
    killed: bool = False
    """By a test, so that nobody stops it."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    def client(self, timeout: float = 60) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=timeout)

    def processes(self, title: str) -> list[psutil.Process]:
        """Live processes below the service whose command line has this title."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if title in " ".join(child.cmdline()):
                    found.append(child)
            except psutil.Error:
                continue
        return found

    def stop(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)


def start(
    home: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    *,
    port: int | None = None,
    wait: bool = True,
    within_s: float = READY_WITHIN_S,
) -> RunningService:
    """Start it on this port or a free one, with more variables and options, and wait until it is ready."""
    port, dashboard_port = port or free_port(8300), free_port(8365)
    command = [sys.executable, "-m", "ops.cli.main", "serve", "--port", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, "--dashboard-port", str(dashboard_port), *options],
            env=os.environ
            # A Ray of its own, whatever else runs on this machine.
            | {"VISION_HOME": str(home), "RATE_LIMIT_ENABLED": "false", "RAY_ADDRESS": "local"}
            | dict(environment or {}),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    service = RunningService(home, port, dashboard_port, process, log)
    if wait:
        await_ready(service, within_s)
    return service


def await_ready(service: RunningService, within_s: float = READY_WITHIN_S) -> None:
    """Wait until a service that was started is ready, and all its stages that are not on demand are loaded."""
    process = service.process
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{service.url}/readyz", timeout=5).status_code == 200:
                models = httpx.get(f"{service.url}/health", timeout=10).json()["models"]
                if not any(model["loading"] for model in models):
                    return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    text = service.log.read_text()
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    pytest.fail(f"the service is not ready after {within_s:.0f} s:\n{text}")


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("cluster")
    service = start(folder / "home", folder / "serve.log")
    yield service
    if not service.killed:
        assert service.stop() == 0, service.log.read_text()


@pytest.fixture
def client(running: RunningService) -> Iterator[httpx.Client]:
    with running.client() as made:
        yield made


def upload(client: httpx.Client, data: bytes, name: str = "photo.jpg") -> str:
    """The asset id of an upload that must succeed."""
    answer = client.post("/api/v1/upload-media", files={"file": (name, data)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["asset_id"])


def photo(seed: int) -> bytes:
    """A 320×240 JPEG."""
    return picture(seed, size=(320, 240), fmt="JPEG")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the modules of this folder into the order of ``LAST``."""

    def place(item: pytest.Item) -> int:
        shared = item.path.parent == Path(__file__).parent and item.path.stem in LAST
        return LAST.index(item.path.stem) if shared else -1

    items.sort(key=place)
