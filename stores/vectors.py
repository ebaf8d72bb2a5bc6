"""The vector store: nearest neighbours over the whole library, one space per model version."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from stores.records import Features, Vector
from vision.media.sniff import MediaKind


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One hit; ``cosine`` in -1..1, higher is nearer."""

    asset_id: str
    cosine: float


class IndexSource(Protocol):
    """The store that a vector store indexes, and can be rebuilt from."""

    async def unindexed_features(self, model_version: str, limit: int) -> list[Features]:
        """Return vectors of one model that the vector store does not have yet, oldest first."""
        ...

    async def unindexed_models(self) -> list[str]:
        """Return model versions with vectors that the vector store does not have yet."""
        ...

    async def mark_indexed(self, features: Iterable[Features]) -> None:
        """Record that the vector store has exactly these (same ``created_at``)."""
        ...

    async def mark_unindexed(self, model_version: str) -> None:
        """Record that the vector store has no vectors of one model, after it was lost."""
        ...

    async def ping(self) -> None:
        """Raise StoreError unless the store answers."""
        ...


class Vectors(Protocol):
    """Nearest neighbours by cosine. A derived store: it can be rebuilt from the documents."""

    type: str

    async def add(self, features: Sequence[Features]) -> None:
        """Insert or replace the unit vectors of features of one model version."""
        ...

    async def remove(self, model_version: str, asset_ids: Sequence[str]) -> int:
        """Remove the vectors of assets; return how many there were."""
        ...

    async def search(
        self,
        model_version: str,
        unit: Vector,
        k: int,
        *,
        kind: MediaKind | None = None,
        exact: bool = False,
    ) -> list[Neighbour]:
        """Return the ``k`` nearest by cosine, best first, of one media kind if given.

        Of more than 100, of one kind, or where ``exact`` is asked for, all vectors are compared; else a large space may
        be searched by an index, which was measured to find 99 % of them. Return [] for an unknown model version.
        """
        ...

    async def count(self, model_version: str) -> int:
        """Return the number of vectors."""
        ...

    def ids(self) -> AsyncIterator[str]:
        """Yield the ids of all vectors, of every model version, some perhaps several times."""
        ...

    async def remove_all(self, asset_ids: Sequence[str]) -> int:
        """Remove the vectors of assets from every model version; return how many there were."""
        ...

    async def maintain(self, model_version: str, *, indexed: bool = True) -> None:
        """Compact fragments and bring the index up to date where that pays; safe to call at any time.

        The work is done in a process of low priority, which ends when this is cancelled. ``indexed``: whether a
        large space is to have an index.
        """
        ...

    async def close(self) -> None: ...
