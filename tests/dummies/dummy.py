"""What the dummies share: they load nothing, count their items, and say that they are dummies."""

from typing import Any, ClassVar, Generic, Self, TypeVar

from deployments.serving.stage import Stage, StageConfig

InT = TypeVar("InT")
OutT = TypeVar("OutT")


class Dummy(Stage[StageConfig, InT, InT, OutT], Generic[InT, OutT]):
    """A stage without weights; a subclass defines ``key`` and ``predict``."""

    running: ClassVar[Self]
    """The one of this class that was loaded last."""

    def load(self) -> None:
        self.calls = 0
        """Items that ``predict`` got, as far as the subclass counts them."""
        self.version = "dummy@00000000"
        type(self).running = self

    def info(self) -> dict[str, Any]:
        return {"model": "dummy", "model_version": self.version}
