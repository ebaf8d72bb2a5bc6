"""What a Ray of one machine leaves out, or does less often than Ray's defaults for clusters of many nodes.

A service that nobody asks should cost next to nothing, and most of what it costs is Ray waking up: to look for new log
files ten times a second, for nodes to start or stop, for tasks that no Serve application has. What stays as often as it
was finds processes that have died. ``visiongraph serve`` uses this where it starts Ray itself: a cluster that it joins
has settings of its own. ops/bench/reports/idle.md has the figures, and what no setting reaches.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from ops.building import build_here

SETTINGS: Final = {
    # The raylet: its memory and disk are looked at once a second, its resources reported as often when they change.
    "RAY_memory_monitor_refresh_ms": "1000",
    "RAY_local_fs_monitor_interval_ms": "1000",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_raylet_check_gc_period_milliseconds": "1000",
    "RAY_kill_idle_workers_interval_ms": "1000",
    # Objects that come from other nodes.
    "RAY_object_manager_timer_freq_ms": "1000",
    # What an autoscaler of nodes wants to know.
    "RAY_gcs_pull_resource_loads_period_milliseconds": "10000",
    "RAY_report_worker_backlog_interval_ms": "10000",
    "AUTOSCALER_UPDATE_INTERVAL_S": "60",
    # What Ray measures of itself, and shows of tasks: as often as its metrics leave a process.
    "RAY_io_context_monitor_probe_interval_ms": "10000",
    "RAY_task_events_report_interval_ms": "10000",
    "RAY_ray_events_report_interval_ms": "10000",
    "RAY_debug_dump_period_milliseconds": "60000",
    # Counts and times of everything that an event loop does, for debug_state.txt: a sixth of what an idle worker costs.
    "RAY_event_stats": "0",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
    "RAY_SERVE_EVENT_LOOP_MONITORING_INTERVAL_S": "30",
    # The dashboard reads /proc of every process: its figures are this old at most.
    "REPORTER_UPDATE_INTERVAL_MS": "30000",
    "NODE_STATS_UPDATE_INTERVAL_SECONDS": "15",
    "METRICS_RECORD_INTERVAL_S": "60",
    "SCAN_EVENT_DIR_INTERVAL_SECONDS": "60",
    "GCS_CHECK_ALIVE_INTERVAL_SECONDS": "30",
}
"""Environment of Ray's processes: names of ``ray_config_def.h`` and of constants of Serve and of the dashboard."""

PARAMETERS: Final = {
    # It brings what workers print to drivers that ask for it (``log_to_driver``); the files stay where they are.
    "include_log_monitor": False,
}
"""Parameters of Ray's node for which ``ray.init`` has no option."""

DASHBOARD_MODULES: Final = (
    *("DataHead", "EventHead", "JobHead", "NodeHead", "ReportHead", "ServeHead", "StateHead", "UsageStatsHead"),
)
"""What the dashboard loads, each a process with a health check a second: all but Ray Train's page and Grafana's."""
GRAFANA: Final = {"RAY_GRAFANA_HOST", "RAY_PROMETHEUS_HOST"}
"""Variables by which the dashboard is told that there is a Grafana, or a Prometheus, to show."""

CALLBACK: Final = {"RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH": f"{__name__}:prepare_controller"}


NODES_S: Final = 5.0


@contextmanager
def parameters(**values: Any) -> Iterator[None]:
    """Make a Ray that is started take these parameters, for which ``ray.init`` has no options."""
    from ray._private import parameter

    params = parameter.RayParams
    parameter.RayParams = partial(params, **values)
    try:
        yield
    finally:
        parameter.RayParams = params


@contextmanager
def fewer_dashboard_modules() -> Iterator[None]:
    """Make a Ray that is started load into its dashboard what it is used for here; only that program has the option."""
    from ray._private import ray_constants, services

    start = services.start_ray_process
    names = (*DASHBOARD_MODULES, "MetricsHead") if GRAFANA & os.environ.keys() else DASHBOARD_MODULES

    def start_process(command: list[str], process_type: str, *args: Any, **options: Any) -> Any:
        if process_type == ray_constants.PROCESS_TYPE_DASHBOARD:
            command = [*command, f"--modules-to-load={','.join(names)}"]
        return start(command, process_type, *args, **options)

    services.start_ray_process = start_process
    try:
        yield
    finally:
        services.start_ray_process = start


def prepare_controller() -> None:
    """Prepare Serve's controller, which calls this when it starts."""
    build_here()
    leave_out_fallback_proxy()
    ask_seldom_for_nodes()


def leave_out_fallback_proxy() -> None:
    """Make Serve's controller start no Python proxy beside HAProxy; where Serve has changed do nothing.

    It would answer where no replica is there, and ops.haproxy lets nothing through to it.
    """
    from ray.serve._private import proxy_state

    manager: Any = getattr(proxy_state, "ProxyStateManager", None)
    if callable(getattr(manager, "_start_fallback_proxy_if_needed", None)):
        manager._start_fallback_proxy_if_needed = _start_none


def _start_none(*_: object) -> None:
    """Stand for ``_start_fallback_proxy_if_needed``."""


def ask_seldom_for_nodes() -> None:
    """Make Serve's controller ask for the nodes and what is free on them every ``NODES_S``, not in each control loop.

    Where Serve has changed do nothing.
    """
    from ray.serve._private import cluster_node_info_cache

    cache: Any = getattr(cluster_node_info_cache, "ClusterNodeInfoCache", None)
    update = getattr(cache, "update", None)
    if not callable(update):
        return

    def update_seldom(self: Any) -> None:
        now = time.monotonic()
        if now >= getattr(self, "next_update", now):
            update(self)
            self.next_update = now + NODES_S

    cache.update = update_seldom
