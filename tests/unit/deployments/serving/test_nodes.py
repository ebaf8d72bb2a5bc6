"""Several nodes: embedded stores are refused on them, and a replica's own server listens where others need it."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import psutil
import pytest
import ray
import uvicorn
from ray.serve._private import replica

from configs.settings import Settings, settings
from deployments.serving.catalog import StageHost, room
from deployments.serving.nodes import HEAD, StoresOfOneMachine, require_shared_stores, start_on_node
from graphs.jobs.worker import worker
from graphs.web.gateway import gateway
from ops.check import CONFIGS
from ops.check.fault import Report
from ops.check.serving import read

SHARED = {
    "objects_url": "s3://bucket?endpoint_url=http://store:8333",
    "documents_url": "mongodb://store/vision",
    "vectors_url": "s3://bucket/vectors",
    "cache_url": "redis://store:6379/0",
}
URLS = [f"VISION_{name.upper()}" for name in SHARED]


def node(name: str, *, head: bool = False, cpus: float = 4, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": {"CPU": cpus} | ({HEAD: 1.0} if head else {})}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Where this process thinks it is; stores are embedded until a test says otherwise."""
    place = SimpleNamespace(nodes=[node("a", head=True), node("b")], here="b", address="10.0.0.7", gpus=["0"])
    context = SimpleNamespace(get_node_id=lambda: place.here, get_accelerator_ids=lambda: {"GPU": place.gpus})
    monkeypatch.setattr(replica, "add_port_to_grpc_server", replica.add_port_to_grpc_server)
    monkeypatch.setattr(uvicorn.Server, "main_loop", uvicorn.Server.main_loop)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: place.nodes)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: place.address)
    for name in URLS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VISION_HOME", str(tmp_path))
    settings.cache_clear()
    yield place
    settings.cache_clear()


def test_what_to_set_is_said_by_name(tmp_path: Path) -> None:
    with pytest.raises(StoresOfOneMachine) as refused:
        require_shared_stores(Settings(home=tmp_path, cache_url="unix:///run/valkey.sock"), 3)
    text = str(refused.value)
    assert "has 3 nodes" in text
    assert (
        "set VISION_OBJECTS_URL (s3://…), VISION_DOCUMENTS_URL (mongodb://…), VISION_VECTORS_URL (s3://…) and "
        "VISION_CACHE_URL (redis://…), to stores that all nodes reach"
    ) in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("objects_url", "file:///mnt/objects"),
        ("documents_url", "sqlite:////mnt/documents.sqlite"),
        ("vectors_url", ""),
        ("cache_url", "unix:///run/valkey.sock?db=1"),
    ],
)
def test_one_store_of_one_machine_is_enough_to_refuse(name: str, url: str) -> None:
    require_shared_stores(Settings.model_validate(SHARED), 8)
    with pytest.raises(StoresOfOneMachine) as refused:
        require_shared_stores(Settings.model_validate(SHARED | {name: url}), 2)
    assert [each for each in URLS if each in str(refused.value)] == [f"VISION_{name.upper()}"]


def test_one_node_has_what_it_likes(tmp_path: Path) -> None:
    require_shared_stores(Settings(home=tmp_path), 1)
    require_shared_stores(Settings(home=tmp_path), 0)


def test_a_cluster_without_a_cache_is_served(tmp_path: Path) -> None:
    require_shared_stores(Settings.model_validate(SHARED | {"cache_url": ""}), 2)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_no_application_of_any_configuration_is_built_over_them(cluster: Any, config: Path) -> None:
    builders = {"room": room, "gateway": gateway, "worker": worker}
    data = read(config, Report(""))
    assert data is not None
    for app in data["applications"]:
        with pytest.raises(StoresOfOneMachine):
            builders[app["import_path"].partition(":")[2]](app.get("args") or {})


@pytest.mark.parametrize("other", [node("b", cpus=0), node("b", alive=False)], ids=["without CPUs", "dead"])
def test_a_node_on_which_nothing_runs_does_not_count(cluster: Any, other: dict[str, Any]) -> None:
    cluster.nodes = [node("a"), other]
    room({"stages": ["quality/blur"]})


def test_a_replica_on_a_node_that_joined_later_does_not_start(cluster: Any) -> None:
    with pytest.raises(StoresOfOneMachine):
        StageHost(["quality/blur"])
    cluster.here = "a"
    StageHost(["quality/blur"])


def test_with_shared_stores_replicas_start_anywhere(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, url in SHARED.items():
        monkeypatch.setenv(f"VISION_{name.upper()}", url)
    settings.cache_clear()
    StageHost(["quality/blur"])
    room({"stages": ["quality/blur"]})


@pytest.mark.parametrize(("address", "host"), [("127.0.0.1", "127.0.0.1"), ("10.0.0.7", "::"), ("127.0.0.2", "::")])
def test_serves_own_server_of_a_replica_listens_where_its_node_does(cluster: Any, address: str, host: str) -> None:
    cluster.address, cluster.here = address, "a"
    start_on_node()
    server = grpc.server(ThreadPoolExecutor(1))
    port = replica.add_port_to_grpc_server(server, "[::]:0")
    server.start()
    listening = [each.laddr for each in psutil.Process().net_connections() if each.laddr.port == port]
    hosts = {address.ip.removeprefix("::ffff:") for address in listening}
    server.stop(None)
    assert hosts in ({host}, {"0.0.0.0" if host == "::" else host})  # without IPv6


@pytest.mark.parametrize(("gpus", "seen"), [(["0"], "0,1"), ([], "")])
def test_a_replica_sees_the_gpus_that_it_has_a_share_of(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, gpus: list[str], seen: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    cluster.gpus, cluster.address = gpus, "127.0.0.1"
    start_on_node()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


@pytest.mark.parametrize("address", ["10.0.0.7", "127.0.0.1"])
async def test_the_web_server_of_a_replica_wakes_once_a_second_and_ends_when_told_to(
    cluster: Any, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.address, cluster.here = address, "a"
    start_on_node()
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        server.should_exit = len(naps) == 3

    monkeypatch.setattr(asyncio, "sleep", sleep)
    server = uvicorn.Server(uvicorn.Config(lambda: None, headers=[("x-by", "us")]))
    before = int(time.time())
    await server.main_loop()
    assert naps == [1.0, 1.0, 1.0]
    (date, headers) = server.server_state.default_headers[0], server.server_state.default_headers[1:]
    assert before <= parsedate_to_datetime(date[1].decode()).timestamp() <= time.time()
    assert (date[0], headers) == (b"date", server.config.encoded_headers)
