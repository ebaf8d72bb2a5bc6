"""What the search stages share: nearest neighbours in a vector store that follows a store of documents.

Vectors are written to the documents first; this stage copies them into the vector store, before each search and
between requests, and has large spaces maintained beside requests. So a search sees every vector that was acknowledged
before it, whoever computed it, and a lost vector store is rebuilt from the documents.
"""

import asyncio
import logging
import threading
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs.settings import settings
from deployments.serving.metrics import record_store_call
from deployments.serving.stage import Stage, StageConfig
from stores.errors import StoreError, StoreFull, StoreReadOnly
from stores.open import Stores
from stores.records import Features
from stores.vectors import IndexSource, Neighbour, Vectors
from vision.errors import StageUnavailable
from vision.media.sniff import MediaKind

logger = logging.getLogger("ray.serve")

MOST_PENDING: Final = 20_000
"""Vectors that a search compares without the index while that cannot be written."""

SourceT = TypeVar("SourceT", bound=IndexSource)


@dataclass(frozen=True, slots=True, eq=False)
class NearestQuery:
    """``unit``: float32[d] unit vector of ``model_version``'s space; the ``k`` nearest, of one kind when given."""

    model_version: str
    unit: NDArray[np.float32]
    k: int
    kind: MediaKind | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """``neighbours``, best first, cosine −1..1; ``searched``: how many vectors the space holds."""

    neighbours: list[Neighbour]
    searched: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove deleted assets from the vector store."""

    model_version: str
    asset_ids: tuple[str, ...]


class Config(StageConfig):
    """``user_config`` of a search stage."""

    index_chunk: int = Field(default=2000, ge=1, description="vectors copied into the vector store at a time")


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn what the stores raise into errors of the stage."""
    try:
        yield
    except StoreError as error:
        raise StageUnavailable(error.message) from error


def _with_pending(neighbours: list[Neighbour], query: NearestQuery, pending: Sequence[Features]) -> list[Neighbour]:
    """Return the nearest of both; a vector that is pending counts in place of an older one of the same asset."""
    wanted = [item for item in pending if query.kind in (None, item.kind)]
    if not wanted:
        return neighbours
    newer = {item.asset_id for item in pending}
    compared = [Neighbour(item.asset_id, float(item.unit @ query.unit)) for item in wanted]
    both = [each for each in neighbours if each.asset_id not in newer] + compared
    return sorted(both, key=lambda each: each.cosine, reverse=True)[: query.k]


class Maintenance:
    """Maintains spaces of vectors on a thread of its own, so that no search waits for it."""

    def __init__(self, key: str, *, exact: bool) -> None:
        self._key, self._exact = key, exact
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def start(self, model_versions: Collection[str]) -> bool:
        """Maintain these spaces; False, and nothing is done, while the last ones are being maintained."""
        if self._thread is not None and self._thread.is_alive():
            return False
        self._thread = threading.Thread(
            target=asyncio.run, args=[self._run(tuple(model_versions))], name=f"{self._key}-maintenance", daemon=True
        )
        self._thread.start()
        return True

    def wait(self) -> None:
        """Return when nothing is being maintained."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Stop in the middle, which loses nothing."""
        self._stopped = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())
        self.wait()

    async def _run(self, model_versions: Sequence[str]) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._stopped:
            return
        stores = Stores.open(settings(), record_store_call)
        try:
            for model_version in model_versions:
                await stores.vectors.maintain(model_version, indexed=not self._exact)
        except StoreError as error:
            logger.warning("%s: the vectors are not maintained: %s", self._key, error)
        except asyncio.CancelledError:
            return
        finally:
            await stores.close()


class VectorSearch(Stage[Config, NearestQuery | Forget, NearestQuery | Forget, SearchResult], Generic[SourceT]):
    """NearestQuery → SearchResult. Forget → one without neighbours, ``searched`` are the vectors that were removed."""

    config_class = Config
    tick_s = 10.0
    exact: ClassVar[bool] = False
    """Whether every vector is compared, whatever their number, and no index is made."""

    _stores: Stores
    _source: SourceT
    _vectors: Vectors

    @abstractmethod
    def source(self, stores: Stores) -> SourceT:
        """Return the store that holds the vectors."""

    def load(self) -> None:
        # The stores are asynchronous; this stage's one thread has an event loop of its own for them.
        self._loop = asyncio.Runner()
        self._known: set[str] = set()
        self._unmaintained: set[str] = set()
        self._maintenance = Maintenance(self.key, exact=self.exact)
        self._behind = False
        with store_errors():
            self._loop.run(self._open())

    def predict(self, item: NearestQuery | Forget) -> SearchResult:
        with store_errors():
            return self._loop.run(self._answer(item))

    def tick(self) -> None:
        try:
            self._loop.run(self._catch_up_all())
        except StoreError as error:
            if not self._behind:
                logger.warning("%s: the vectors are not maintained: %s", self.key, error)
            self._behind = True
        else:
            self._behind = False
        if self._unmaintained and self._maintenance.start(self._unmaintained):
            self._unmaintained = set()

    def close(self) -> None:
        self._maintenance.stop()
        self._loop.run(self._stores.close())
        self._loop.close()

    def info(self) -> dict[str, Any]:
        return {"store": self._vectors.type, "metric": "cosine, -1 to 1, higher is nearer"}

    async def forget(self, item: Forget) -> int:
        """Remove deleted assets from the vector store; return how many vectors there were."""
        return await self._vectors.remove(item.model_version, item.asset_ids)

    async def _open(self) -> None:
        self._stores = Stores.open(settings(), record_store_call)
        self._source, self._vectors = self.source(self._stores), self._stores.vectors
        await self._source.ping()

    async def _answer(self, item: NearestQuery | Forget) -> SearchResult:
        if isinstance(item, Forget):
            return SearchResult([], await self.forget(item))
        pending: list[Features] = []
        try:
            await self._catch_up(item.model_version)
        except (StoreFull, StoreReadOnly):
            # Vectors that have no place in the index now are compared one by one.
            pending = await self._source.unindexed_features(item.model_version, MOST_PENDING)
        neighbours = await self._vectors.search(item.model_version, item.unit, item.k, kind=item.kind, exact=self.exact)
        searched = await self._vectors.count(item.model_version)
        return SearchResult(_with_pending(neighbours, item, pending), searched + len(pending))

    async def _catch_up(self, model_version: str) -> None:
        if model_version not in self._known:
            if await self._vectors.count(model_version) == 0:
                await self._source.mark_unindexed(model_version)
            self._known.add(model_version)
            self._unmaintained.add(model_version)
        while features := await self._source.unindexed_features(model_version, self.config.index_chunk):
            await self._vectors.add(features)
            await self._source.mark_indexed(features)
            self._unmaintained.add(model_version)

    async def _catch_up_all(self) -> None:
        for model_version in await self._source.unindexed_models():
            await self._catch_up(model_version)
