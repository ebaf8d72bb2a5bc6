"""The registry of animals: who is enrolled, by which codes of their reference photos."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from stores.records import Vector
from stores.vectors import IndexSource


def animal_key(animal_id: str) -> str:
    """The first 32 hex digits of the SHA-256 of a client's id, under which stores know the animal."""
    return hashlib.sha256(animal_id.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, eq=False)
class Animal:
    """One enrolled animal.

    ``references`` is float32[n, d], the ensemble code of each reference photo; ``template`` float32[d] is their mean,
    of length 1. Both are of ``model_version``, made by the models ``model_ids``.
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
    """Enrolled animals; every write that returned is durable. The vector store takes their templates from here."""

    async def insert(self, animal: Animal) -> bool:
        """Enrol; False, changing nothing, when the id is enrolled already."""
        ...

    async def get(self, keys: Iterable[str]) -> dict[str, Animal]:
        """The enrolled ones by key."""
        ...

    async def delete(self, key: str) -> bool:
        """Forget an animal; False when there was none."""
        ...

    async def mark_unindexed(self, model_version: str, keys: Sequence[str] | None = None) -> None:
        """Have every template of one version of the models indexed again, or those of some animals."""
        ...

    async def count(self, model_version: str | None = None) -> int:
        """How many are enrolled, by one version of the models where that is given."""
        ...

    async def close(self) -> None: ...
