"""What clients see of durable jobs."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from graphs.web.schemas import example
from stores.jobs import Job, JobStatus


class JobAnswer(BaseModel):
    """One job; ``error`` only where it failed, ``result`` only where it succeeded."""

    model_config = example(
        job_id="0b1f5e8a64c2d7f3a9e01c4b7d2f6a85",
        kind="index-video",
        subject="9f86d081884c7d659a2feaa0c55ad015",
        status="running",
        progress=0.25,
        message="Frame 750 of 3000",
        created_at="2026-01-15T12:00:00Z",
        started_at="2026-01-15T12:00:01Z",
        finished_at=None,
        error=None,
        result=None,
        request_id="7c1e4b0f9a2d4c6e8b3f5a1d0e9c8b7a",
    )
    job_id: str
    kind: str
    subject: str = Field(description="what it works on, an asset id for example")
    status: JobStatus
    progress: float = Field(description="0-1")
    message: str = Field(description="what is being done; may be empty")
    created_at: datetime
    started_at: datetime | None = Field(description="when its last attempt began")
    finished_at: datetime | None
    error: str | None = Field(description="why it failed")
    result: dict[str, Any] | None
    request_id: str = Field(description="X-Request-Id of the request that submitted it; empty where none did")

    @classmethod
    def of(cls, job: Job) -> "JobAnswer":
        """Return what clients see of a job."""
        return cls.model_validate(job, from_attributes=True)


class JobsAnswer(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobAnswer]
    next: str | None = Field(description="``after`` of the next page; null where there is none")
