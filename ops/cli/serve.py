"""visiongraph serve: start the whole service on this machine, wait until it is ready, and stop it."""

import fcntl
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from configs.addresses import Authority
from configs.settings import Settings, settings
from ops.cluster import (
    ApplicationStatus,
    Cluster,
    ClusterError,
    read_config,
)
from ops.plan.choice import Choice, choose, fit_gateways, require_fit, shown
from ops.plan.machines import Node, cluster_nodes, memory_bytes, this_machine
from stores.valkey import start as start_valkey
from vision.embed.clip import check_clip_model

console = Console()
READY_WITHIN_S = 600
SAY_AFTER_S = 10
CHECK_EVERY_S = 1.0
FOLLOW_EVERY_S = 1.0
FREE_WITHIN_S = 5.0
"""What a run that was just killed has started needs a moment to end."""


def serve(
    config: Annotated[
        Path | None, typer.Option(help="Serve configuration; by default the one for this machine.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API.")] = None,
    dashboard_port: Annotated[int, typer.Option(help="Port of the Ray dashboard.")] = 8265,
) -> None:
    """Start everything that is not running yet, deploy, and serve until Ctrl-C."""
    started = time.monotonic()
    chosen: dict[str, Any] = {}
    _end_by_signals()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    for name in ("ops", "stores"):
        logging.getLogger(name).setLevel(logging.INFO)
    with ExitStack() as running, suppress(KeyboardInterrupt):
        running.enter_context(locked(settings().home.resolve()))
        running.callback(lambda: console.print("stopped"))
        check_clip_model(settings().clip_model_name)

        def prepare(joined: bool) -> None:
            nodes = cluster_nodes() if joined else [this_machine()]
            choice, serve_config = configuration(config, nodes, host=host, port=port)
            chosen.update(serve_config)
            address = serve_config["http_options"]
            _refuse_taken_port(address["host"], address["port"], "--port")
            if not joined:  # else it is that of the Ray that runs
                _refuse_taken_port("127.0.0.1", dashboard_port, "--dashboard-port")
            console.print(f"[bold]visiongraph[/] with [cyan]{shown(choice.path)}[/]: {choice.reason}", soft_wrap=True)
            console.print(f"state in {settings().home.resolve()}", soft_wrap=True)
            _start_stores(settings(), running)

        if settings().access_log == "stdout":
            running.enter_context(_access_log_printed(settings().logs))
        cluster = Cluster(dashboard_port)
        running.callback(_close, cluster)
        with console.status("Ray …"):
            cluster.connect(settings().home.resolve(), prepare)
        _end_by_signals()  # Ray has taken SIGTERM, by which it kills its processes and gives nothing back
        console.print(f"Ray {'started' if cluster.started_here else 'joined'} in {time.monotonic() - started:.1f} s")
        cluster.deploy(chosen)
        _show_progress(cluster)
        address = chosen["http_options"]
        local = "127.0.0.1" if address["host"] == "0.0.0.0" else address["host"]  # noqa: S104
        base = f"http://{local}:{address['port']}"
        _await_ready(base, cluster)
        _print_addresses(base, cluster, time.monotonic() - started)
        _print_where_links_lead(address["host"], settings())
        _print_who_may_call(address["host"], base)
        while True:
            time.sleep(CHECK_EVERY_S)
            cluster.check()


def _end_by_signals() -> None:
    """Make Ctrl-C and SIGTERM, and nothing else, end the command, from here on and in whatever it is doing."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.default_int_handler)


def configuration(
    config: Path | None, nodes: Sequence[Node], *, host: str | None = None, port: int | None = None
) -> tuple[Choice, dict[str, Any]]:
    """Return the configuration that was asked for, or the largest that fits. Raises DoesNotFitError."""
    choice = choose(nodes) if config is None else Choice(config, "")
    serve_config = read_config(choice.path, host=host, port=port)
    gateways = fit_gateways(serve_config, memory_bytes())
    if config is not None:
        choice = require_fit(config, serve_config, nodes)
    if gateways:
        size = memory_bytes() / 2**30
        console.print(f"gateways: {gateways}, as this machine has {size:.0f} GiB of memory")
    return choice, serve_config


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the folder of the embedded stores for one service. Raises ClusterError if another one has it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "serve.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ClusterError(
                f"Another visiongraph serve (pid {lock.read().strip()}) runs with its state in {home}; "
                "stop it first, or set VISION_HOME to another folder."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@contextmanager
def _access_log_printed(folder: Path) -> Iterator[None]:
    """Print the lines of the access log to the standard output as they come."""
    from graphs.web.access_log import Follower

    follower, stop = Follower(folder), Event()

    def follow() -> None:
        while True:
            ends = stop.wait(FOLLOW_EVERY_S)
            if lines := follower.read():
                sys.stdout.write(lines.decode())
                sys.stdout.flush()
            if ends:
                return

    thread = Thread(target=follow, name="access-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        follower.close()


def _close(cluster: Cluster) -> None:
    # A second Ctrl-C must not leave half of it running.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    console.print("stopping …")
    cluster.close()


def _refuse_taken_port(host: str, port: int, option: str) -> None:
    give_up = time.monotonic() + FREE_WITHIN_S
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if time.monotonic() > give_up:
                    raise ClusterError(
                        f"Port {port} on {host} is taken ({error.strerror}); choose another with {option}."
                    ) from None
            else:
                return
        time.sleep(0.2)


def empty_spool(spool: Path) -> None:
    """Create the folder of temporary files, without the unfinished uploads of the last run: none was acknowledged."""
    spool.mkdir(parents=True, exist_ok=True)
    for leftover in spool.iterdir():
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _start_stores(config: Settings, running: ExitStack) -> None:
    home = config.home.resolve()
    empty_spool(config.spool)
    os.environ["VISION_HOME"] = str(home)
    os.environ["VISION_MODELS_FILE"] = str(config.local_models)
    if not config.cache_url.get_secret_value():
        cache = running.enter_context(start_valkey(home / "cache", supervised=True))
        os.environ["VISION_CACHE_URL"] = cache.url


def _show_progress(cluster: Cluster) -> None:
    statuses: list[ApplicationStatus] = []
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        for statuses in cluster.progress():
            live.update(_table(statuses))
    console.print(_table(statuses))
    failed = [status for status in statuses if status.status != "RUNNING"]
    if failed:
        for status in failed:
            console.print(f"[red]{status.name}: {status.message or status.status}[/]")
        raise typer.Exit(1)


def _table(statuses: list[ApplicationStatus]) -> Table:
    table = Table("application", "state", "replicas", box=None, pad_edge=False)
    for status in statuses:
        colour = {"RUNNING": "green", "DEPLOY_FAILED": "red", "UNHEALTHY": "red"}.get(status.status, "yellow")
        count = f"{status.running}/{status.wanted}" if status.wanted else "on demand"
        table.add_row(status.name, f"[{colour}]{status.status.lower()}[/]", count)
    return table


def _await_ready(base: str, cluster: Cluster) -> None:
    started = time.monotonic()
    reason, said, answers = "no answer", "", False
    while True:
        cluster.check()
        try:
            answer = httpx.get(f"{base}/readyz", timeout=10)
            if answer.status_code == 200:
                return
            reason = answer.text[:300]
            if not answers and "waiting" in reason:
                console.print(f"{base} answers and takes uploads; models are being loaded")
                answers = True
        except httpx.HTTPError as error:
            reason = type(error).__name__
        waited = time.monotonic() - started
        if waited > READY_WITHIN_S:
            raise ClusterError(f"{base}/readyz is not ready after {READY_WITHIN_S} s: {reason}")
        if waited > SAY_AFTER_S and reason != said:
            console.print(f"not ready yet: {reason}")
            said = reason
        time.sleep(0.2)


def _print_addresses(base: str, cluster: Cluster, seconds: float) -> None:
    health: dict[str, Any] = httpx.get(f"{base}/health", timeout=30).json()
    model = health["model"]["name"]
    console.print(f"[green]ready[/] in {seconds:.1f} s" + (f", features by [cyan]{model}[/]" if model else ""))
    table = Table.grid(padding=(0, 2))
    table.add_row("console", f"{base}/console")
    table.add_row("API", f"{base}/api/v1")
    table.add_row("docs", f"{base}/docs")
    table.add_row("dashboard", f"{cluster.dashboard_url}  (token: `ray get-auth-token`)")
    if cluster.metrics_url:
        table.add_row("metrics", cluster.metrics_url)
    table.add_row("archives", f"RAY_ADDRESS={cluster.address} visiongraph index --submit FOLDER")
    console.print(table, soft_wrap=True)
    console.print("Ctrl-C stops it.")


def _print_where_links_lead(host: str, config: Settings) -> None:
    """Say what to set when clients come from elsewhere, and links can only be paths."""
    if _others_reach(host) and not (config.public_url or config.allowed_hosts):
        console.print(
            "[yellow]Links in answers have no host for clients on other machines:[/] "
            "set VISION_PUBLIC_URL to the address that they use, such as https://vision.example"
        )


def _print_who_may_call(host: str, base: str) -> None:
    """Warn when other machines reach a service that anyone may call, or that answers nobody for lack of a key."""
    if not _others_reach(host):
        return
    answer = httpx.get(f"{base}/api/v1/config", timeout=30)
    if answer.is_success:
        console.print("[yellow]Anyone who reaches this address may do everything:[/] VISION_OPEN is set.")
    elif "no keys yet" in answer.text:
        console.print(
            "[yellow]Nobody may call from other machines yet:[/] make a key with `visiongraph keys create NAME`."
        )


def _others_reach(host: str) -> bool:
    authority = Authority.parse(f"[{host}]" if ":" in host else host)
    return authority is None or not authority.is_loopback
