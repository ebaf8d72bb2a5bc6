"""What every store in a SQLite file has: WAL, one thread that writes, and reads that wait for no writer."""

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from stores.documents import StoreError
from stores.sqlite.writer import GroupWriter

BUSY_TIMEOUT_S = 30.0
"""How long a write waits for the writers of other processes."""


def sqlite_path(url: str) -> Path:
    """The file that ``sqlite:///file`` names."""
    return Path(url.removeprefix("sqlite:///"))


class SqliteStore:
    """Base of the stores in a file of their own; the file, its folder and its schema are made when absent.

    :raises StoreError: the file cannot be opened, or a newer version of this program wrote it.
    """

    type = "sqlite"
    remote = False
    schema: ClassVar[Sequence[str]]
    """Statements that make the tables of a new file."""
    schema_version: ClassVar[int]
    migrations: ClassVar[Mapping[int, Sequence[str]]] = {}
    """For each older version that is still read, the statements that bring its files to the next one."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = _open(path)
            _prepare(connection, self.schema, self.schema_version, self.migrations)
            self._inline = _open(path, query_only=True)
            self._scans = _open(path, query_only=True)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"sqlite {path}: {error}") from error
        self._writer = GroupWriter(connection)
        self._scanner = ThreadPoolExecutor(1, thread_name_prefix="sqlite-scan")

    @property
    def transactions(self) -> int:
        """Write transactions committed so far by this process."""
        return self._writer.transactions

    async def ping(self) -> None:
        """Raise StoreError unless the store answers."""
        await self._read("SELECT 1 FROM sqlite_master LIMIT 1", inline=True)

    async def close(self) -> None:
        """Commit what was submitted, then close the file."""
        await self._writer.close()
        await asyncio.to_thread(self._scanner.shutdown)
        self._inline.close()
        self._scans.close()

    async def _changed(self, sql: str, *values: Any) -> bool:
        return await self._writer.submit(lambda connection: connection.execute(sql, values).rowcount > 0)

    async def _write_rows(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            await self._writer.submit(lambda connection: connection.executemany(sql, rows))

    async def _read(self, sql: str, *values: Any, inline: bool = False) -> list[Any]:
        def fetch(connection: sqlite3.Connection) -> list[Any]:
            with closing(connection.execute(sql, values)) as cursor:
                return cursor.fetchall()

        try:
            if inline:
                # A keyed read takes about 20 µs and in WAL mode waits for no writer: a thread hop costs more.
                return fetch(self._inline)
            return await asyncio.get_running_loop().run_in_executor(self._scanner, fetch, self._scans)
        except (sqlite3.Error, RuntimeError) as error:  # RuntimeError: the store was closed
            raise StoreError(f"sqlite: {error}") from error


def _open(path: Path, *, query_only: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(path, BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if query_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def _prepare(
    connection: sqlite3.Connection, schema: Sequence[str], known: int, migrations: Mapping[int, Sequence[str]]
) -> None:
    """Bring a file to WAL mode and to this schema; several processes may do so at once.

    :raises StoreError: a newer version of this program made the file.
    """
    _enter_wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    steps: list[Sequence[str]] = []
    if version == 0:
        steps, version = [schema], known
    while version in migrations:
        steps.append(migrations[version])
        version += 1
    if version != known:
        connection.execute("ROLLBACK")
        raise StoreError(f"sqlite: the file has schema {version}, this program knows {known}")
    for statement in (statement for step in steps for statement in step):
        connection.execute(statement)
    if steps:
        connection.execute(f"PRAGMA user_version = {known}")
    connection.execute("COMMIT")


def _enter_wal(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            # The busy timeout does not cover this change when two processes make it at the same time.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
