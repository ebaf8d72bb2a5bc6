"""What the job store keeps of a job."""

import hashlib
import json
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal

from stores.records import from_micros, to_micros

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of long work on ``subject``, an asset id for example.

    The same ``kind`` and ``fingerprint`` are the same job. ``payload`` is what its function needs to know,
    ``checkpoint`` how far it came, some kB at most, and ``result`` what came of it: objects of JSON.
    """

    job_id: str
    kind: str
    subject: str
    fingerprint: str
    payload: Json
    created_at: datetime
    due_at: datetime
    """From when on it may be claimed; of a running job the end of its lease."""
    status: JobStatus = "queued"
    progress: float = 0.0
    """0-1."""
    message: str = ""
    started_at: datetime | None = None
    """When its last attempt began."""
    finished_at: datetime | None = None
    error: str | None = None
    """Why it failed, in words for the person who asked for it; None in every other state."""
    result: Json | None = None
    attempts: int = 0
    checkpoint: Json = field(default_factory=dict)
    worker: str | None = None
    """Whose lease it is; None unless it runs."""
    cancel_requested: bool = False
    """Only while it runs."""

    @property
    def finished(self) -> bool:
        """Whether nobody will work on it any more."""
        return self.status not in ("queued", "running")

    @property
    def lease_until(self) -> datetime | None:
        """When another worker may take it; None unless it runs."""
        return self.due_at if self.status == "running" else None


def new_job(kind: str, subject: str, fingerprint: str, payload: Json) -> Job:
    """A job that was never begun, due at once."""
    job_id = hashlib.sha256(f"{kind}\0{fingerprint}".encode()).hexdigest()[:32]
    now = datetime.now(UTC)
    return Job(job_id, kind, subject, fingerprint, payload, created_at=now, due_at=now)


COLUMNS: Final = tuple(column.name for column in fields(Job))
_TIMES = ("created_at", "due_at", "started_at", "finished_at")
_JSON = ("payload", "checkpoint", "result")


def to_json(value: Json) -> str:
    """How payloads, checkpoints and results are kept.

    :raises TypeError: it is no JSON.
    :raises ValueError: a number in it is not finite.
    """
    return json.dumps(value, allow_nan=False)


def to_row(job: Job) -> dict[str, Any]:
    """What a backend keeps by column: numbers, text and None. Raises as ``to_json`` does."""
    row = {name: getattr(job, name) for name in COLUMNS}
    row |= {name: to_micros(row[name]) for name in _TIMES if row[name] is not None}
    return row | {name: to_json(row[name]) for name in _JSON if row[name] is not None}


def from_row(row: dict[str, Any]) -> Job:
    """The job of ``to_row``."""
    row = row | {"cancel_requested": bool(row["cancel_requested"])}
    row |= {name: from_micros(row[name]) for name in _TIMES if row[name] is not None}
    return Job(**row | {name: json.loads(row[name]) for name in _JSON if row[name] is not None})


def changes(before: Job, after: Job) -> dict[str, Any]:
    """The columns in which two jobs differ, as in the row of the second."""
    old, new = to_row(before), to_row(after)
    return {name: value for name, value in new.items() if value != old[name]}
