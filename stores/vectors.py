"""The vector store: nearest neighbours over the whole library, one space per model version."""

from collections.abc import Iterable, Sequence
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
    """What a vector store is derived from, and can be rebuilt from."""

    async def unindexed_features(self, model_version: str, limit: int) -> list[Features]:
        """Vectors of one model that the vector store has not taken yet, oldest first."""
        ...

    async def unindexed_models(self) -> list[str]:
        """Model versions with vectors that the vector store has not taken yet."""
        ...

    async def mark_indexed(self, features: Iterable[Features]) -> None:
        """Note that the vector store holds exactly these (same ``created_at``)."""
        ...

    async def mark_unindexed(self, model_version: str) -> None:
        """Have every vector of one model indexed again, after the vector store was lost."""
        ...

    async def ping(self) -> None:
        """Raise StoreError unless the store answers."""
        ...

    async def close(self) -> None: ...


class Vectors(Protocol):
    """Approximate nearest neighbours by cosine. A derived store: it can be rebuilt from the documents."""

    type: str

    async def add(self, features: Sequence[Features]) -> None:
        """Insert or replace the unit vectors of features of one model version."""
        ...

    async def remove(self, model_version: str, asset_ids: Sequence[str]) -> None:
        """Forget assets; unknown ids are no error."""
        ...

    async def search(
        self,
        model_version: str,
        unit: Vector,
        k: int,
        *,
        kind: MediaKind | None = None,
    ) -> list[Neighbour]:
        """The ``k`` nearest by cosine, best first, of one media kind when given.

        [] for an unknown model version.
        """
        ...

    async def count(self, model_version: str) -> int:
        """Number of vectors held."""
        ...

    async def maintain(self, model_version: str) -> None:
        """Compact fragments and bring the index up to date where that pays; safe to call at any time."""
        ...

    async def close(self) -> None: ...
