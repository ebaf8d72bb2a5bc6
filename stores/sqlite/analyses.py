"""Analyses in a SQLite file beside the documents."""

from datetime import datetime

from stores.analyses import Analyses, Analysis
from stores.records import from_micros, to_micros
from stores.sqlite.engine import SqliteStore, sqlite_path

SCHEMA = (
    """CREATE TABLE analyses (
        analysis_id TEXT PRIMARY KEY, answer TEXT NOT NULL, picture BLOB, created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL)""",
    "CREATE INDEX analyses_expiry ON analyses (expires_at)",
)


class SqliteAnalyses(SqliteStore, Analyses):
    """Beside the documents of ``sqlite:///file.sqlite``: in ``file.analyses.sqlite``."""

    schema = SCHEMA
    schema_version = 1

    def __init__(self, url: str) -> None:
        path = sqlite_path(url)
        super().__init__(path.with_name(f"{path.stem}.analyses{path.suffix}"))

    async def put(self, analysis: Analysis) -> None:
        times = to_micros(analysis.created_at), to_micros(analysis.expires_at)
        row = analysis.analysis_id, analysis.answer, analysis.picture, *times
        await self._changed("INSERT INTO analyses VALUES (?, ?, ?, ?, ?)", *row)

    async def get(self, analysis_id: str, now: datetime) -> Analysis | None:
        sql = """SELECT analysis_id, answer, picture, created_at, expires_at FROM analyses
            WHERE analysis_id = ? AND expires_at >= ?"""
        rows = await self._read(sql, analysis_id, to_micros(now))
        return next((Analysis(*row[:3], *map(from_micros, row[3:])) for row in rows), None)

    async def delete_expired(self, now: datetime) -> int:
        sql = "DELETE FROM analyses WHERE expires_at < ?"
        return await self._writer.submit(lambda connection: connection.execute(sql, (to_micros(now),)).rowcount)
