"""Read a film slowly while its gateway is replaced and HAProxy reloaded; print what came of it, as JSON."""

import copy
import hashlib
import json
import os
import struct
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any, Final

import httpx
import yaml

from ops.cluster import Cluster, free_port
from tests.graphs.samples import video

PADDING: Final = 48 * 2**20
BYTES_PER_S: Final = 1.5e6
"""Of the slow reader: what the buffers on the way do not hold takes longer than a replica that is killed would live."""
READY_WITHIN_S: Final = 240


def configuration(graceful_shutdown_timeout_s: float | None) -> dict[str, Any]:
    """That of one small box, with its gateway alone, which loads no model."""
    config: dict[str, Any] = yaml.safe_load(Path("configs/laptop.yaml").read_text())
    gateway = next(app for app in config["applications"] if app["name"] == "gateway")
    gateway["args"] = {"apis": ["assets"]}
    [line] = gateway["deployments"]
    line |= {"num_replicas": 1}
    line.pop("user_config", None)
    if graceful_shutdown_timeout_s is not None:
        line["graceful_shutdown_timeout_s"] = graceful_shutdown_timeout_s
    config["applications"] = [gateway]
    config["http_options"] |= {"host": "127.0.0.1", "port": free_port(8700)}
    return config


class Asking(Thread):
    """Asks all the time; ``failures`` are answers and errors that no client should see."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.asked, self.ending = 0, False
        self.failures: list[str] = []

    def run(self) -> None:
        """Ask until it is to end."""
        while not self.ending:
            try:
                answer = httpx.get(self._url, timeout=30)
                if answer.status_code != 200:
                    self.failures.append(str(answer.status_code))
            except httpx.HTTPError as error:
                self.failures.append(type(error).__name__)
            self.asked += 1
            time.sleep(0.02)


def gateways(cluster: Cluster) -> dict[int, str]:
    """The state of each replica of the gateway by its process id."""
    details = cluster._client.get_serve_details()["applications"]
    deployments = details.get("gateway", {}).get("deployments", {})
    replicas = deployments.get("gateway", {}).get("replicas", [])
    return {replica["pid"]: replica["state"] for replica in replicas if replica.get("pid")}


def await_gateway(cluster: Cluster, base: str, without: set[int]) -> set[int]:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        running = {pid for pid, state in gateways(cluster).items() if state == "RUNNING"}
        try:
            if running and not running & without and httpx.get(f"{base}/livez", timeout=5).status_code == 200:
                return running
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise TimeoutError("no gateway")


def main(home: Path, graceful_shutdown_timeout_s: float | None) -> None:
    """Deploy, read, and deploy another configuration meanwhile."""
    os.environ |= {"VISION_HOME": str(home), "RAY_ADDRESS": "local", "RATE_LIMIT_ENABLED": "false"}
    home.mkdir(parents=True, exist_ok=True)
    config = configuration(graceful_shutdown_timeout_s)
    base = f"http://127.0.0.1:{config['http_options']['port']}"
    cluster = Cluster(free_port(8765))
    result: dict[str, Any] = {}
    try:
        cluster.connect(home)
        cluster.deploy(config)
        first = await_gateway(cluster, base, set())
        film = video(1) + struct.pack(">I4s", PADDING + 8, b"free") + os.urandom(PADDING)
        answer = httpx.post(f"{base}/api/v1/upload-media", files={"file": ("film.mp4", film)}, timeout=120)
        address = f"{base}/api/v1/media/{answer.raise_for_status().json()['asset_id']}/content"
        asking = Asking(f"{base}/livez")
        asking.start()
        second: list[set[int]] = []

        def replace() -> None:
            changed = copy.deepcopy(config)
            changed["applications"][0]["args"]["calls"] = {"max_batch": 5}
            cluster.deploy(changed)
            second.append(await_gateway(cluster, base, first))

        updating = Thread(target=replace)
        got, error, states = bytearray(), "", set()
        try:
            with httpx.stream("GET", address, timeout=60) as reading:
                started = time.monotonic()
                for chunk in reading.iter_raw(64 * 1024):
                    got += chunk
                    if updating.ident is None:
                        updating.start()
                    time.sleep(max(0.0, started + len(got) / BYTES_PER_S - time.monotonic()))
                    states |= {"replaced"} if second else set()
        except httpx.HTTPError as failure:
            error = type(failure).__name__
        seconds = time.monotonic() - started
        updating.join()
        asking.ending = True
        asking.join()
        rest = httpx.get(address, headers={"range": f"bytes={len(got)}-"}, timeout=120).content if error else b""
        result = {
            "seconds": round(seconds, 1),
            "error": error,
            "whole": hashlib.sha256(got).digest() == hashlib.sha256(film).digest(),
            "resumed": bytes(got) + rest == film,
            "replaced_meanwhile": "replaced" in states,
            "failures": asking.failures,
            "asked": asking.asked,
        }
    finally:
        cluster.close()
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else None)
