"""Enrolled animals in a SQLite file beside the documents."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from stores.animals import Animal, Animals
from stores.records import Features, from_blob, from_micros, to_blob, to_micros
from stores.sqlite.engine import SqliteStore, sqlite_path

SCHEMA = (
    """CREATE TABLE animals (
        key TEXT PRIMARY KEY, animal_id TEXT NOT NULL, model_version TEXT NOT NULL, model_ids TEXT NOT NULL,
        reference_codes BLOB NOT NULL, template BLOB NOT NULL, created_at INTEGER NOT NULL,
        indexed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID""",
    "CREATE INDEX animals_unindexed ON animals (model_version, created_at) WHERE indexed = 0",
    "CREATE INDEX animals_of_version ON animals (model_version)",
)
ANIMAL = "SELECT animal_id, model_version, model_ids, reference_codes, template, created_at FROM animals"
AMONG = "key IN (SELECT value FROM json_each(?))"
ANIMALS_AMONG = f"{ANIMAL} WHERE {AMONG}"


class SqliteAnimals(SqliteStore, Animals):
    """Beside the documents of ``sqlite:///file.sqlite``: in ``file.animals.sqlite``."""

    schema = SCHEMA
    schema_version = 1

    def __init__(self, url: str) -> None:
        path = sqlite_path(url)
        super().__init__(path.with_name(f"{path.stem}.animals{path.suffix}"))

    async def insert(self, animal: Animal) -> bool:
        return await self._changed(
            """INSERT INTO animals (key, animal_id, model_version, model_ids, reference_codes, template, created_at)
               VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
            animal.key,
            animal.animal_id,
            animal.model_version,
            json.dumps(animal.model_ids),
            to_blob(animal.references),
            to_blob(animal.template),
            to_micros(animal.created_at),
        )

    async def get(self, keys: Iterable[str]) -> dict[str, Animal]:
        found = [_animal(row) for row in await self._read(ANIMALS_AMONG, json.dumps(list(keys)))]
        return {animal.key: animal for animal in found}

    async def delete(self, key: str) -> bool:
        return await self._changed("DELETE FROM animals WHERE key = ?", key)

    async def count(self, model_version: str | None = None) -> int:
        sql = "SELECT count(*) FROM animals WHERE ? IS NULL OR model_version = ?"
        ((number,),) = await self._read(sql, model_version, model_version)
        return int(number)

    async def unindexed_features(self, model_version: str, limit: int) -> list[Features]:
        rows = await self._read(
            """SELECT key, template, created_at FROM animals
               WHERE model_version = ? AND indexed = 0 ORDER BY created_at LIMIT ?""",
            *(model_version, limit),
        )
        vectors = [(key, from_blob(template), from_micros(created_at)) for key, template, created_at in rows]
        return [Features(key, model_version, "image", vector, vector, when) for key, vector, when in vectors]

    async def unindexed_models(self) -> list[str]:
        return [row[0] for row in await self._read("SELECT DISTINCT model_version FROM animals WHERE indexed = 0")]

    async def mark_indexed(self, features: Iterable[Features]) -> None:
        rows = [(item.asset_id, item.model_version, to_micros(item.created_at)) for item in features]

        def mark(connection: sqlite3.Connection) -> None:
            sql = "UPDATE animals SET indexed = 1 WHERE key = ? AND model_version = ? AND created_at = ?"
            connection.executemany(sql, rows)

        await self._writer.submit(mark)

    async def mark_unindexed(self, model_version: str, keys: Sequence[str] | None = None) -> None:
        marked = "UPDATE animals SET indexed = 0 WHERE model_version = ? AND indexed = 1"
        if keys is None:
            await self._changed(marked, model_version)
        else:
            await self._changed(f"{marked} AND {AMONG}", model_version, json.dumps(list(keys)))


def _animal(row: Sequence[Any]) -> Animal:
    animal_id, model_version, model_ids, references, template, created_at = row
    mean = from_blob(template)
    return Animal(
        animal_id=animal_id,
        model_version=model_version,
        model_ids=tuple(json.loads(model_ids)),
        references=from_blob(references).reshape(-1, mean.size),
        template=mean,
        created_at=from_micros(created_at),
    )
