"""The registry of animals: who is enrolled, with the codes of their reference photos."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from stores.records import Vector
from stores.vectors import IndexSource


def animal_key(animal_id: str) -> str:
    """Return the key of an animal in all stores: the first 32 hex digits of the SHA-256 of the client's id."""
    return hashlib.sha256(animal_id.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, eq=False)
class Animal:
    """One enrolled animal.

    ``references`` is float32[n, d], the ensemble code of each reference photo; ``template`` float32[d] is their mean,
    of length 1. Both are of ``model_version``, made by the models ``model_ids``. The prints of the photos are kept
    beside it (``Animals.prints``).
    """

    animal_id: str
    model_version: str
    model_ids: tuple[int, ...]
    references: Vector
    template: Vector
    created_at: datetime

    @property
    def key(self) -> str:
        """See ``animal_key``."""
        return animal_key(self.animal_id)


class Animals(IndexSource, Protocol):
    """Enrolled animals; every write that returned is durable. The vector store indexes their templates."""

    async def insert(self, animal: Animal, prints: Sequence[bytes] = ()) -> bool:
        """Enrol an animal with the prints of its photos; False, changing nothing, if its id is enrolled already."""
        ...

    async def get(self, keys: Iterable[str]) -> dict[str, Animal]:
        """Return the enrolled animals among the keys."""
        ...

    async def latest(self, before: tuple[datetime, str] | None = None, limit: int = 100) -> list[Animal]:
        """Return animals by when they were enrolled and then their key, last ones first.

        ``before`` is the time and the key of the last animal of the page before.
        """
        ...

    async def prints(self, keys: Iterable[str]) -> dict[str, tuple[bytes, ...]]:
        """Return the prints of the enrolled animals among the keys that have any, in the order of their photos."""
        ...

    async def delete(self, key: str) -> bool:
        """Remove an animal and its prints; False if there was none."""
        ...

    async def mark_unindexed(self, model_version: str, keys: Sequence[str] | None = None) -> None:
        """Record that the vector store lacks the templates of one version of the models, of all or of some animals."""
        ...

    async def count(self, model_version: str | None = None) -> int:
        """Count enrolled animals, those of one version of the models if given."""
        ...
