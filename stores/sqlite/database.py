"""The SQLite file of the document store, with all its tables, and how files of earlier versions become one.

Schema 3 made it one file. Before it jobs, people, shots, analyses and animals had files of their own beside that of the
documents, such as ``documents.jobs.sqlite``. Opening copies their rows in the transaction that makes the tables, and
removes those files once it is durable.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from stores.errors import StoreError
from stores.sqlite import (
    analyses,
    animals,
    audit,
    documents,
    jobs,
    keys,
    partial_uploads,
    people,
    shots,
    subscriptions,
    usage,
)
from stores.sqlite.engine import BUSY_TIMEOUT_S, SqliteEngine, connect

VERSION: Final = 16
MERGED_SINCE: Final = 3
"""The version from which on there is one file."""
MERGED: Final = (*jobs.SCHEMA, *people.SCHEMA, *shots.SCHEMA, *analyses.SCHEMA, *animals.SCHEMA)
"""Tables that came with version 3."""
QUOTAS: Final = (*jobs.OWNERS, *keys.QUOTAS, *documents.OWNERS, *usage.SCHEMA, *audit.SCHEMA)
"""What came with version 8: owners of jobs, quotas of keys, the audit trail."""
TAGS: Final = (*documents.OBJECTS, *people.TAGS)
"""What came with version 15: objects of pictures, and what is in films by class."""
WEBHOOKS: Final = (*jobs.ENDS, *jobs.DELIVERIES, *subscriptions.SCHEMA)
SCHEMA: Final = (
    *(*documents.SCHEMA, *MERGED, *keys.SCHEMA, *partial_uploads.SCHEMA, *QUOTAS, *jobs.ORIGIN),
    people.REJECTED_COLUMN,
    animals.BY_TIME,
    *WEBHOOKS,
    animals.PRINTS,
    *people.OBJECTS,
    *TAGS,
    *shots.OBJECTS,
)
Step = str | Callable[[sqlite3.Connection], None]
MIGRATIONS: Final[Mapping[int, Sequence[Step]]] = {
    1: (documents.FACES_TABLE,),
    2: MERGED,
    3: documents.MOVE_UPLOADS,
    4: (*keys.SCHEMA, documents.LABELS_TABLE),
    5: (documents.UPLOADS_BY_TIME,),
    6: partial_uploads.SCHEMA,
    7: QUOTAS,
    8: jobs.ORIGIN,
    9: (people.REJECTED_COLUMN,),
    10: (animals.BY_TIME,),
    11: WEBHOOKS,
    12: (animals.PRINTS,),
    13: people.OBJECTS,
    14: (*TAGS, people.tag_films),
    15: shots.OBJECTS,
}
"""For each older version, the statements and functions that bring the tables to the next one."""
LEGACY: Final[Mapping[str, Mapping[str, str]]] = {
    "jobs": {"jobs": "jobs"},
    "people": {"video_indexes": "video_indexes", "traces": "traces", "identities": "identities"},
    "shots": {
        "analyses": "shot_analyses",
        "analysed_shots": "analysed_shots",
        "shots": "shots",
        "library": "shot_library",
    },
    "analyses": {"analyses": "analyses"},
    "animals": {"animals": "animals"},
}
"""For each file that version 3 merges, its tables and the tables that take their rows."""
LEGACY_VERSION: Final = 1
LEGACY_TIMEOUT_S: Final = 5.0
"""How long a process of an earlier version has to let go of its files."""


class SqliteDatabase:
    """All stores of one file.

    :raises StoreError: it is no database, a newer version of this program wrote it, or an older one uses it.
    """

    def __init__(self, path: Path, reserve_bytes: int = 0) -> None:
        self._path = path
        self._found = VERSION
        """The version of the file when it was opened."""
        self.engine = SqliteEngine(path, self._prepare, reserve_bytes)
        self.documents = documents.SqliteDocuments(self.engine)
        self.jobs = jobs.SqliteJobs(self.engine)
        self.people = people.SqlitePeople(self.engine)
        self.shots = shots.SqliteShots(self.engine)
        self.analyses = analyses.SqliteAnalyses(self.engine)
        self.animals = animals.SqliteAnimals(self.engine)
        self.keys = keys.SqliteKeys(self.engine)
        self.partial_uploads = partial_uploads.SqlitePartialUploads(self.engine)
        self.usage = usage.SqliteUsage(self.engine)
        self.audit = audit.SqliteAudit(self.engine)
        self.subscriptions = subscriptions.SqliteSubscriptions(self.engine)
        self.deliveries = jobs.SqliteJobs(self.engine, "deliveries")

    async def migrate(self) -> tuple[int, int]:
        """Bring the file to this schema, as opening does; return the version that it had, 0 for a new one, and has."""
        await self.documents.ping()
        return self._found, VERSION

    async def mentions(self, text: str) -> Mapping[str, int]:
        """Return how many rows name a text in any column, by table. Raises StoreError."""
        counts: dict[str, int] = {}
        for (table,) in await self.engine.read("SELECT name FROM sqlite_master WHERE type = 'table'"):
            columns = [row[0] for row in await self.engine.read("SELECT name FROM pragma_table_info(?)", table)]
            named = " OR ".join(f'instr(CAST("{column}" AS BLOB), CAST(?1 AS BLOB))' for column in columns)
            ((count,),) = await self.engine.read(f'SELECT count(*) FROM "{table}" WHERE {named}', text)  # noqa: S608
            counts[table] = int(count)
        return {table: count for table, count in counts.items() if count}

    async def close(self) -> None:
        """Commit what was submitted, then close the file."""
        await self.engine.close()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._found = _prepare(self._path, connection)


def _prepare(path: Path, connection: sqlite3.Connection) -> int:
    """Bring a file to WAL mode and to this schema; return the version that it had. Several processes may do so at once.

    :raises StoreError: a newer version of this program made the file, or an older one is using it.
    """
    _enter_wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _migrate(path, connection)
    except BaseException:
        if connection.in_transaction:  # after a full disk, say, SQLite has undone everything by itself
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    # What these hold is in the new file now. They go at every start, as the one that merged them may have died here.
    for _, old in _legacy_files(path):
        for suffix in ("", "-wal", "-shm"):
            old.with_name(old.name + suffix).unlink(missing_ok=True)
    return found


def _migrate(path: Path, connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == VERSION:
        return version
    steps: list[Sequence[Step]]
    steps = [SCHEMA] if version == 0 else [MIGRATIONS[step] for step in range(version, VERSION)]
    if not steps:
        raise StoreError(f"sqlite: the file has schema {version}, this program knows {VERSION}; update the program")
    for statement in (statement for step in steps for statement in step):
        if isinstance(statement, str):
            connection.execute(statement)
        else:
            statement(connection)
    for store, old in _legacy_files(path):
        if old.exists():
            _merge(connection, old, LEGACY[store])
    connection.execute(f"PRAGMA user_version = {VERSION}")
    return version


def _merge(connection: sqlite3.Connection, old: Path, tables: Mapping[str, str]) -> None:
    """Copy all rows of an older file into tables of this one that are new."""
    with closing(connect(old, timeout_s=LEGACY_TIMEOUT_S)) as source:
        try:
            # Possible only while no other process has the file open; it would go on to write what is lost then.
            source.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"sqlite: an earlier version of this program is using {old.name} ({error}); stop it, then start again"
            ) from error
        (version,) = source.execute("PRAGMA user_version").fetchone()
        if version == 0:
            return  # whoever made the file died before it had tables
        if version != LEGACY_VERSION:
            raise StoreError(f"sqlite: {old.name} has schema {version}, this program knows {LEGACY_VERSION}")
        for table, target in tables.items():
            rows = source.execute(f"SELECT * FROM {table}")  # noqa: S608 (a constant)
            names = [column[0] for column in rows.description]
            connection.execute(f"DELETE FROM {target}")  # noqa: S608 (a constant); the revision that a new library has
            insert = f"INSERT INTO {target} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
            connection.executemany(insert, rows)


def _legacy_files(path: Path) -> Iterator[tuple[str, Path]]:
    for store in LEGACY:
        yield store, path.with_name(f"{path.stem}.{store}{path.suffix}")


def _enter_wal(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # The busy timeout does not cover this change when two processes make it at the same time.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
