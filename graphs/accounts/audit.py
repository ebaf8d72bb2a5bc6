"""The route that reads the audit trail."""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from graphs.web.context import Context
from graphs.web.schemas import example
from stores.audit import MAX_TEXT, AuditEntry


class AuditRecord(BaseModel):
    """One action: who did what to which object, when, and what came of it."""

    model_config = example(
        entry_id="0006483d1f2a4c80b1c2d3e4",
        at="2026-01-15T12:00:00Z",
        key_id="3f2a9c01b4d7",
        who="photo studio",
        action="DELETE /api/v1/media/{asset_id}",
        object_id="9f86d081884c7d659a2feaa0c55ad015",
        result="200",
        details={"removed": {"objects": 2, "documents": 3, "jobs": 1, "vectors": 1, "cache": 0}},
    )
    entry_id: str
    at: datetime
    key_id: str = Field(description="empty for anyone of an open service, and for this program itself")
    who: str = Field(description="the name of the key")
    action: str = Field(description="method and template of the path, or a command")
    object_id: str
    result: str = Field(description="status of the answer, or a word")
    details: dict[str, Any]

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditRecord":
        """Return an entry as clients see it."""
        return cls.model_validate(entry, from_attributes=True)


class AuditAnswer(BaseModel):
    """A page of the audit trail, latest first."""

    entries: list[AuditRecord]
    next: str | None = Field(description="``after`` of the next page; null where there is none")


_DATED: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d")


def _dated(given: Any) -> Any:
    """Refuse the numbers that pydantic takes for seconds since 1970."""
    if isinstance(given, str) and not _DATED.match(given):
        raise ValueError("give a date, a time and a zone, as in 2026-01-15T12:00:00Z")
    return given


def audit_router(context: Context) -> APIRouter:
    """Return the route audit."""
    router = APIRouter()

    @router.get("/audit")
    async def get_audit(
        since: Annotated[AwareDatetime | None, BeforeValidator(_dated), Query(description="with a time zone")] = None,
        key: Annotated[str | None, Query(max_length=MAX_TEXT, description="id or name of a key")] = None,
        object: Annotated[
            str | None, Query(max_length=MAX_TEXT, description="what was acted upon, an asset id for example")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: Annotated[str | None, Query(max_length=64, description="``next`` of the page before")] = None,
    ) -> AuditAnswer:
        """Entries of the audit trail that match all given values, latest first."""
        entries = await context.audit.list(since=since, key=key, object_id=object, after=after, limit=limit + 1)
        page = [AuditRecord.of(entry) for entry in entries[:limit]]
        return AuditAnswer(entries=page, next=page[-1].entry_id if len(entries) > limit else None)

    return router
