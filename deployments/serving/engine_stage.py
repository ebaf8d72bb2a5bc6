"""What stages with an engine share: precision, device, threads, memory share, warm-up, and how ``info`` names them."""

import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from pydantic import Field

from configs.settings import settings
from deployments.serving.stage import InT, OutT, ReadyT, Stage, StageConfig
from vision.engines import Engine, EngineName, MakeModule, build_engine, exact_engine, item_shape


def model_chain(names: Sequence[str]) -> Any:
    """Return the field of a configuration that lists models, with its default."""
    return Field(default=list(names), min_length=1, description="names of models.yaml; the first available one serves")


class TorchConfig(StageConfig):
    """``user_config`` of a stage whose network torch may run; what is of torch is read at load."""

    torch_threads: int = Field(
        default=1, ge=1, description="threads of torch on the CPU; raise for a torch engine there"
    )
    cuda_memory_fraction: float | None = Field(
        default=None, gt=0, le=1, description="share of a GPU this process may take"
    )


class EngineConfig(TorchConfig):
    """``user_config`` of a stage with an engine; all but batching is read at load."""

    max_batch_size: int = Field(default=16, ge=1)
    engine: EngineName = Field(
        default="auto", description="auto is torch on a GPU that the process has a share of, else OpenVINO"
    )


EngineConfigT = TypeVar("EngineConfigT", bound=EngineConfig)


class EngineStage(Stage[EngineConfigT, InT, ReadyT, OutT], Generic[EngineConfigT, InT, ReadyT, OutT]):
    """A stage whose network runs in an engine; a subclass defines ``load_engine`` and calls ``build_engine`` in it."""

    exact: ClassVar[bool] = False
    """Whether ``auto`` means fp32: the mantissa of bf16 is too short for the stage's numbers."""

    _engine: Engine
    _input_size: tuple[int, ...]

    @abstractmethod
    def load_engine(self) -> Engine:
        """Load the configured models. Raises ModelNotLoaded with the reason of each when none is available."""

    def build_engine(
        self,
        make_module: MakeModule,
        *,
        version: str,
        input_size: tuple[int, ...],
        engine: EngineName | None = None,
    ) -> Engine:
        """Return the engine of the configuration for a module, or ``engine`` whatever is configured.

        Raises as ``vision.engines.build_engine``.
        """
        name: EngineName = engine or self.config.engine
        if self.exact and name == "auto":
            name = exact_engine()
        self._input_size = input_size
        return build_engine(
            name,
            make_module,
            version=version,
            input_size=input_size,
            cache=settings().models_cache.expanduser(),
            cuda_memory_fraction=self.config.cuda_memory_fraction,
        )

    def load(self) -> None:
        """Raises as ``load_engine``."""
        super().load()
        self._engine = self.load_engine()
        if "torch" in sys.modules:  # an engine of OpenVINO that is there already does without
            import torch

            # Items are prepared in threads of their own; threads of torch would only compete with them.
            torch.set_num_threads(self.config.torch_threads)

    def warm_up(self) -> None:
        # Every size once: an engine compiles its kernels anew for each new batch size.
        for size in range(1, self.config.max_batch_size + 1):
            self._engine(np.zeros((size, *item_shape(self._input_size)), np.float32))

    def batches_at_once(self) -> int:
        return self._engine.streams

    def info(self) -> dict[str, Any]:
        return {
            "engine": self._engine.name,
            "device": self._engine.device,
            "max_batch_size": self.config.max_batch_size,
        }
