"""analysis/nearest: the nearest assets of the whole library, from the vector store.

Features reach the documents first; this stage carries them into the vector store, before each search and between
requests. So a search sees every feature that was acknowledged before it, whoever computed it, and a lost vector
store is rebuilt from the documents.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs.settings import settings
from deployments.serving.stage import Stage, StageConfig, StageRef
from stores.open import open_documents, open_vectors
from stores.vectors import IndexSource, Neighbour, Vectors
from vision.errors import StageError
from vision.media.sniff import MediaKind


@dataclass(frozen=True, slots=True, eq=False)
class NearestQuery:
    """``unit``: float32[d] unit vector of ``model_version``'s space; the ``k`` nearest, of one kind when given."""

    model_version: str
    unit: NDArray[np.float32]
    k: int
    kind: MediaKind | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """``neighbours``, best first, cosine −1..1; ``searched``: how many vectors the space holds."""

    neighbours: list[Neighbour]
    searched: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Take deleted assets out of the vector store."""

    model_version: str
    asset_ids: tuple[str, ...]


class Config(StageConfig):
    """``user_config`` of analysis/nearest."""

    index_chunk: int = Field(default=2000, ge=1, description="features carried into the vector store at a time")


NEAREST: Final = StageRef[NearestQuery | Forget, Found]("analysis/nearest")


class Nearest(Stage[Config, NearestQuery | Forget, NearestQuery | Forget, Found]):
    """NearestQuery → Found. Forget → an empty Found."""

    key = NEAREST.key
    config_class = Config
    tick_s = 10.0

    _documents: IndexSource
    _vectors: Vectors

    def load(self) -> None:
        # The stores are asynchronous; this stage's one thread has an event loop of its own for them.
        self._loop = asyncio.Runner()
        self._known: set[str] = set()
        self._added_since_maintenance: dict[str, int] = {}
        self._loop.run(self._open())

    def predict_batch(self, items: list[NearestQuery | Forget]) -> Sequence[Found | StageError]:
        return [self._loop.run(self._answer(item)) for item in items]

    def tick(self) -> None:
        self._loop.run(self._upkeep())

    def info(self) -> dict[str, Any]:
        return {"store": self._vectors.type, "metric": "cosine, -1 to 1, higher is nearer"}

    def open_stores(self) -> tuple[IndexSource, Vectors]:
        """The store whose vectors are searched, and the one that they are searched in."""
        return open_documents(settings().documents), open_vectors(settings().vectors)

    async def _open(self) -> None:
        self._documents, self._vectors = self.open_stores()
        await self._documents.ping()

    async def _answer(self, item: NearestQuery | Forget) -> Found:
        if isinstance(item, Forget):
            await self.forget(item)
            return Found([], 0)
        await self._catch_up(item.model_version)
        neighbours = await self._vectors.search(item.model_version, item.unit, item.k, kind=item.kind)
        return Found(neighbours, await self._vectors.count(item.model_version))

    async def forget(self, item: Forget) -> None:
        """Take what was deleted out of the vector store."""
        await self._vectors.remove(item.model_version, item.asset_ids)

    async def _catch_up(self, model_version: str) -> None:
        if model_version not in self._known:
            if await self._vectors.count(model_version) == 0:
                await self._documents.mark_unindexed(model_version)
            self._known.add(model_version)
        while features := await self._documents.unindexed_features(model_version, self.config.index_chunk):
            await self._vectors.add(features)
            await self._documents.mark_indexed(features)
            added = self._added_since_maintenance
            added[model_version] = added.get(model_version, 0) + len(features)

    async def _upkeep(self) -> None:
        for model_version in await self._documents.unindexed_models():
            await self._catch_up(model_version)
        for model_version in self._known:
            if self._added_since_maintenance.get(model_version, 0) > 0:
                await self._vectors.maintain(model_version)
                self._added_since_maintenance[model_version] = 0
