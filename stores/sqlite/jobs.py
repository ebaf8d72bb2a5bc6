"""Jobs in SQLite, shared by all processes of one machine, and deliveries, which are jobs of a table of their own."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal

from stores.jobs import COLUMNS, Job, JobCount, JobStatus, JobStore, Step, changes, from_row, to_row
from stores.records import from_micros, to_micros
from stores.sqlite.engine import SqliteEngine, SqliteRepository

SCHEMA = (
    """CREATE TABLE jobs (
        job_id TEXT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, fingerprint TEXT NOT NULL,
        payload TEXT NOT NULL, created_at INTEGER NOT NULL, due_at INTEGER NOT NULL, status TEXT NOT NULL,
        progress REAL NOT NULL, message TEXT NOT NULL, started_at INTEGER, finished_at INTEGER, error TEXT,
        result TEXT, attempts INTEGER NOT NULL, checkpoint TEXT NOT NULL, worker TEXT,
        cancel_requested INTEGER NOT NULL)""",
    "CREATE INDEX jobs_due ON jobs (due_at) WHERE status IN ('queued', 'running')",
    "CREATE INDEX jobs_newest ON jobs (created_at, job_id)",
    "CREATE INDEX jobs_subject ON jobs (subject, created_at, job_id)",
)
OWNERS = (
    "ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX jobs_of_owner ON jobs (owner) WHERE status IN ('queued', 'running') AND owner != ''",
)
ORIGIN = tuple(
    f"ALTER TABLE jobs ADD COLUMN {name} TEXT NOT NULL DEFAULT ''"
    for name in ("request_id", "traceparent", "tracestate")
)
"""Came with version 9 of the file."""
ENDS = (
    "ALTER TABLE jobs ADD COLUMN unannounced TEXT",
    "CREATE INDEX jobs_unannounced ON jobs (finished_at) WHERE unannounced IS NOT NULL",
)
DELIVERIES = (
    """CREATE TABLE deliveries (
        job_id TEXT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, fingerprint TEXT NOT NULL,
        payload TEXT NOT NULL, created_at INTEGER NOT NULL, due_at INTEGER NOT NULL, status TEXT NOT NULL,
        progress REAL NOT NULL, message TEXT NOT NULL, started_at INTEGER, finished_at INTEGER, error TEXT,
        result TEXT, attempts INTEGER NOT NULL, checkpoint TEXT NOT NULL, worker TEXT,
        cancel_requested INTEGER NOT NULL, owner TEXT NOT NULL, request_id TEXT NOT NULL, traceparent TEXT NOT NULL,
        tracestate TEXT NOT NULL, unannounced TEXT)""",
    "CREATE INDEX deliveries_due ON deliveries (due_at) WHERE status IN ('queued', 'running')",
    "CREATE INDEX deliveries_unfinished ON deliveries (owner) WHERE status IN ('queued', 'running') AND owner != ''",
    "CREATE INDEX deliveries_of_owner ON deliveries (owner, created_at, job_id)",
    "CREATE INDEX deliveries_subject ON deliveries (subject)",
    "CREATE INDEX deliveries_ended ON deliveries (finished_at) WHERE finished_at IS NOT NULL",
)
"""This and ``ENDS`` came with version 12 of the file."""


class SqliteJobs(SqliteRepository, JobStore):
    """The table ``jobs``, or ``deliveries``."""

    def __init__(self, engine: SqliteEngine, table: Literal["jobs", "deliveries"] = "jobs") -> None:
        super().__init__(engine)
        self.announces = table == "jobs"
        self._table = table
        self._jobs = f"SELECT {', '.join(COLUMNS)} FROM {table} "  # noqa: S608 (constants, here and below)
        names = ", ".join(f":{name}" for name in COLUMNS)
        self._new = f"INSERT INTO {table} VALUES ({names}) ON CONFLICT DO NOTHING"  # noqa: S608
        self._count = f"SELECT kind, status, COUNT(*), MIN(due_at) FROM {table} {{}} GROUP BY kind, status"  # noqa: S608
        self._is_due = f"""SELECT job_id FROM {table} WHERE status IN ('queued', 'running') AND due_at <= ?
            AND kind IN (SELECT value FROM json_each(?)) AND owner NOT IN (SELECT value FROM json_each(?))
            ORDER BY due_at LIMIT 16"""  # noqa: S608

    async def get(self, job_id: str) -> Job | None:
        rows = await self._engine.read(f"{self._jobs} WHERE job_id = ?", job_id, inline=True)
        return next(map(_job, rows), None)

    async def list(
        self,
        *,
        status: JobStatus | None = None,
        kind: str | None = None,
        subject: str | None = None,
        owner: str | None = None,
        after: Job | None = None,
        limit: int = 100,
    ) -> Sequence[Job]:
        given = {"status": status, "kind": kind, "subject": subject, "owner": owner}
        equal = {name: value for name, value in given.items() if value is not None}
        conditions, values = [f"{name} = ?" for name in equal], [*equal.values()]
        if after is not None:
            conditions.append("(created_at, job_id) < (?, ?)")
        last = [] if after is None else [to_micros(after.created_at), after.job_id]
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "ORDER BY created_at DESC, job_id DESC LIMIT ?"
        return [_job(row) for row in await self._engine.read(f"{self._jobs} {where} {order}", *values, *last, limit)]

    async def list_unannounced(self, limit: int) -> Sequence[Job]:
        sql = f"{self._jobs} WHERE unannounced IS NOT NULL ORDER BY finished_at LIMIT ?"
        return [_job(row) for row in await self._engine.read(sql, limit, inline=True)]

    async def count_unfinished(self, owner: str) -> int:
        sql = f"""SELECT count(*) FROM {self._table}
            WHERE owner = ? AND owner != '' AND status IN ('queued', 'running')"""  # noqa: S608
        ((count,),) = await self._engine.read(sql, owner, inline=True)
        return int(count)

    async def delete_finished(self, before: datetime, limit: int, kind: str | None = None) -> int:
        ended = f"""SELECT job_id FROM {self._table} WHERE status NOT IN ('queued', 'running') AND finished_at < ?
            AND (? IS NULL OR kind = ?) LIMIT ?"""  # noqa: S608
        sql = f"DELETE FROM {self._table} WHERE job_id IN ({ended})"  # noqa: S608
        return await self._engine.execute(sql, to_micros(before), kind, kind, limit, reserve=True)

    async def count(self, *, finished: bool = True) -> Sequence[JobCount]:
        rows = await self._engine.read(self._count.format("" if finished else "WHERE status IN ('queued', 'running')"))
        return [JobCount(kind, status, number, from_micros(due_at)) for kind, status, number, due_at in rows]

    async def forget(self, subject: str) -> int:
        sql = f"DELETE FROM {self._table} WHERE subject = ?"  # noqa: S608
        return await self._engine.execute(sql, subject, reserve=True)

    async def forget_owner(self, owner: str) -> int:
        sql = f"DELETE FROM {self._table} WHERE owner = ?"  # noqa: S608
        return await self._engine.execute(sql, owner, reserve=True)

    async def _insert(self, job: Job) -> bool:
        row = to_row(job)
        return await self._engine.write(lambda connection: connection.execute(self._new, row).rowcount == 1)

    async def _change(self, job_id: str, step: Step) -> Job | None:
        def change(connection: sqlite3.Connection) -> Job | None:
            # One transaction, which holds the write lock from its beginning.
            row = connection.execute(f"{self._jobs} WHERE job_id = ?", (job_id,)).fetchone()
            before = None if row is None else _job(row)
            after = None if before is None else step(before)
            if before is not None and after is not None and (changed := changes(before, after)):
                names = ", ".join(f"{name} = ?" for name in changed)
                update = f"UPDATE {self._table} SET {names} WHERE job_id = ?"  # noqa: S608 (names of columns)
                connection.execute(update, (*changed.values(), job_id))
            return after

        return await self._engine.write(change, reserve=True)

    async def _due(self, kinds: Collection[str], now: datetime, without: Collection[str]) -> Sequence[str]:
        lists = json.dumps([*kinds]), json.dumps([*without])
        rows = await self._engine.read(self._is_due, to_micros(now), *lists, inline=True)
        return [row[0] for row in rows]


def _job(row: tuple[Any, ...]) -> Job:
    return from_row(dict(zip(COLUMNS, row, strict=True)))
