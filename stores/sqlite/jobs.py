"""Jobs in SQLite, shared by all processes of one machine."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from stores.jobs import COLUMNS, Job, JobCount, JobStatus, JobStore, Step, changes, from_row, to_row
from stores.records import from_micros, to_micros
from stores.sqlite.engine import SqliteRepository

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
JOBS = f"SELECT {', '.join(COLUMNS)} FROM jobs "  # noqa: S608 (a constant)
INSERT = f"INSERT INTO jobs VALUES ({', '.join(f':{name}' for name in COLUMNS)}) ON CONFLICT DO NOTHING"  # noqa: S608
COUNT = "SELECT kind, status, COUNT(*), MIN(due_at) FROM jobs GROUP BY kind, status"
COUNT_UNFINISHED = COUNT.replace("GROUP", "WHERE status IN ('queued', 'running') GROUP")
DUE = """SELECT job_id FROM jobs WHERE status IN ('queued', 'running') AND due_at <= ?
    AND kind IN (SELECT value FROM json_each(?)) ORDER BY due_at LIMIT 16"""


class SqliteJobs(SqliteRepository, JobStore):
    """The table ``jobs``."""

    async def get(self, job_id: str) -> Job | None:
        rows = await self._engine.read(f"{JOBS} WHERE job_id = ?", job_id, inline=True)
        return next(map(_job, rows), None)

    async def list(
        self,
        *,
        status: JobStatus | None = None,
        kind: str | None = None,
        subject: str | None = None,
        after: Job | None = None,
        limit: int = 100,
    ) -> Sequence[Job]:
        given = {"status": status, "kind": kind, "subject": subject}
        equal = {name: value for name, value in given.items() if value is not None}
        conditions, values = [f"{name} = ?" for name in equal], [*equal.values()]
        if after is not None:
            conditions.append("(created_at, job_id) < (?, ?)")
        last = [] if after is None else [to_micros(after.created_at), after.job_id]
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "ORDER BY created_at DESC, job_id DESC LIMIT ?"
        return [_job(row) for row in await self._engine.read(f"{JOBS} {where} {order}", *values, *last, limit)]

    async def count_unfinished(self, owner: str) -> int:
        sql = "SELECT count(*) FROM jobs WHERE owner = ? AND owner != '' AND status IN ('queued', 'running')"
        ((count,),) = await self._engine.read(sql, owner, inline=True)
        return int(count)

    async def delete_finished(self, before: datetime, limit: int, kind: str | None = None) -> int:
        ended = """SELECT job_id FROM jobs WHERE status NOT IN ('queued', 'running') AND finished_at < ?
            AND (? IS NULL OR kind = ?) LIMIT ?"""
        sql = f"DELETE FROM jobs WHERE job_id IN ({ended})"  # noqa: S608 (a constant)
        return await self._engine.execute(sql, to_micros(before), kind, kind, limit, reserve=True)

    async def count(self, *, finished: bool = True) -> Sequence[JobCount]:
        rows = await self._engine.read(COUNT if finished else COUNT_UNFINISHED)
        return [JobCount(kind, status, number, from_micros(due_at)) for kind, status, number, due_at in rows]

    async def forget(self, subject: str) -> int:
        return await self._engine.execute("DELETE FROM jobs WHERE subject = ?", subject, reserve=True)

    async def _insert(self, job: Job) -> bool:
        row = to_row(job)
        return await self._engine.write(lambda connection: connection.execute(INSERT, row).rowcount == 1)

    async def _change(self, job_id: str, step: Step) -> Job | None:
        def change(connection: sqlite3.Connection) -> Job | None:
            # One transaction, which holds the write lock from its beginning.
            row = connection.execute(f"{JOBS} WHERE job_id = ?", (job_id,)).fetchone()
            before = None if row is None else _job(row)
            after = None if before is None else step(before)
            if before is not None and after is not None and (changed := changes(before, after)):
                names = ", ".join(f"{name} = ?" for name in changed)
                update = f"UPDATE jobs SET {names} WHERE job_id = ?"  # noqa: S608 (names of columns)
                connection.execute(update, (*changed.values(), job_id))
            return after

        return await self._engine.write(change, reserve=True)

    async def _due(self, kinds: Collection[str], now: datetime) -> Sequence[str]:
        rows = await self._engine.read(DUE, to_micros(now), json.dumps([*kinds]), inline=True)
        return [row[0] for row in rows]


def _job(row: tuple[Any, ...]) -> Job:
    return from_row(dict(zip(COLUMNS, row, strict=True)))
