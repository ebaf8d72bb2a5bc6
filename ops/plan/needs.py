"""What the deployments of a Serve configuration need: replicas, Ray resources, memory, and memory of GPUs.

Nothing here imports Ray or, but for the memory of GPUs, a stage: it answers before anything is started.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from deployments.serving.room import RoomArgs
from vision.weights.registry import Model, Registry, registry

ROOM: Final = "deployments.serving.catalog:room"
GATEWAY: Final = "graphs.web.gateway:gateway"
WORKER: Final = "graphs.jobs.worker:worker"
MEMORY_YAML: Final = Path(__file__).parents[2] / "configs" / "memory.yaml"
PLANNED_BATCH: Final = 32
"""Images at once that ``vram_mb`` is stated for."""
AUTO_REPLICAS: Final = (1, 100)
"""What Serve means by ``num_replicas: auto``."""


class StageMemory(BaseModel):
    """What a stage holds beside its libraries: ``mb``, and ``mb_per_item`` for each item of a batch but the first."""

    model_config = ConfigDict(extra="forbid")

    mb: float
    mb_per_item: float = 0
    libraries: tuple[str, ...] = ()


class Memory(BaseModel):
    """The figures of configs/memory.yaml, which says what they are; all in MB of 10^6 bytes."""

    model_config = ConfigDict(extra="forbid")

    head: float
    node: float
    replica: float
    gateway: float
    worker: float
    libraries: dict[str, float]
    cuda: float
    cuda_context: float
    stages: dict[str, StageMemory]

    def process_mb(self, stages: Sequence[str], user_config: Mapping[str, Any]) -> float:
        """Return what one process with these stages holds; a stage without a figure is taken for a small one."""
        known = {key: self.stages[key] for key in stages if key in self.stages}
        libraries = {name for stage in known.values() for name in stage.libraries}
        batches = {key: int((user_config.get(key) or {}).get("max_batch_size", 1)) for key in known}
        own = sum(stage.mb + stage.mb_per_item * (batches[key] - 1) for key, stage in known.items())
        shared = self.replica + sum(self.libraries[name] for name in libraries)
        return own + shared


@cache
def memory() -> Memory:
    """Return the figures of this installation."""
    return Memory.model_validate(yaml.safe_load(MEMORY_YAML.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class Need:
    """What each replica of a deployment needs, and how many there are at least and at most."""

    app: str
    deployment: str
    resources: Mapping[str, float]
    """Ray's names, such as CPU and GPU, to amounts above 0."""
    memory_mb: float
    """Without what CUDA adds."""
    at_least: int
    at_most: int
    stages: tuple[str, ...] = ()
    user_config: Mapping[str, Any] = field(default_factory=dict)
    per_node: int | None = None
    """Replicas that one node may have."""

    @property
    def name(self) -> str:
        """Return ``application.deployment``."""
        return f"{self.app}.{self.deployment}"

    @property
    def gpus(self) -> float:
        """Return the GPUs of a replica: a share of one, or several."""
        return self.resources.get("GPU", 0.0)

    def gpu_memory_mb(self) -> float:
        """Return the memory of a GPU that a replica takes by ``vram_mb`` at its batch sizes; 0 without a GPU.

        Imports its stages, as their default models and batch sizes are in their code.
        """
        if not self.gpus:
            return 0.0
        return memory().cuda_context + sum(
            stage_gpu_mb(key, self.user_config.get(key) or {}, registry()) for key in self.stages
        )


def needs(config: Mapping[str, Any]) -> list[Need]:
    """Return what the deployments of a Serve configuration need, in its order.

    What is no application of this project counts with what its lines say. Raises ValueError for arguments that a room
    cannot be made of.
    """
    return [need for app in _mappings(config.get("applications")) for need in _of_application(app)]


def _of_application(app: Mapping[str, Any]) -> Iterator[Need]:
    lines = {str(line.get("name")): line for line in _mappings(app.get("deployments"))}
    path, name = app.get("import_path"), str(app.get("name", "default"))
    options = _room(name, app.get("args") or {}).options() if path == ROOM else {}
    for deployment, stages in hosts(app).items():
        line = {**options.get(deployment, {}), **lines.get(deployment, {})}
        yield _need(name, deployment, line, tuple(stages), path)


def hosts(app: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the stages of each deployment of an application, by its name.

    One that is not of this project has none. Raises ValueError for arguments that a room cannot be made of.
    """
    path, args = app.get("import_path"), app.get("args") or {}
    if path == ROOM:
        return _room(str(app.get("name", "default")), args).deployments()
    if path in (GATEWAY, WORKER):
        here = args.get("here") if isinstance(args, Mapping) else None
        return {str(path).rpartition(":")[2]: list(here or ())}
    return {str(line.get("name")): [] for line in _mappings(app.get("deployments"))}


def _room(name: str, args: Any) -> RoomArgs:
    try:
        return RoomArgs.model_validate(args)
    except ValidationError as error:
        reasons = "; ".join(entry["msg"].removeprefix("Value error, ") for entry in error.errors())
        raise ValueError(f"{name}: {reasons}") from None


def _need(app: str, deployment: str, line: Mapping[str, Any], stages: tuple[str, ...], path: Any) -> Need:
    actor = line.get("ray_actor_options") or {}
    # Serve gives a replica one CPU where nothing is said.
    amounts = {"CPU": actor.get("num_cpus", 1), "GPU": actor.get("num_gpus"), "memory": actor.get("memory")}
    amounts |= actor.get("resources") or {}
    if actor.get("accelerator_type"):
        # As Ray asks for it, so that it is never used up.
        amounts[f"accelerator_type:{actor['accelerator_type']}"] = 0.001
    resources = {name: float(amount) for name, amount in amounts.items() if amount}
    figures = memory()
    graphs_mb = {GATEWAY: figures.gateway, WORKER: figures.worker}.get(path, figures.replica) - figures.replica
    user_config = line.get("user_config") or {}
    at_least, at_most = replicas(line)
    return Need(
        app=app,
        deployment=deployment,
        resources=resources,
        memory_mb=graphs_mb + figures.process_mb(stages, user_config),
        at_least=at_least,
        at_most=at_most,
        stages=stages,
        user_config=user_config,
        per_node=line.get("max_replicas_per_node"),
    )


def replicas(line: Mapping[str, Any]) -> tuple[int, int]:
    """Return (replicas that Serve starts with, most replicas) of a deployment's options."""
    number, scaling = line.get("num_replicas"), line.get("autoscaling_config")
    if not isinstance(scaling, Mapping) and number != "auto":
        fixed = 1 if number is None else int(number)
        return fixed, fixed
    low, high = AUTO_REPLICAS if number == "auto" else (1, 1)
    scaling = scaling if isinstance(scaling, Mapping) else {}
    at_least = int(scaling.get("min_replicas", low))
    return max(at_least, int(scaling.get("initial_replicas") or 0)), int(scaling.get("max_replicas", high))


def stage_gpu_mb(key: str, values: Mapping[str, Any], models: Registry) -> float:
    """Return the MB of GPU memory that a stage takes with this configuration, without the CUDA context.

    Its weights, and the rest of ``vram_mb`` in proportion to the batch; of models that stand in for each other the
    largest. 0 for a stage that no GPU runs.
    """
    from deployments.serving.catalog import find_stage
    from deployments.serving.engine_stage import EngineConfig
    from deployments.serving.stage import models_of

    stage = find_stage(key)
    config = stage.config_class.model_validate(values)
    # What marks a stage that may run on a GPU.
    if not hasattr(config, "cuda_memory_fraction") or str(getattr(config, "engine", "")).startswith("openvino"):
        return 0.0
    largest: dict[str, float] = {}
    for name in (*models_of(config), *stage.fixed_models):
        if name in models.root:
            model = models.root[name]
            task = model.task if config.one_of_each_task else ""
            # A stage without an engine makes batches of its own, for which vram_mb is stated.
            batch = config.max_batch_size if isinstance(config, EngineConfig) else PLANNED_BATCH
            largest[task] = max(largest.get(task, 0.0), _at_batch(model, batch))
    return sum(largest.values())


def _at_batch(model: Model, batch: int) -> float:
    size = model.files[model.main].size
    if size is None:
        return model.vram_mb * max(1.0, batch / PLANNED_BATCH)
    weights = min(size / 1e6, model.vram_mb)
    return weights + (model.vram_mb - weights) * batch / PLANNED_BATCH


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
