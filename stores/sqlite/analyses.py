"""Authenticity analyses in SQLite."""

from datetime import datetime

from stores.analyses import Analyses, Analysis
from stores.records import from_micros, to_micros
from stores.sqlite.engine import SqliteRepository

SCHEMA = (
    """CREATE TABLE analyses (
        analysis_id TEXT PRIMARY KEY, answer TEXT NOT NULL, picture BLOB, created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL)""",
    "CREATE INDEX analyses_expiry ON analyses (expires_at)",
)


class SqliteAnalyses(SqliteRepository, Analyses):
    """The table ``analyses``."""

    async def put(self, analysis: Analysis) -> None:
        times = to_micros(analysis.created_at), to_micros(analysis.expires_at)
        row = analysis.analysis_id, analysis.answer, analysis.picture, *times
        await self._engine.execute("INSERT INTO analyses VALUES (?, ?, ?, ?, ?)", *row)

    async def get(self, analysis_id: str, now: datetime) -> Analysis | None:
        sql = """SELECT analysis_id, answer, picture, created_at, expires_at FROM analyses
            WHERE analysis_id = ? AND expires_at >= ?"""
        rows = await self._engine.read(sql, analysis_id, to_micros(now))
        return next((Analysis(*row[:3], *map(from_micros, row[3:])) for row in rows), None)

    async def delete_expired(self, now: datetime) -> int:
        return await self._engine.execute("DELETE FROM analyses WHERE expires_at < ?", to_micros(now), reserve=True)
