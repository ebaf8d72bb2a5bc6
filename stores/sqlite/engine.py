"""One SQLite file: a thread that writes for all callers, and reads that never wait for a writer.

The file is in WAL mode. Writes of many callers share one transaction, so that they share one fsync.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from stores.errors import StoreError

BUSY_TIMEOUT_S = 30.0
"""How long a write waits for the writers of other processes."""
POLL_S = 0.001
"""Time between attempts to write. SQLite's own waits grow to 0.1 s, and the lock is seldom free just then."""
MAX_GROUP = 256
"""Operations in one transaction, which bounds how long other processes wait for the write lock."""

T = TypeVar("T")


class SqliteEngine:
    """Three connections to one file: of the writing thread, of keyed reads, and of a thread for longer reads.

    ``prepare`` brings the file to the schema of this program, given the connection that will write. The folder is made
    when absent.

    :raises StoreError: the file cannot be opened, or ``prepare`` refuses it.
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = connect(path)
            try:
                prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._inline = connect(path, query_only=True)
            self._scans = connect(path, query_only=True)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"sqlite {path}: {error}") from error
        self._writer = GroupWriter(connection)
        self._scanner = ThreadPoolExecutor(1, thread_name_prefix="sqlite-scan")

    @property
    def transactions(self) -> int:
        """Write transactions committed so far by this process."""
        return self._writer.transactions

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Return what the operation returned, once that is durable. An operation that raises is undone, alone.

        :raises StoreError: SQLite refused the operation or the commit, or the store is closed.
        """
        return await self._writer.submit(operation)

    async def execute(self, sql: str, *values: Any) -> int:
        """Run one statement durably; return the number of rows it changed. Raises StoreError."""
        return await self._writer.submit(lambda connection: connection.execute(sql, values).rowcount)

    async def execute_many(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        """Run one statement for each row, durably. Raises StoreError."""
        if rows:
            await self._writer.submit(lambda connection: connection.executemany(sql, rows))

    async def read(self, sql: str, *values: Any, inline: bool = False) -> list[Any]:
        """Return all rows of a query; ``inline`` reads in the caller's thread, for reads by key. Raises StoreError."""

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

    async def close(self) -> None:
        """Commit what was submitted, then close the file; closing twice is no error."""
        await self._writer.close()
        await asyncio.to_thread(self._scanner.shutdown)
        self._inline.close()
        self._scans.close()


class SqliteRepository:
    """Base of the stores whose tables are in the file of one engine."""

    type = "sqlite"
    remote = False

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine

    async def ping(self) -> None:
        """Raise StoreError unless the file can be read."""
        await self._engine.read("SELECT 1 FROM sqlite_master LIMIT 1", inline=True)


class GroupWriter:
    """The one thread of this process that writes; owns the connection given (``isolation_level=None``).

    While one group is being committed the next one gathers in the queue, so a lone writer never waits
    for others and sixteen at once pay for about one fsync.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.transactions = 0
        self._connection = connection
        self._connection.execute("PRAGMA busy_timeout = 0")  # _begin waits by itself
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def submit(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Do as ``SqliteEngine.write``."""
        if self._closed:
            raise StoreError("sqlite: the store is closed")
        future: Future[T] = Future()
        self._queue.put(_Write(operation, future))
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Commit what was submitted, then close the connection."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        closing = False
        while not closing:
            pending = [self._queue.get()]
            while len(pending) < MAX_GROUP and not self._queue.empty():
                pending.append(self._queue.get())
            closing = pending[-1] is None
            group = [write for write in pending if write and write.future.set_running_or_notify_cancel()]
            if group:
                self._commit(group)
            for write in group:
                write.resolve()
        self._connection.close()

    def _commit(self, group: "list[_Write]") -> None:
        try:
            self._begin()
            for write in group:
                self._attempt(write)
            self._connection.execute("COMMIT")
            self.transactions += 1
        except Exception as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            for write in group:
                write.error = write.error or error

    def _begin(self) -> None:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
            else:
                return

    def _attempt(self, write: "_Write") -> None:
        self._connection.execute("SAVEPOINT attempt")
        try:
            write.result = write.operation(self._connection)
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # a full disk, say: SQLite has undone the whole group by itself
            write.error = error
            self._connection.execute("ROLLBACK TO attempt")
        self._connection.execute("RELEASE attempt")


@dataclass(slots=True)
class _Write:
    """One caller's operation and its outcome."""

    operation: Callable[[sqlite3.Connection], Any]
    future: Future[Any]
    result: Any = None
    error: Exception | None = None

    def resolve(self) -> None:
        if self.error is None:
            self.future.set_result(self.result)
        elif isinstance(self.error, sqlite3.Error):
            self.future.set_exception(StoreError(f"sqlite: {self.error}"))
        else:
            self.future.set_exception(self.error)


def connect(path: Path, *, query_only: bool = False, timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """Open a connection without implicit transactions, durable at every commit, that any thread may use."""
    connection = sqlite3.connect(path, timeout_s, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if query_only:
        connection.execute("PRAGMA query_only = ON")
    return connection
