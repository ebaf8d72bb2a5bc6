"""What a Ray of one machine leaves out: every setting is one that this Ray reads, and nothing that is needed goes."""

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray._private import parameter, ray_constants, services
from ray.serve._private import application_state, cluster_node_info_cache, default_impl, proxy_state

from ops.building import FirstBuilds
from ops.cluster import AGENT_PORT, THROUGHPUT
from ops.one_machine import (
    CALLBACK,
    DASHBOARD_MODULES,
    GRAFANA,
    NODES_S,
    PARAMETERS,
    SETTINGS,
    ask_seldom_for_nodes,
    fewer_dashboard_modules,
    leave_out_fallback_proxy,
    parameters,
    prepare_controller,
)

CONSTANTS = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "ray.autoscaler._private.constants:AUTOSCALER_UPDATE_INTERVAL_S",
    "GCS_CHECK_ALIVE_INTERVAL_SECONDS": "ray.dashboard.consts:GCS_CHECK_ALIVE_INTERVAL_SECONDS",
    "METRICS_RECORD_INTERVAL_S": "ray.dashboard.consts:METRICS_RECORD_INTERVAL_S",
    "NODE_STATS_UPDATE_INTERVAL_SECONDS": "ray.dashboard.modules.node.node_consts:NODE_STATS_UPDATE_INTERVAL_SECONDS",
    "REPORTER_UPDATE_INTERVAL_MS": "ray.dashboard.modules.reporter.reporter_consts:REPORTER_UPDATE_INTERVAL_MS",
    "SCAN_EVENT_DIR_INTERVAL_SECONDS": "ray.dashboard.modules.event.event_consts:SCAN_EVENT_DIR_INTERVAL_SECONDS",
    "RAY_SERVE_EVENT_LOOP_MONITORING_INTERVAL_S": (
        "ray.serve._private.constants:RAY_SERVE_EVENT_LOOP_MONITORING_INTERVAL_S"
    ),
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "ray.serve._private.constants:RAY_SERVE_METRICS_EXPORT_INTERVAL_MS",
}
"""Settings of Ray's Python processes, and where those keep them."""
NATIVE = sorted(SETTINGS.keys() - CONSTANTS.keys())
READ = """
import importlib, json, sys
places = json.loads(sys.argv[1])
values = {name: getattr(importlib.import_module(place.partition(":")[0]), place.partition(":")[2])
          for name, place in places.items()}
from ray.dashboard import optional_utils, utils
from ray.dashboard.subprocesses.module import SubprocessModule
classes = utils.get_all_modules(utils.DashboardHeadModule) + utils.get_all_modules(SubprocessModule)
print(json.dumps([values, sorted(each.__name__ for each in classes if each.is_enabled())]))
"""


@pytest.fixture(scope="module")
def in_ray() -> tuple[dict[str, float], list[str]]:
    """Constants of Ray in a process with the settings, and the dashboard modules that it would load by itself."""
    answer = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(CONSTANTS)],
        env=os.environ | SETTINGS,
        capture_output=True,
        check=True,
        text=True,
    )
    values, modules = json.loads(answer.stdout.splitlines()[-1])
    return values, modules


def test_rays_python_processes_take_the_settings(in_ray: tuple[dict[str, float], list[str]]) -> None:
    values, _ = in_ray
    assert values == {name: float(SETTINGS[name]) for name in CONSTANTS}


@pytest.mark.parametrize("program", ["core/src/ray/raylet/raylet", "core/src/ray/gcs/gcs_server", "_raylet.so"])
def test_rays_native_processes_know_the_settings(program: str) -> None:
    """Each of them reads all of ``ray_config_def.h`` from its environment; a name that is not there has no effect."""
    path = Path(ray.__file__).parent / program
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        assert [name for name in NATIVE if image.find(f"{name}\0".encode()) < 0] == []
        assert image.find(b"RAY_no_such_setting\0") < 0


def test_settings_are_made_in_one_place() -> None:
    assert SETTINGS.keys().isdisjoint(THROUGHPUT)
    assert all(name.startswith("RAY_") for name in NATIVE)


def test_the_dashboard_loads_all_but_the_pages_of_others(in_ray: tuple[dict[str, float], list[str]]) -> None:
    _, modules = in_ray
    assert set(modules) - set(DASHBOARD_MODULES) == {"MetricsHead", "TrainHead"}
    assert set(DASHBOARD_MODULES) <= set(modules)


@pytest.mark.parametrize("given", ["", "RAY_GRAFANA_HOST", "RAY_PROMETHEUS_HOST"])
def test_the_dashboard_that_is_started_is_told_its_modules(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    started: list[tuple[list[str], str, dict[str, Any]]] = []
    monkeypatch.setattr(services, "start_ray_process", lambda *words, **options: started.append((*words, options)))
    for name in GRAFANA:
        monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(given, "http://127.0.0.1:3000")
    before = services.start_ray_process
    dashboard, raylet = ray_constants.PROCESS_TYPE_DASHBOARD, ray_constants.PROCESS_TYPE_RAYLET
    with fewer_dashboard_modules():
        services.start_ray_process(["dashboard.py"], dashboard, fate_share=True)
        services.start_ray_process(["raylet"], raylet, fate_share=False)
    modules = ",".join([*DASHBOARD_MODULES, *(["MetricsHead"] if given else [])])
    assert started == [
        (["dashboard.py", f"--modules-to-load={modules}"], dashboard, {"fate_share": True}),
        (["raylet"], raylet, {"fate_share": False}),
    ]
    assert services.start_ray_process is before


def test_a_ray_that_is_started_takes_the_parameters_and_later_ones_do_not() -> None:
    with parameters(dashboard_agent_listen_port=AGENT_PORT + 7, **PARAMETERS):
        params = parameter.RayParams(dashboard_port=8300)
    assert (params.dashboard_port, params.dashboard_agent_listen_port) == (8300, AGENT_PORT + 7)
    # The default of a node's process is True, and taken only where this is None.
    assert params.include_log_monitor is False
    later = parameter.RayParams()
    assert (later.dashboard_agent_listen_port, later.include_log_monitor) == (AGENT_PORT, None)


def manager() -> Any:
    """Serve's manager of proxies on the head node, with HAProxy there, which starts nothing."""
    made = object.__new__(proxy_state.ProxyStateManager)
    made.started = []
    made._head_node_id, made._running_native_proxies, made._fallback_proxy_state = "head", True, None
    made._http_options = made._grpc_options = SimpleNamespace()
    made._fallback_proxy_restart_count, made._timer = 0, None
    made._start_proxy = lambda **options: made.started.append(options["name"])
    made._generate_actor_name = lambda node_id: node_id
    return made


def test_the_controller_starts_no_proxy_beside_haproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        proxy_state.ProxyStateManager,
        "_start_fallback_proxy_if_needed",
        proxy_state.ProxyStateManager._start_fallback_proxy_if_needed,
    )
    monkeypatch.setattr(proxy_state, "ProxyState", SimpleNamespace)
    serves, ours = manager(), manager()
    serves._start_fallback_proxy_if_needed("head", "127.0.0.1", "i")
    leave_out_fallback_proxy()
    ours._start_fallback_proxy_if_needed("head", "127.0.0.1", "i")
    assert (serves.started, ours.started) == (["fallback-head"], [])
    assert ours.get_fallback_proxy_targets() == {}


def test_a_serve_that_has_changed_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = SimpleNamespace()
    monkeypatch.setattr(proxy_state, "ProxyStateManager", changed)
    monkeypatch.setattr(cluster_node_info_cache, "ClusterNodeInfoCache", changed)
    leave_out_fallback_proxy()
    ask_seldom_for_nodes()
    assert vars(changed) == {}


class Gcs:
    """Ray's GCS with one node, and how often it was asked for its nodes; out of reach until it ``answers``."""

    def __init__(self) -> None:
        self.asked, self.answers = 0, False

    def get_all_node_info(self, timeout: float) -> dict[Any, Any]:
        self.asked += 1
        if not self.answers:
            raise TimeoutError
        return {}

    def get_all_resource_usage(self, timeout: float) -> Any:
        return SimpleNamespace(resource_usage_data=SimpleNamespace(batch=[]))

    def get_draining_nodes(self, timeout: float) -> dict[str, int]:
        return {}


def test_the_controller_asks_seldom_for_nodes_but_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = cluster_node_info_cache.ClusterNodeInfoCache
    monkeypatch.setattr(kind, "update", kind.update)
    ask_seldom_for_nodes()
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    gcs = Gcs()
    caches = [default_impl.DefaultClusterNodeInfoCache(gcs) for _ in range(2)]
    with pytest.raises(TimeoutError):
        caches[0].update()
    gcs.answers = True
    for cache in caches * 3:
        cache.update()
    assert gcs.asked == 3  # once for each of two after the failure
    assert caches[0].get_alive_nodes() == caches[1].get_alive_nodes() == []
    now += NODES_S
    caches[0].update()
    assert gcs.asked == 4


def test_the_controller_is_prepared_by_what_the_variable_names(monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = CALLBACK.values()
    module, _, name = path.partition(":")
    assert getattr(sys.modules[module], name) is prepare_controller
    monkeypatch.setattr(application_state, "build_serve_application", application_state.build_serve_application)
    monkeypatch.setattr(proxy_state.ProxyStateManager, "_start_fallback_proxy_if_needed", print)
    monkeypatch.setattr(cluster_node_info_cache.ClusterNodeInfoCache, "update", print)
    prepare_controller()
    assert cluster_node_info_cache.ClusterNodeInfoCache.update is not print
    assert isinstance(application_state.build_serve_application, FirstBuilds)
    assert proxy_state.ProxyStateManager._start_fallback_proxy_if_needed is not print
