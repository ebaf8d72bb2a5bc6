"""Read from the code and one Serve configuration what a picture of the graph shows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml
from fastapi import FastAPI

from configs.settings import Settings
from deployments.serving.catalog import find_stage
from deployments.serving.handle import AnyHandle, StageHandle
from deployments.serving.room import RoomArgs
from graphs.jobs.kinds import find_job_kinds
from graphs.jobs.worker import WorkerArgs
from graphs.web.api import find_apis
from graphs.web.context import Context
from graphs.web.gateway import GatewayArgs
from ops.plan.needs import GATEWAY, ROOM, WORKER

API_COLORS = ("#4f46e5", "#0d9467", "#d97706", "#e11d48", "#0284c7", "#7c3aed", "#65a30d", "#be185d")
GATEWAY_USER = "gateway"
DATABASE = ("database", "SQLite or MongoDB")
STORES = {
    "objects": ("objects", "folder or S3"),
    "documents": DATABASE,
    "jobs": DATABASE,
    "people": DATABASE,
    "shots": DATABASE,
    "analyses": DATABASE,
    "animals": DATABASE,
    "keys": DATABASE,
    "partial_uploads": DATABASE,
    "usage": DATABASE,
    "audit": DATABASE,
    "subscriptions": DATABASE,
    "deliveries": DATABASE,
    "vectors": ("vectors", "LanceDB, disk or S3"),
    "cache": ("cache", "Valkey or Redis"),
}
"""Store → the engine that holds it, and the backends of that engine. Stores of one engine follow one another."""


@dataclass(frozen=True)
class Api:
    """One API; ``routes``: operations of its OpenAPI document."""

    name: str
    title: str
    routes: int
    stages: tuple[str, ...]


@dataclass(frozen=True)
class StageRow:
    """A stage in its process, its batch size, and the names of the APIs that call it."""

    key: str
    batch: int
    apis: tuple[str, ...]


@dataclass(frozen=True)
class Process:
    """A deployment; CPUs and GPUs of one replica, ``replicas`` as ``1`` or ``0-8``.

    ``jobs``: kinds of durable jobs that a worker runs; None for other processes.
    """

    name: str
    stages: tuple[StageRow, ...]
    cpus: float
    gpus: float
    replicas: str
    jobs: tuple[str, ...] | None = None

    @property
    def share(self) -> str:
        """CPUs and GPUs of a replica, as text."""
        return f"{self.cpus:g} CPU" + (f" · {self.gpus:g} GPU" if self.gpus else "")

    @property
    def count(self) -> str:
        """The number of replicas, as text."""
        return "1 replica" if self.replicas == "1" else f"{self.replicas} replicas"

    @property
    def head(self) -> str:
        """The title of a worker or a pack; empty for a stage with its own process."""
        if self.jobs is not None:
            return ": ".join(("durable jobs", *filter(None, [", ".join(self.jobs)])))
        alone = [row.key.partition("/")[2] for row in self.stages] == [self.name]
        return "" if alone else f"{counted(len(self.stages), 'stage')} in one process"

    @property
    def called(self) -> bool:
        """Whether an API calls one of its stages."""
        return any(row.apis for row in self.stages)


@dataclass(frozen=True)
class Room:
    """An application without a route."""

    name: str
    processes: tuple[Process, ...]


@dataclass(frozen=True)
class Store:
    """A store, the engine that holds it, and its users: the gateway, workers, and keys of stages."""

    name: str
    engine: str
    backends: str
    users: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Everything in the picture."""

    source: str
    apis: tuple[Api, ...]
    gateway: Process
    rooms: tuple[Room, ...]
    stores: tuple[Store, ...]


def api_colors(graph: Graph) -> dict[str, str]:
    """Return the colour of each API by its name."""
    return {api.name: API_COLORS[number % len(API_COLORS)] for number, api in enumerate(graph.apis)}


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 stage``, ``2 stages``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def load_graph(path: Path) -> Graph:
    """Return the graph that ``path`` deploys. Raises ValueError for a file with faults."""
    try:
        return _graph(path)
    except (yaml.YAMLError, LookupError, AttributeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        see = f"see `visiongraph check --config {path}`"
        raise ValueError(f"{path} cannot be drawn ({reason}); {see}") from error


def _graph(path: Path) -> Graph:
    applications = yaml.safe_load(path.read_text(encoding="utf-8"))["applications"]
    [front] = [raw for raw in applications if raw["import_path"] == GATEWAY]
    args = GatewayArgs.model_validate(front.get("args") or {})
    apis = tuple(_api(name) for name in args.apis if not find_apis()[name].keyless)
    rooms = tuple(_room(raw, apis) for raw in applications if raw["import_path"] in (ROOM, WORKER))
    gateway = _process("gateway", args.here, front["deployments"][0], apis)
    if gateway.stages:
        rooms = (Room(front["name"], (gateway,)), *rooms)
    return Graph(path.name, apis, gateway, rooms, _stores(rooms))


def _api(name: str) -> Api:
    async def nothing(*_: Any) -> Any:
        raise NotImplementedError

    api = find_apis()[name]
    absent = cast(Any, _Absent())
    handles: dict[str, AnyHandle] = {key: StageHandle(key, nothing, nothing) for key in api.stage_keys}
    app = FastAPI()
    app.include_router(api.router(Context(Settings.model_construct(), handles, absent, absent)))
    routes = sum(len(methods) for methods in app.openapi()["paths"].values())
    return Api(name, api.title, routes, api.stage_keys)


def _room(raw: Mapping[str, Any], apis: tuple[Api, ...]) -> Room:
    lines = {line["name"]: line for line in raw["deployments"]}
    if raw["import_path"] == WORKER:
        here = WorkerArgs.model_validate(raw.get("args") or {}).here
        worker = replace(_process("worker", here, lines["worker"], apis), jobs=tuple(find_job_kinds()))
        return Room(raw["name"], (worker,))
    args = RoomArgs.model_validate(raw["args"])
    options = args.options()
    hosts = args.deployments().items()
    return Room(raw["name"], tuple(_process(name, keys, options[name] | lines[name], apis) for name, keys in hosts))


def _process(name: str, keys: list[str], line: Mapping[str, Any], apis: tuple[Api, ...]) -> Process:
    user_config, options = line.get("user_config") or {}, line.get("ray_actor_options") or {}
    scaling = line.get("autoscaling_config")
    replicas = str(line.get("num_replicas") or 1)
    if scaling:
        replicas = f"{scaling.get('min_replicas', 1)}-{scaling.get('max_replicas', 1)}"
    rows = tuple(
        StageRow(
            key,
            find_stage(key).config_class.model_validate(user_config.get(key, {})).max_batch_size,
            tuple(api.name for api in apis if key in api.stages),
        )
        for key in keys
    )
    return Process(name, rows, options.get("num_cpus", 1), options.get("num_gpus", 0), replicas)


def _stores(rooms: tuple[Room, ...]) -> tuple[Store, ...]:
    """Return every store with its users: what the context of gateway and workers holds, and what stages declare."""
    in_context = {name for name in STORES if hasattr(Context, name)}
    opened = {GATEWAY_USER: in_context}
    for process in (process for room in rooms for process in room.processes):
        if process.jobs is not None:
            opened[process.name] = in_context
        for row in process.stages:
            opened[row.key] = set(find_stage(row.key).stores)
    return tuple(
        Store(name, *engine, tuple(user for user, names in opened.items() if name in names))
        for name, engine in STORES.items()
    )


class _Absent:
    """Replaces stores and clients, which an API only passes on while its routes are built."""

    def __getattr__(self, name: str) -> Any:
        return self
