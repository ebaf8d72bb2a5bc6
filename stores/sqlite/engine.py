"""One SQLite file: a thread that writes for all callers, and reads that never wait for a writer.

The file is in WAL mode. Writes of many callers share one transaction, so that they share one fsync.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Final, TypeVar

from stores.disk import Disk
from stores.errors import StoreDamaged, StoreError, StoreFull, StoreReadOnly, disk_error

BUSY_TIMEOUT_S = 20.0
"""How long a write waits for the writers of other processes."""
REOPEN_S: Final = 1.0
"""Time between attempts to open a file that could not be opened."""
PAGE_BYTES: Final = 4096
CHECKPOINT_PAGES: Final = (32, 1000)
"""Fewest and most pages in the log, before it is copied into the file and used again from its beginning."""
LOG_SHARE: Final = 4
"""The log may take this part of the ballast, 1/4: to copy it into the file takes as much again."""
POLL_S = 0.001
"""Time between attempts to write. SQLite's own waits grow to 0.1 s, and the lock is seldom free just then."""
MAX_GROUP = 256
"""Operations in one transaction, which bounds how long other processes wait for the write lock."""

T = TypeVar("T")


class SqliteEngine:
    """Three connections to one file: of the writing thread, of keyed reads, and of a thread for longer reads.

    ``prepare`` brings the file to the schema of this program, given the connection that will write. The folder is made
    when absent. A file that cannot be opened for now, as its disk is full or another process holds it, is opened by
    a later operation; until then they raise StoreError. ``reserve_bytes`` of its disk are kept free for writes with
    ``reserve``: deletes, and small changes in place.

    :raises StoreError: the file is no database, or ``prepare`` refuses it.
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None], reserve_bytes: int = 0) -> None:
        self.disk = Disk(path.parent, reserve_bytes, ballast=f"{path.name}.reserve")
        self._path = path
        self._prepare = prepare
        self._file: _File | None = None
        self._closed = False
        self._opening = Lock()
        self._retry_at = 0.0
        self._failure = StoreError(f"sqlite {path}: not open")
        try:
            self._open()
        except StoreError as error:
            if not _passes(error):
                raise

    @property
    def transactions(self) -> int:
        """Write transactions committed so far by this process."""
        return self._writer.transactions

    @property
    def _writer(self) -> "GroupWriter":
        return self._open().writer

    @property
    def _inline(self) -> sqlite3.Connection:
        return self._open().inline

    async def write(self, operation: Callable[[sqlite3.Connection], T], *, reserve: bool = False) -> T:
        """Return what the operation returned, once that is durable. An operation that raises is undone, alone.

        :raises StoreFull: the disk has no room for it; it may use the reserve if it frees room or adds hardly any.
        :raises StoreError: SQLite refused the operation or the commit, or the store is closed.
        """
        if not reserve:
            self.disk.require()
        return await (await self._opened()).writer.submit(operation, reserve=reserve)

    async def execute(self, sql: str, *values: Any, reserve: bool = False) -> int:
        """Run one statement durably; return the number of rows it changed. Raises as ``write``."""
        return await self.write(lambda connection: connection.execute(sql, values).rowcount, reserve=reserve)

    async def execute_many(self, sql: str, rows: list[tuple[Any, ...]], *, reserve: bool = False) -> None:
        """Run one statement for each row, durably. Raises as ``write``."""
        if rows:
            await self.write(lambda connection: connection.executemany(sql, rows), reserve=reserve)

    async def read(self, sql: str, *values: Any, inline: bool = False) -> list[Any]:
        """Return all rows of a query; ``inline`` reads in the caller's thread, for reads by key. Raises StoreError."""

        def fetch(connection: sqlite3.Connection) -> list[Any]:
            with closing(connection.execute(sql, values)) as cursor:
                return cursor.fetchall()

        file = await self._opened()
        try:
            if inline:
                # A keyed read takes about 20 µs and in WAL mode waits for no writer: a thread hop costs more.
                return fetch(file.inline)
            return await asyncio.get_running_loop().run_in_executor(file.scanner, fetch, file.scans)
        except sqlite3.Error as error:
            raise translated(error, self.disk) from error
        except RuntimeError as error:  # the store was closed
            raise StoreError(f"sqlite: {error}") from error

    async def close(self) -> None:
        """Commit what was submitted, then close the file; closing twice is no error."""
        self._closed = True
        if self._file is not None:
            await self._file.writer.close()
            await asyncio.to_thread(self._file.scanner.shutdown)
            self._file.inline.close()
            self._file.scans.close()

    async def _opened(self) -> "_File":
        if self._closed:
            raise StoreError("sqlite: the store is closed")
        file = self._file
        return await asyncio.to_thread(self._open) if file is None else file

    def _open(self) -> "_File":
        """Return the open file; one thread tries to open it, and all others fail at once meanwhile."""
        if self._file is not None:
            return self._file
        if time.monotonic() < self._retry_at or not self._opening.acquire(blocking=False):
            raise type(self._failure)(str(self._failure))
        try:
            file = self._file = self._file or self._connected()
        except StoreError as error:
            self._failure, self._retry_at = error, time.monotonic() + REOPEN_S
            raise
        finally:
            self._opening.release()
        return file

    def _connected(self) -> "_File":
        try:
            return self._connect()
        except StoreFull:
            if not self.disk.release():
                raise
            return self._connect()

    def _connect(self) -> "_File":
        opened: list[sqlite3.Connection] = []
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            opened.append(connect(self._path))
            self._prepare(opened[0])
            opened += [connect(self._path, query_only=True) for _ in range(2)]
            pages = self.disk.ballast_bytes // (LOG_SHARE * PAGE_BYTES)
            pages = min(max(pages, CHECKPOINT_PAGES[0]), CHECKPOINT_PAGES[1])
            opened[0].execute(f"PRAGMA wal_autocheckpoint = {pages}")
            opened[0].execute(f"PRAGMA journal_size_limit = {LOG_SHARE * pages * PAGE_BYTES}")
            for connection in opened[1:]:  # a log that is made with the first read has its room now
                connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
            self.disk.restore()
        except BaseException as error:
            for connection in opened:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise translated(error, self.disk, str(self._path)) from error
            if isinstance(error, OSError):
                known = disk_error(f"sqlite {self._path}", error)
                raise known or StoreError(f"sqlite {self._path}: {error}") from error
            raise
        scanner = ThreadPoolExecutor(1, thread_name_prefix="sqlite-scan")
        return _File(GroupWriter(opened[0], self.disk), opened[1], opened[2], scanner)


@dataclass(frozen=True, slots=True)
class _File:
    """An open file: its writer, its connections for reads, and the thread of longer ones."""

    writer: "GroupWriter"
    inline: sqlite3.Connection
    scans: sqlite3.Connection
    scanner: ThreadPoolExecutor


class SqliteBusy(StoreError):
    """Another process has held the file for too long."""


_PASSING: Final = (StoreFull, StoreReadOnly, StoreDamaged, SqliteBusy)


def _passes(error: StoreError) -> bool:
    """Return whether a file that could not be opened may be opened later."""
    return isinstance(error, _PASSING)


def translated(error: sqlite3.Error, disk: Disk, place: str = "") -> StoreError:
    """Return what an error of SQLite means."""
    code, text = getattr(error, "sqlite_errorcode", 0), f"sqlite {place}: {error}" if place else f"sqlite: {error}"
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StoreFull(text)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return SqliteBusy(text)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return StoreReadOnly(text)
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN:
            # It does not tell why: no inode, no memory of the log, a quota, a disk that fails. A small file does.
            return disk.fault(text) or StoreDamaged(text)
    return StoreError(text)


class SqliteRepository:
    """Base of the stores whose tables are in the file of one engine."""

    type = "sqlite"
    remote = False

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine

    async def ping(self) -> None:
        """Raise StoreError unless the file can be read."""
        await self._engine.read("SELECT 1 FROM sqlite_master LIMIT 1", inline=True)

    async def check_room(self) -> None:
        """Raise StoreFull or StoreReadOnly while nothing more can be stored."""
        self._engine.disk.check()

    async def _having_all(self, table: str, labels: Sequence[str], least: float) -> set[str]:
        """Return the assets that have all of these labels in a table of tags, each with at least this confidence."""
        sql = f"SELECT asset_id FROM {table} WHERE label = ? AND confidence >= ?"  # noqa: S608 (a constant)
        having = [{row[0] for row in await self._engine.read(sql, label, least)} for label in labels]
        return set.intersection(*having) if having else set()


class GroupWriter:
    """The one thread of this process that writes; owns the connection given (``isolation_level=None``).

    While one group is being committed the next one gathers in the queue, so a lone writer never waits
    for others and sixteen at once pay for about one fsync.
    """

    def __init__(self, connection: sqlite3.Connection, disk: Disk) -> None:
        self.transactions = 0
        self._connection = connection
        self._disk = disk
        self._connection.execute("PRAGMA busy_timeout = 0")  # _begin waits by itself
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def submit(self, operation: Callable[[sqlite3.Connection], T], *, reserve: bool = False) -> T:
        """Do as ``SqliteEngine.write``."""
        if self._closed:
            raise StoreError("sqlite: the store is closed")
        future: Future[T] = Future()
        self._queue.put(_Write(operation, future, self._disk, reserve))
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
        self._commit_all(group)
        left = [write for write in group if write.reserve and write.lacks_room]
        if left:
            self._disk.release()
            for write in left:
                write.error = None
            self._checkpoint()
            self._commit_all(left)
            self._checkpoint()

    def _commit_all(self, group: "list[_Write]") -> None:
        try:
            self._begin(min(write.submitted_at for write in group) + BUSY_TIMEOUT_S)
            for write in group:
                self._attempt(write)
            self._connection.execute("COMMIT")
            self.transactions += 1
        except Exception as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            for write in group:
                write.error = write.error or error

    def _checkpoint(self) -> None:
        """Copy the log into the file and cut it, as far as there is room and no reader needs it."""
        with suppress(sqlite3.Error):  # the next one will
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _begin(self, deadline: float) -> None:
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
    disk: Disk
    reserve: bool = False
    """Whether it may use the room that is kept for deletes."""
    submitted_at: float = field(default_factory=time.monotonic)
    result: Any = None
    error: Exception | None = None

    @property
    def lacks_room(self) -> bool:
        """Return whether it failed for want of room, which SQLite calls a failed write where a quota is used up."""
        return isinstance(self.error, sqlite3.Error) and isinstance(translated(self.error, self.disk), StoreFull)

    def resolve(self) -> None:
        if self.error is None:
            self.future.set_result(self.result)
        elif isinstance(self.error, sqlite3.Error):
            self.future.set_exception(translated(self.error, self.disk))
        else:
            self.future.set_exception(self.error)


def connect(path: Path, *, query_only: bool = False, timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """Open a connection without implicit transactions, durable at every commit, that any thread may use."""
    connection = sqlite3.connect(path, timeout_s, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")  # a delete must need no temporary file
    if query_only:
        connection.execute("PRAGMA query_only = ON")
    return connection
