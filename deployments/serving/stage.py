"""A stage: one model or one analytic step, and the typed reference by which graphs call it.

A stage knows nothing of HTTP or of other stages. Its module may import heavy libraries only inside
``load``, so that the command line and the gateway can import every stage without torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

from deployments.serving.streams import ByteGenerator
from vision.errors import InvalidInput, StageError


class StageConfig(BaseModel):
    """What ``user_config`` may set for a stage; a change is applied in place, without a restart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_batch_size: PositiveInt = Field(default=1, description="items in one predict_batch call")
    batch_wait_s: NonNegativeFloat = Field(
        default=0.0, description="how long an incomplete batch waits for items being prepared"
    )
    max_streams: PositiveInt = Field(default=4, description="streams at a time, of a stage that has them")


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


class Stage(ABC, Generic[ConfigT, InT, ReadyT, OutT]):
    """One model or analytic step.

    ``prepare`` runs per item on a small thread pool, beside the batch before it; ``load``, ``warm_up``,
    ``predict_batch``, ``reconfigure`` and ``tick`` all run on one thread, one call at a time, unless the stage says by
    ``batches_at_once`` that its device takes more: then ``predict_batch`` runs on that many threads.
    """

    key: ClassVar[str]
    """``room/name``, equal to the module's place under ``deployments``."""
    config_class: ClassVar[type[StageConfig]] = StageConfig
    prepare_threads: ClassVar[int] = 0
    """Threads for ``prepare``; 0 when the stage needs no preparation."""
    tick_s: ClassVar[float | None] = None
    """Seconds between calls of ``tick``; None for never."""

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    @abstractmethod
    def load(self) -> None:
        """Get ready to predict. Raises ModelNotLoaded, with every reason, when there are no verified weights."""

    def warm_up(self) -> None:
        """Run once on made-up input, so that the first caller does not pay for lazy initialisation."""

    def prepare(self, item: InT) -> ReadyT:
        """Turn one request item into what ``predict_batch`` takes; may raise StageError."""
        return item  # type: ignore[return-value]

    @abstractmethod
    def predict_batch(self, items: list[ReadyT]) -> Sequence[OutT | StageError]:
        """One result per item, in order; a StageError in the place of an item that failed."""

    def stream(self, item: ReadyT) -> ByteGenerator:
        """The bytes of one item as they are made, on a thread of its own; may raise StageError at any step.

        It is closed when its reader leaves, which it learns at a ``yield``; so give what there is every few
        milliseconds, and ``b""`` when there is nothing.
        """
        raise InvalidInput(f"{self.key} has no streams.")

    def batches_at_once(self) -> int:
        """How many ``predict_batch`` calls keep the device busy; asked once, after ``load``."""
        return 1

    def reconfigure(self, config: ConfigT) -> None:
        """Apply a changed configuration in place."""
        self.config = config

    def tick(self) -> None:
        """Upkeep between requests."""

    def check_health(self) -> None:
        """Raise when the replica should be replaced."""

    def info(self) -> dict[str, Any]:
        """What ``/model-info`` says of this stage: method, model, version, range and direction of its scores."""
        return {}
