"""A server that is being measured: started, waited for, ended."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from ops.cluster import free_port


@contextmanager
def running(argv: list[str], ready_url: str, environment: dict[str, str]) -> Iterator[None]:
    """A server process from its first answer to the end of the block."""
    process = subprocess.Popen(argv, env=os.environ | environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(600):
            try:
                if httpx.get(ready_url, timeout=2).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if process.poll() is not None:
                raise SystemExit(f"{argv} ended with {process.returncode}")
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            # LitServe's workers do not always hear it; the session is the process's own.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def service(**environment: str) -> Iterator[int]:
    """The whole service on fresh stores, without limits for single clients; gives its port."""
    port = free_port(8100)
    argv = [sys.executable, "-m", "ops.cli.main", "serve", "--port", str(port)]
    argv += ["--dashboard-port", str(free_port(8266))]
    with tempfile.TemporaryDirectory() as home:
        unlimited = {"VISION_HOME": home, "RATE_LIMIT_ENABLED": "false"}
        with running(argv, f"http://127.0.0.1:{port}/readyz", unlimited | environment):
            yield port
