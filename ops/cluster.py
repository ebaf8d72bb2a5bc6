"""Deploy the service to a Ray cluster: start one when none runs, and restore the state before at the end."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from configs.settings import settings, variables

log = logging.getLogger(__name__)

# With its defaults Serve spends more on hops and logging than these models take: see ops/bench/reports.
THROUGHPUT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    # Large calls go another way (deployments.serving.stage.needs_reference); large results come back over gRPC.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(256 * 2**20),
    # Ray runs its workers at nice 15; these answer requests.
    "RAY_worker_niceness": "0",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "1000",
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "1",
    # How often Ray scans for new log files, which costs a hundredth of a core by default.
    "LOG_NAME_UPDATE_INTERVAL_S": "5",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Serve's HAProxy does not forward the address of its client, and passes on the headers with which clients claim one,
# which uvicorn would trust. The one setting that is copied verbatim into its configuration makes it append the address.
FORWARDING = {"RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": "leastconn\n    option forwardfor"}
# Each change of replicas reloads HAProxy. The process before it lives until its streams end, but no longer than this;
# it closes connections that are idle at once, as it would send their next request to replicas that are gone.
RELOADS = {
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(4 * 3600),
    "RAY_SERVE_HAPROXY_CLOSE_SPREAD_TIME_S": "10",
}
HAPROXY_PORTS = {"RAY_SERVE_HAPROXY_METRICS_PORT": 9101, "RAY_SERVE_HAPROXY_STATS_PORT": 8404}
OBJECT_STORE_BYTES = 512 * 2**20
METRICS_PORT = 8090
WORKER = "graphs.jobs.worker:worker"
"""``import_path`` of applications that run durable jobs."""
GIVE_BACK_WITHIN_S = 10
DONE = {"RUNNING", "DEPLOY_FAILED", "UNHEALTHY"}


class ClusterError(Exception):
    """The cluster could not be started or reached; the message says what to do."""


@dataclass(frozen=True)
class ApplicationStatus:
    """The state of one application: running and wanted replicas, and the first error message, if any."""

    name: str
    status: str
    message: str
    running: int
    wanted: int


class Cluster:
    """The Ray cluster that the applications are deployed to."""

    def __init__(self, dashboard_port: int = 8265) -> None:
        self._dashboard_port = dashboard_port
        self.started_here = False
        self.dashboard_url = ""
        self.metrics_url = ""
        self._client: Any = None
        self._deployed: list[str] = []
        self._workers: list[str] = []

    def connect(self) -> None:
        """Connect to the Ray of this machine, or start one that ends with this process. Raises ClusterError."""
        for name, value in (THROUGHPUT | FORWARDING | RELOADS).items():
            os.environ.setdefault(name, value)
        for name, port in HAPROXY_PORTS.items():
            os.environ.setdefault(name, str(free_port(port)))
        import ray

        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "namespace": "serve"}
        try:
            context = ray.init(address="auto", **options)
        except ConnectionError:
            port = free_port(METRICS_PORT)
            context = ray.init(
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                dashboard_port=self._dashboard_port,
                object_store_memory=OBJECT_STORE_BYTES,
                _metrics_export_port=port,
                **options,
            )
            self.metrics_url = f"http://127.0.0.1:{port}/metrics"
            self.started_here = True
        if not context.dashboard_url:
            raise ClusterError(
                "This Ray cluster has no dashboard; start it with `ray start --head --include-dashboard=true`."
            )
        self.dashboard_url = f"http://{context.dashboard_url}"
        from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

        self._client = ServeSubmissionClient(self.dashboard_url)

    def deploy(self, config: dict[str, Any]) -> None:
        """Deploy the applications of a configuration beside those that already run. Raises ClusterError."""
        # Before the others are added: only what is deployed here is removed by close.
        deployed = [app["name"] for app in config["applications"]]
        workers = [app["name"] for app in config["applications"] if app.get("import_path") == WORKER]
        if not self.started_here:
            config = self._beside_others(config)
        self._client.deploy_applications(config)
        self._deployed, self._workers = deployed, workers

    def progress(self) -> Iterator[list[ApplicationStatus]]:
        """Yield the state of every application, every half second, until all are running or failed."""
        while True:
            statuses = self.statuses()
            yield statuses
            if len(statuses) >= len(self._deployed) and all(s.status in DONE for s in statuses):
                return
            time.sleep(0.5)

    def statuses(self) -> list[ApplicationStatus]:
        """Return the state of every application that was deployed here."""
        details = self._client.get_serve_details()
        return [_status(name, app) for name, app in details["applications"].items() if name in self._deployed]

    def close(self) -> None:
        """Stop what was started here: the whole cluster, or the applications on one that was running before."""
        import ray

        if not ray.is_initialized():
            return
        from ray import serve

        self._stop_workers()
        if not self.started_here:
            for name in self._deployed:
                serve.delete(name, _blocking=True)
        ray.shutdown()

    def _stop_workers(self) -> None:
        """Make workers give back their jobs: if they were killed with their cluster, each job would lose an attempt."""
        from ray import serve
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        async def stop(name: str) -> None:
            # With the throughput settings, handles need an event loop.
            worker = serve.get_deployment_handle(WORKER.rpartition(":")[2], name)
            await worker.broadcast("stop").results_async(timeout_s=GIVE_BACK_WITHIN_S)

        for name in self._workers:
            try:
                asyncio.run(stop(name))
            except (RayError, RayServeException, TimeoutError) as error:
                log.warning("%s did not give its jobs back (%s)", name, type(error).__name__)

    def _beside_others(self, config: dict[str, Any]) -> dict[str, Any]:
        ours = {app["name"] for app in config["applications"]}
        there = self._client.get_serve_details()["applications"]
        taken = sorted(ours & set(there))
        if taken:
            raise ClusterError(
                f"The Ray cluster at {self.dashboard_url} already serves {', '.join(taken)}; "
                "stop that service first, or update it with `serve deploy`."
            )
        others = [app["deployed_app_config"] for app in there.values() if app.get("deployed_app_config")]
        apps = [{**app, "runtime_env": {"env_vars": inherited_environment()}} for app in config["applications"]]
        return {**config, "applications": others + apps}


def inherited_environment() -> dict[str, str]:
    """Return the settings of this process, for workers of a cluster that was started elsewhere and lacks them."""
    inherited = {name: value for name, value in os.environ.items() if name in variables()}
    return inherited | {"PYTHONPATH": str(Path(__file__).parents[1])}


def _status(name: str, app: dict[str, Any]) -> ApplicationStatus:
    running = wanted = 0
    messages = [app.get("message") or ""]
    for deployment in app.get("deployments", {}).values():
        wanted += deployment.get("target_num_replicas") or 0
        running += sum(replica["state"] == "RUNNING" for replica in deployment.get("replicas", []))
        messages.append(deployment.get("message") or "")
    return ApplicationStatus(name, app["status"], next((m for m in messages if m), ""), running, wanted)


def free_port(wanted: int) -> int:
    """Return this TCP port if it is free, else one that the system picks. Raises ClusterError."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ClusterError("No TCP port is free.")


def default_config() -> Path:
    """Return serve_config.yaml on a machine with an NVIDIA GPU, else configs/laptop.yaml."""
    root = Path(__file__).parents[1]
    has_gpu = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()
    return root / "serve_config.yaml" if has_gpu else root / "configs" / "laptop.yaml"


def read_config(path: Path, *, host: str | None = None, port: int | None = None) -> dict[str, Any]:
    """Read a Serve configuration, with this HTTP address if given, and the log format of the settings."""
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    http = config.setdefault("http_options", {})
    if host is not None:
        http["host"] = host
    if port is not None:
        http["port"] = port
    logs = config.setdefault("logging_config", {})
    if settings().log_level is not None:
        logs["log_level"] = settings().log_level
    if settings().log_json is not None:
        logs["encoding"] = "JSON" if settings().log_json else "TEXT"
    return config
