"""Enrolled animals in SQLite."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from stores.animals import Animal, Animals
from stores.records import Features, from_blob, from_micros, to_blob, to_micros
from stores.sqlite.engine import SqliteRepository

SCHEMA = (
    """CREATE TABLE animals (
        key TEXT PRIMARY KEY, animal_id TEXT NOT NULL, model_version TEXT NOT NULL, model_ids TEXT NOT NULL,
        reference_codes BLOB NOT NULL, template BLOB NOT NULL, created_at INTEGER NOT NULL,
        indexed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID""",
    "CREATE INDEX animals_unindexed ON animals (model_version, created_at) WHERE indexed = 0",
    "CREATE INDEX animals_of_version ON animals (model_version)",
)
BY_TIME = "CREATE INDEX animals_by_time ON animals (created_at, key)"
PRINTS = """CREATE TABLE animal_prints (
    key TEXT NOT NULL REFERENCES animals ON DELETE CASCADE, photo INTEGER NOT NULL, print BLOB NOT NULL,
    PRIMARY KEY (key, photo))"""
"""What came with version 13: prints, which are large, beside the animals that every search reads."""
ANIMAL = "SELECT animal_id, model_version, model_ids, reference_codes, template, created_at FROM animals"
AMONG = "key IN (SELECT value FROM json_each(?))"
ANIMALS_AMONG = f"{ANIMAL} WHERE {AMONG}"
PRINTS_AMONG = f"SELECT key, print FROM animal_prints WHERE {AMONG} ORDER BY key, photo"  # noqa: S608 (constants)


class SqliteAnimals(SqliteRepository, Animals):
    """The tables ``animals`` and ``animal_prints``."""

    async def insert(self, animal: Animal, prints: Sequence[bytes] = ()) -> bool:
        values = (
            animal.key,
            animal.animal_id,
            animal.model_version,
            json.dumps(animal.model_ids),
            to_blob(animal.references),
            to_blob(animal.template),
            to_micros(animal.created_at),
        )

        def enrol(connection: sqlite3.Connection) -> bool:
            inserted = connection.execute(
                """INSERT INTO animals (key, animal_id, model_version, model_ids, reference_codes, template, created_at)
                   VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
                values,
            ).rowcount
            if inserted:
                rows = [(animal.key, number, each) for number, each in enumerate(prints)]
                connection.executemany("INSERT INTO animal_prints VALUES (?, ?, ?)", rows)
            return inserted > 0

        return await self._engine.write(enrol)

    async def get(self, keys: Iterable[str]) -> dict[str, Animal]:
        animals = [_animal(row) for row in await self._engine.read(ANIMALS_AMONG, json.dumps(list(keys)))]
        return {animal.key: animal for animal in animals}

    async def latest(self, before: tuple[datetime, str] | None = None, limit: int = 100) -> list[Animal]:
        moment, key = (to_micros(before[0]), before[1]) if before else (2**62, "")
        later = "WHERE (created_at, key) < (?, ?) ORDER BY created_at DESC, key DESC LIMIT ?"
        rows = await self._engine.read(f"{ANIMAL} {later}", moment, key, limit)
        return [_animal(row) for row in rows]

    async def prints(self, keys: Iterable[str]) -> dict[str, tuple[bytes, ...]]:
        rows = await self._engine.read(PRINTS_AMONG, json.dumps(list(keys)))
        return {key: tuple(each for _, each in group) for key, group in groupby(rows, itemgetter(0))}

    async def delete(self, key: str) -> bool:
        return await self._engine.execute("DELETE FROM animals WHERE key = ?", key, reserve=True) > 0

    async def count(self, model_version: str | None = None) -> int:
        sql = "SELECT count(*) FROM animals WHERE ? IS NULL OR model_version = ?"
        ((number,),) = await self._engine.read(sql, model_version, model_version)
        return int(number)

    async def unindexed_features(self, model_version: str, limit: int) -> list[Features]:
        rows = await self._engine.read(
            """SELECT key, template, created_at FROM animals
               WHERE model_version = ? AND indexed = 0 ORDER BY created_at LIMIT ?""",
            *(model_version, limit),
        )
        vectors = [(key, from_blob(template), from_micros(created_at)) for key, template, created_at in rows]
        return [Features(key, model_version, "image", vector, vector, when) for key, vector, when in vectors]

    async def unindexed_models(self) -> list[str]:
        return [
            row[0] for row in await self._engine.read("SELECT DISTINCT model_version FROM animals WHERE indexed = 0")
        ]

    async def mark_indexed(self, features: Iterable[Features]) -> None:
        await self._engine.execute_many(
            "UPDATE animals SET indexed = 1 WHERE key = ? AND model_version = ? AND created_at = ?",
            [(item.asset_id, item.model_version, to_micros(item.created_at)) for item in features],
        )

    async def mark_unindexed(self, model_version: str, keys: Sequence[str] | None = None) -> None:
        marked = "UPDATE animals SET indexed = 0 WHERE model_version = ? AND indexed = 1"
        if keys is None:
            await self._engine.execute(marked, model_version, reserve=True)
        else:
            await self._engine.execute(f"{marked} AND {AMONG}", model_version, json.dumps(list(keys)), reserve=True)


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
