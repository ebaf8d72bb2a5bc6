"""Find the stages, build the routeless application of a room, and create handles to stages.

Which stage runs in which process is configuration: the ``args`` of a room's application name the stages that get their
own deployment and the packs that share one.
"""

import asyncio
import pkgutil
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import Context
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import ray
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

import deployments
from configs.settings import settings
from deployments.serving.handle import AnyHandle, LocalHandle, StageHandle
from deployments.serving.loading import LoadQueue
from deployments.serving.messages import register
from deployments.serving.metrics import StageMetrics, publish_regularly
from deployments.serving.nodes import check_stores, start_on_node
from deployments.serving.room import RoomArgs
from deployments.serving.runner import StageRunner
from deployments.serving.stage import Stage, StageRef, needs_reference, sent
from deployments.serving.streams import StreamedBytes
from vision.errors import InvalidInput
from vision.spans import flush
from vision.tracing import NOBODY, Origin, origin, origin_of, origins

AnyStage = type[Stage[Any, Any, Any, Any]]


SHARED: Final = "serving"
"""The only package of deployments that is not a room."""


def stage_keys() -> list[str]:
    """Return the key of every file of every room, without importing any of them."""
    return [
        f"{room.name}/{module.name}"
        for root in deployments.__path__
        for room in pkgutil.iter_modules([root])
        if room.ispkg and room.name != SHARED
        for module in pkgutil.iter_modules([str(Path(root) / room.name)])
    ]


def find_stage(key: str) -> AnyStage:
    """Return the stage class behind ``room/name``. Raises LookupError that says what is wrong."""
    room, _, name = key.partition("/")
    if room == SHARED or not (room.isidentifier() and name.isidentifier()):
        raise LookupError(f"{key!r} is not a stage key; a key is room/name")
    try:
        module = import_module(f"deployments.{room}.{name}")
    except ModuleNotFoundError as error:
        if error.name and not error.name.startswith("deployments"):
            raise
        raise LookupError(f"no stage {key!r}: there is no deployments/{room}/{name}.py") from None
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Stage) and value.__module__ == module.__name__:
            if value.key != key:
                raise LookupError(f"deployments/{room}/{name}.py defines the key {value.key!r}, not {key!r}")
            return value
    raise LookupError(f"deployments/{room}/{name}.py defines no stage; what stages share belongs into vision/")


def find_stages() -> dict[str, AnyStage]:
    """Return every stage by key. Raises LookupError for a file of a room that is not a stage."""
    return {key: find_stage(key) for key in stage_keys()}


def find_reference(key: str) -> StageRef[Any, Any]:
    """Return the reference by which graphs call a stage. Raises LookupError where its file defines none."""
    module = import_module(find_stage(key).__module__)
    for value in vars(module).values():
        if isinstance(value, StageRef) and value.key == key:
            return value
    raise LookupError(f"{module.__name__} defines no StageRef of {key!r}")


def _register_messages(keys: Iterable[str]) -> None:
    for key in keys:
        reference = find_reference(key)
        register(reference.input)
        register(reference.output)


class LocalStages:
    """Stages that run in this process, and what other processes call them by."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._metrics = StageMetrics()
        self._publishing: asyncio.Task[None] | None = None
        queue, marks = LoadQueue(), settings().models_cache.expanduser() / "loading"
        self._runners = {key: StageRunner(find_stage(key), self._metrics, queue, marks) for key in keys}
        _register_messages(keys)

    def handles(self, limits: "CallLimits") -> dict[str, AnyHandle]:
        """Return a handle to each of them, whose calls are plain awaits."""
        return {key: _handle_of(runner, limits) for key, runner in self._runners.items()}

    async def reconfigure(self, user_config: dict[str, dict[str, Any]]) -> None:
        """Apply ``{stage key: its config}``; Serve calls this before the replica is ready, so it also loads them.

        The replica is ready at once: its stages are loaded one after another, those first that requests wait for, and a
        failure of one is none of the others.
        """
        for key, runner in self._configured(user_config):
            await runner.accept(user_config.get(key, {}))
        if self._runners and self._publishing is None:
            self._publishing = asyncio.create_task(publish_regularly(self._publish))

    async def _publish(self) -> None:
        """Set the gauges of this process's stages."""
        for runner in self._runners.values():
            self._metrics.state(runner.info())
        self._metrics.gpu()

    def _configured(self, user_config: dict[str, dict[str, Any]]) -> Collection[tuple[str, StageRunner]]:
        """Return the stages by key. Raises ValueError for a configuration of stages that do not run here."""
        unknown = sorted(set(user_config) - set(self._runners))
        if unknown:
            raise ValueError(f"user_config names stages that this deployment does not have: {', '.join(unknown)}")
        return self._runners.items()

    async def run(
        self,
        key: str,
        items: list[Any],
        deadline: float | None = None,
        *,
        origins: Sequence[Sequence[str]] = (),
        **_unknown: Any,
    ) -> list[Any]:
        """Return the results of one stage in order; a failed item comes back as a StageError, not as an exception.

        What a call says beyond this comes by keyword, with a default for callers of the version before; keywords of the
        version after are ignored. ``origins`` say which request each item is for, as ``Origin`` has it.
        """
        given = [origin_of(each) for each in origins] or [NOBODY] * len(items)
        return await self._runner(key).run(items, deadline, given)

    async def stream(
        self,
        key: str,
        item: Any,
        deadline: float | None = None,
        *,
        origins: Sequence[Sequence[str]] = (),
        **_unknown: Any,
    ) -> StreamedBytes:
        """Yield the bytes of one item of one stage as they are made; it is called as ``run`` is."""
        origin.set(origin_of(origins[0] if origins else None))
        async with aclosing(self._runner(key).stream(item, deadline)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def info(self, key: str, **_unknown: Any) -> dict[str, Any]:
        """Return what the stage says about itself; it is called as ``run`` is."""
        return self._runner(key).info()

    async def send_spans(self) -> None:
        """Send the spans that were recorded here and not sent yet; call this before the process is killed."""
        await asyncio.to_thread(flush)

    def check_health(self) -> None:
        """Raise when Serve should replace the replica."""
        for runner in self._runners.values():
            runner.check_health()

    def _runner(self, key: str) -> StageRunner:
        if key not in self._runners:
            raise InvalidInput(f"{key} does not run here.")
        return self._runners[key]


class StageHost(LocalStages):
    """The deployment class of a room: one process that runs one stage, or a pack of them."""

    def __init__(self, keys: list[str], *_siblings: DeploymentHandle) -> None:
        start_on_node()
        # Siblings are bound only because an application has a single root; a stage never calls another.
        super().__init__(keys)

    async def reconfigure(self, user_config: dict[str, dict[str, Any]]) -> None:
        """Apply ``{stage key: its config}`` as all do; the replica of a single stage is ready when that is loaded."""
        await super().reconfigure(user_config)
        if len(self._runners) == 1:
            for runner in self._runners.values():
                await runner.loaded()

    def __del__(self) -> None:
        # Serve calls this at an orderly shutdown; Python calls it once more.
        flush()


def room(args: dict[str, Any]) -> Application:
    """Build a routeless application; for Serve (``import_path: deployments.serving.catalog:room``)."""
    check_stores()
    nodes: list[Application] = []
    room_args = RoomArgs.model_validate(args)
    options = room_args.options()
    for name, keys in room_args.deployments().items():
        for key in keys:
            find_stage(key)
        deployment = serve.deployment(StageHost).options(name=name, user_config={}, **options[name])
        nodes.append(deployment.bind(keys, *nodes))
    return nodes[-1]


def address_of(key: str, places: dict[str, str]) -> tuple[str, str]:
    """Return (application, deployment) of a stage: as ``places`` says, else its room's application and its own name."""
    app, _, deployment = places.get(key, key.replace("/", ".", 1)).partition(".")
    return app, deployment


class CallLimits(BaseModel):
    """How a gateway calls a stage. Few and large calls cost less; many in flight keep more replicas busy."""

    model_config = ConfigDict(extra="forbid")

    max_batch: int = Field(default=16, ge=1, le=256, description="items of one call")
    max_in_flight: int = Field(default=16, ge=1, le=256, description="concurrent calls to one stage")
    max_pending: int = Field(default=512, ge=1, description="items that wait for a call; more get a 429")


class DeploymentState(NamedTuple):
    """Replicas of a deployment that run and that are wanted, and the CPUs and GPUs of one of them."""

    running: int
    wanted: int
    cpus: float
    gpus: float


class ServeStatus:
    """Which deployments run. Serve is asked once for all that want to know at the same time."""

    def __init__(self) -> None:
        self._asking: asyncio.Task[dict[str, Any]] | None = None
        # A thread of its own: stages that are well must not look ill because all others are busy.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="serve-status")

    async def running(self, app: str, deployment: str) -> bool:
        """Return whether the deployment has a replica that could answer now."""
        if self._asking is None or self._asking.done():
            # In a new context: what Serve cancels when one client leaves, the others still wait for.
            self._asking = asyncio.create_task(self._applications(), context=Context())
        status = (await asyncio.shield(self._asking)).get(app)
        return status is not None and bool(status.deployments[deployment].replica_states.get("RUNNING"))

    async def deployments(self) -> dict[str, DeploymentState]:
        """Return the state of every deployment, by application.deployment. Raises what Ray raises."""
        details = await asyncio.get_running_loop().run_in_executor(self._thread, _serve_details)
        return {
            f"{app}.{name}": DeploymentState(
                running=sum(replica["state"] == "RUNNING" for replica in deployment["replicas"]),
                wanted=deployment["target_num_replicas"],
                cpus=float(options.get("num_cpus") or 0),
                gpus=float(options.get("num_gpus") or 0),
            )
            for app, application in details.get("applications", {}).items()
            for name, deployment in application["deployments"].items()
            for options in [deployment["deployment_config"].get("ray_actor_options") or {}]
        }

    async def metrics_pages(self) -> list[str]:
        """Return the addresses at which the agents of the nodes show metrics. Raises what Ray raises."""
        nodes = await asyncio.get_running_loop().run_in_executor(self._thread, ray.nodes)
        return [
            f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            for node in nodes
            if node["Alive"] and node["MetricsExportPort"]
        ]

    async def _applications(self) -> dict[str, Any]:
        status = await asyncio.get_running_loop().run_in_executor(self._thread, serve.status)
        return dict(status.applications)


def _serve_details() -> dict[str, Any]:
    """Return what Serve's controller says about all applications; ``serve.status`` leaves shares out."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    details: dict[str, Any] = {} if client is None else client.get_serve_details()
    return details


def remote_handle(
    key: str, places: dict[str, str], limits: CallLimits, on_demand: ServeStatus | None = None
) -> AnyHandle:
    """Return a handle to a stage of another application, which is looked up by name at the first call.

    ``on_demand`` is given where its deployment may have no replica: asking for its info must not start one.
    """
    app, deployment = address_of(key, places)
    _register_messages([key])

    @cache
    def handle(*, by_reference: bool = False) -> DeploymentHandle:
        remote = serve.get_deployment_handle(deployment, app)
        return remote.options(_by_reference=True) if by_reference else remote

    async def call(items: list[Any], deadline: float | None) -> list[Any]:
        items = [await sent(item) for item in items]
        by_reference = needs_reference(items)
        results: list[Any] = await handle(by_reference=by_reference).run.remote(
            key, items, deadline, **_sent_origins(origins.get())
        )
        return results

    async def stream(item: Any, deadline: float | None) -> StreamedBytes:
        item = await sent(item)
        by_reference = needs_reference([item])
        given = _sent_origins((origin.get(),))
        answer = handle(by_reference=by_reference).options(stream=True).stream.remote(key, item, deadline, **given)
        try:
            async for chunk in answer:
                yield chunk
        finally:
            answer.cancel()

    async def info() -> dict[str, Any]:
        if on_demand is None:
            loaded: dict[str, Any] = await handle().info.remote(key)
            return loaded
        asleep = {"stage": key, "loaded": False, "on_demand": True}
        if not await on_demand.running(app, deployment):
            return asleep
        try:
            return {**await handle().info.remote(key), "on_demand": True}
        except Exception:
            if await on_demand.running(app, deployment):
                raise
            return asleep  # its replica went to sleep meanwhile

    made: AnyHandle = StageHandle(key, call, info, stream, **limits.model_dump())
    made.place = f"{app}.{deployment}"
    return made


def _sent_origins(given: tuple[Origin, ...]) -> dict[str, Any]:
    """Return what a call says of whom it is for: nothing where that is nobody."""
    return {"origins": [tuple(each) for each in given]} if any(given_origin != NOBODY for given_origin in given) else {}


async def local_handle(stage_class: AnyStage, config: dict[str, Any] | None = None) -> AnyHandle:
    """Load a stage in this process and return a handle to it, for tests and tools; needs no Ray cluster.

    ``close`` ends its threads.
    """
    runner = StageRunner(stage_class)
    await runner.configure(config or {})
    return _handle_of(runner, CallLimits())


def _handle_of(runner: StageRunner, limits: CallLimits) -> AnyHandle:
    async def info() -> dict[str, Any]:
        return runner.info()

    at_once = limits.max_batch * limits.max_in_flight
    return LocalHandle(
        runner.key,
        runner.run,
        info,
        runner.stream,
        runner.close,
        max_at_once=at_once,
        max_pending=limits.max_pending,
    )
