"""Group commit: many callers' writes in one SQLite transaction, so that they share one fsync."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from stores.documents import StoreError

MAX_GROUP = 256
"""Operations in one transaction, which bounds how long other processes wait for the write lock."""

T = TypeVar("T")


@dataclass(slots=True)
class _Write:
    """One caller's operation and what came of it."""

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


class GroupWriter:
    """The one thread of this process that writes; owns the connection given (``isolation_level=None``).

    While one group is being committed the next one gathers in the queue, so a lone writer never waits
    for company and sixteen at once pay for about one fsync.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.transactions = 0
        self._connection = connection
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._closed = False
        self._thread = Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def submit(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """What the operation returned, once it is durable; it undoes only its own changes when it raises.

        :raises StoreError: SQLite refused the operation or the commit, or the store is closed.
        """
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

    def _commit(self, group: list[_Write]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for write in group:
                self._attempt(write)
            self._connection.execute("COMMIT")
            self.transactions += 1
        except Exception as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            for write in group:
                write.error = write.error or error

    def _attempt(self, write: _Write) -> None:
        self._connection.execute("SAVEPOINT attempt")
        try:
            write.result = write.operation(self._connection)
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # a full disk, say: SQLite has undone the whole group by itself
            write.error = error
            self._connection.execute("ROLLBACK TO attempt")
        self._connection.execute("RELEASE attempt")
