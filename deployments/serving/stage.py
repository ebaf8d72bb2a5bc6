"""A stage: one model or one analytic step, and the typed reference by which graphs call it.

A stage knows neither HTTP nor other stages. Its module imports heavy libraries only inside ``load``, so that the
command line and the gateway can import every stage without torch.
"""

import asyncio
import logging
from abc import ABC
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar, get_args

import numpy as np
import ray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt
from ray import ObjectRef
from ray.exceptions import ObjectStoreFullError, OutOfDiskError

from deployments.serving.streams import ByteGenerator
from vision.errors import InvalidInput, ProcessingFailed, StageError, StageOverloaded
from vision.images import Pixels

logger = logging.getLogger("ray.serve")

INLINE_BYTES: Final = 2**20
"""Bytes of a call up to which it goes by Serve's gRPC."""


class SharedPixels:
    """A decoded image that several stages of one request need; read-only.

    Stages of this process get the array itself. For those of other processes it is copied into Ray's object store, once
    and with the first call that needs it, where every stage of a machine reads the same memory; there it stays until
    this object is gone.
    """

    def __init__(self, pixels: Pixels) -> None:
        pixels.flags.writeable = False
        self.pixels = pixels
        self._ref: asyncio.Task[ObjectRef] | None = None

    async def ref(self) -> ObjectRef:
        """Return where it is in the object store. Raises StageOverloaded when there is no room for it."""
        if self._ref is None:
            # In a new context: Serve cancels what a request started when its client leaves.
            self._ref = asyncio.create_task(asyncio.to_thread(ray.put, self.pixels), context=Context())
        try:
            return await asyncio.shield(self._ref)
        except (ObjectStoreFullError, OutOfDiskError):
            self._ref = None
            raise StageOverloaded(
                "Too many large images are being processed at the moment; try again in a few seconds."
            ) from None


SharedImage: TypeAlias = SharedPixels | Pixels
"""A decoded image as a stage handle takes it, as the whole item or as a part of a tuple; the stage gets its pixels."""


async def sent(item: Any) -> Any:
    """Return an item as it goes to another process: every shared image replaced by its place in the object store.

    Raises StageOverloaded when there is no room for one.
    """
    if isinstance(item, SharedPixels):
        return await item.ref()
    if isinstance(item, tuple) and any(isinstance(part, SharedPixels) for part in item):
        return tuple([await part.ref() if isinstance(part, SharedPixels) else part for part in item])
    return item


async def resolved(item: Any) -> Any:
    """Return an item as its stage takes it: every shared image replaced by its pixels."""
    if isinstance(item, tuple):
        if any(isinstance(part, SharedPixels | ObjectRef) for part in item):
            return tuple([await _pixels(part) for part in item])
        return item
    return await _pixels(item)


async def _pixels(part: Any) -> Any:
    if isinstance(part, SharedPixels):
        return part.pixels
    return await part if isinstance(part, ObjectRef) else part


def needs_reference(items: list[Any]) -> bool:
    """Return whether a call has to go by Ray's own calls, since it holds shared images or over ``INLINE_BYTES``.

    Serve's gRPC is faster for small items. But it pickles outside of Ray, which then keeps every object that a call
    refers to for as long as its process lives, and it refuses messages of more than 4 MiB.
    """
    left = INLINE_BYTES
    parts = list(items)
    while parts and left >= 0:
        part = parts.pop()
        if isinstance(part, ObjectRef):
            return True
        if isinstance(part, np.ndarray):
            left -= part.nbytes
        elif isinstance(part, (bytes, str)):
            left -= len(part)
        elif isinstance(part, (list, tuple, set, frozenset)):
            parts += part
        elif isinstance(part, dict):
            parts += [*part.keys(), *part.values()]
        elif is_dataclass(part):
            parts += [getattr(part, field.name) for field in fields(part)]
    return left < 0


class StageConfig(BaseModel):
    """What ``user_config`` may set for a stage; a change is applied in place, without a restart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    one_of_each_task: ClassVar[bool] = False
    """Whether a model of each task is loaded, rather than the first available one of all."""

    max_batch_size: PositiveInt = Field(default=1, description="items in one predict_batch call")
    batch_wait_s: NonNegativeFloat = Field(
        default=0.0, description="how long an incomplete batch waits for items that are being prepared"
    )
    max_streams: PositiveInt = Field(default=4, description="concurrent streams of a stage that has them")


def models_of(config: StageConfig) -> list[str]:
    """Return the models that a stage with this configuration may load."""
    names = [getattr(config, "model", None)]
    for field_name in ("models", "second", "checkpoints"):
        names += getattr(config, field_name, None) or ()
    return [name for name in names if isinstance(name, str)]


ConfigT = TypeVar("ConfigT", bound=StageConfig)
InT = TypeVar("InT")
ReadyT = TypeVar("ReadyT")
OutT = TypeVar("OutT")


class StageRef(Generic[InT, OutT]):
    """Names a stage with the types of its items and results, so that mypy checks every call of a graph.

    ``BLUR = StageRef[SharedImage, Sharpness]("quality/blur")`` stands beside the class of each stage. The input is
    what a caller passes: an image as ``SharedImage`` where the stage itself receives its pixels.
    """

    def __init__(self, key: str) -> None:
        self.key = key

    @property
    def input(self) -> Any:
        """Return the type of one item."""
        return get_args(self.__orig_class__)[0]  # type: ignore[attr-defined]  # set by typing on a subscripted class

    @property
    def output(self) -> Any:
        """Return the type of one result."""
        return get_args(self.__orig_class__)[1]  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"StageRef({self.key!r})"


@dataclass(frozen=True)
class HubModels:
    """What a stage asks of a repository of the model hub whose model is to serve in it.

    ``kind``: in words. ``architecture``: a model class of transformers, or one of its mappings to classes. ``files``:
    those that it needs beside the checkpoint; ``optional``: those that it takes where there are any. ``samples``: makes
    items for a trial. Labels, rates and sizes are for the stage's ``load`` to check.
    """

    task: str
    kind: str
    architecture: str
    files: tuple[str, ...]
    samples: Callable[[], Sequence[Any]]
    optional: tuple[str, ...] = ()


class Stage(ABC, Generic[ConfigT, InT, ReadyT, OutT]):
    """One model or analytic step; a subclass defines ``predict``, or ``predict_batch`` where batches pay.

    ``prepare`` runs per item on a small thread pool while the previous batch is computed. ``load``, ``warm_up``,
    ``predict_batch``, ``reconfigure``, ``tick`` and ``close`` run on one thread, one call at a time; where
    ``batches_at_once`` is more than 1, ``predict_batch`` runs on that many threads instead.
    """

    key: ClassVar[str]
    """``room/name``, equal to the module's place under ``deployments``."""
    config_class: ClassVar[type[StageConfig]] = StageConfig
    libraries: ClassVar[tuple[str, ...]] = ()
    """Modules that ``load`` imports, so that the first caller does not wait for them."""
    stores: ClassVar[tuple[str, ...]] = ()
    """Stores that the stage opens, by their names in ``Stores``."""
    hub: ClassVar[HubModels | None] = None
    """Which models of the hub it can run; None when its models cannot be exchanged like that."""
    prepare_threads: ClassVar[int] = 0
    """Threads for ``prepare``; 0 when the stage needs no preparation."""
    fixed_models: ClassVar[tuple[str, ...]] = ()
    """Models of models.yaml that the stage loads whatever is configured."""
    tick_s: ClassVar[float | None] = None
    """Seconds between calls of ``tick``; None for never."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Raise TypeError for a stage that defines both or neither of ``predict`` and ``predict_batch``."""
        super().__init_subclass__(**kwargs)
        defined = [name for name in ("predict", "predict_batch") if getattr(cls, name) is not getattr(Stage, name)]
        if hasattr(cls, "key") and len(defined) != 1:
            have = "both predict and predict_batch" if defined else "neither predict nor predict_batch"
            raise TypeError(f"{cls.__name__} defines {have}; a stage defines one of them")

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    @classmethod
    def model_chains(cls, config: ConfigT) -> list[list[str]]:
        """Return the models of the registry that the stage loads: of each list the first one that is available."""
        models = getattr(config, "models", None)
        return [list(models)] if models else []

    def load(self) -> None:
        """Get ready to predict. Raises ModelNotLoaded, with every reason, when there are no verified weights."""
        for library in self.libraries:
            import_module(library)

    def warm_up(self) -> None:
        """Run once on synthetic input, so that the first caller does not pay for lazy initialisation."""

    def prepare(self, item: InT) -> ReadyT:
        """Turn one request item into what ``predict`` takes; may raise StageError."""
        return item  # type: ignore[return-value]

    def predict(self, item: ReadyT) -> OutT:
        """Return the result of one item; may raise StageError."""
        raise NotImplementedError

    def predict_batch(self, items: list[ReadyT]) -> Sequence[OutT | StageError]:
        """Return one result per item, in order, with a StageError in the place of an item that failed."""
        return [self._predict_guarded(item) for item in items]

    def _predict_guarded(self, item: ReadyT) -> OutT | StageError:
        try:
            return self.predict(item)
        except StageError as error:
            return error
        except Exception:
            logger.exception("%s failed on an item", self.key)
            return ProcessingFailed(f"{self.key} failed on this input.")

    def stream(self, item: ReadyT) -> ByteGenerator:
        """Yield the bytes of one item as they are made, on a thread of its own; may raise StageError at any step.

        The generator is closed when its reader leaves, which takes effect at a ``yield``: so yield what there is every
        few milliseconds, and ``b""`` when there is nothing.
        """
        raise InvalidInput(f"{self.key} has no streams.")

    def batches_at_once(self) -> int:
        """Return how many concurrent ``predict_batch`` calls keep the device busy; asked once, after ``load``."""
        return 1

    def reconfigure(self, config: ConfigT) -> None:
        """Apply a changed configuration in place."""
        self.config = config

    def tick(self) -> None:
        """Do maintenance between requests."""

    def close(self) -> None:
        """Give back what ``load`` opened; nothing is asked of the stage any more."""

    def check_health(self) -> None:
        """Raise when the replica should be replaced."""

    def info(self) -> dict[str, Any]:
        """Return what ``/model-info`` shows: method, model, version, range and direction of the scores."""
        return {}
