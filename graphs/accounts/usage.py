"""The route that tells a key what it uses."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from configs.quotas import Resource
from graphs.web.access import caller
from graphs.web.context import Context
from graphs.web.schemas import example
from stores.keys import RateClass


class ResourceUse(BaseModel):
    """What a key uses of one resource."""

    resource: Resource = Field(
        description="bytes and files of uploads that are stored, jobs that are unfinished, videos judged today (UTC)"
    )
    used: int
    limit: int | None = Field(description="null: none")
    left: int | None = Field(description="null: any number")
    resets_at: datetime | None = Field(description="when the count begins anew; null for what is freed by deleting")


class UsageAnswer(BaseModel):
    """What the key of the request uses, what is on its way included."""

    model_config = example(
        key_id="3f2a9c01b4d7",
        name="photo studio",
        rate="standard",
        usage=[
            {
                "resource": "bytes",
                "used": 1_250_000,
                "limit": 50_000_000_000,
                "left": 49_998_750_000,
                "resets_at": None,
            },
            {"resource": "videos", "used": 3, "limit": 200, "left": 197, "resets_at": "2026-01-16T00:00:00Z"},
        ],
    )
    key_id: str = Field(description="empty where there are no keys")
    name: str
    rate: RateClass
    usage: list[ResourceUse]


def usage_router(context: Context) -> APIRouter:
    """Return the route usage."""
    router = APIRouter()

    @router.get("/usage")
    async def get_usage() -> UsageAnswer:
        """Say what your key uses, what its limits are, and when what counts by the day begins anew."""
        who = caller.get()
        return UsageAnswer(
            key_id=who.name,
            name=who.key_name,
            rate=who.rate,
            usage=[
                ResourceUse(
                    resource=use.resource,
                    used=use.used,
                    limit=use.limit,
                    left=None if use.limit is None else max(0, use.limit - use.used),
                    resets_at=use.resets_at,
                )
                for use in await context.quotas.usage()
            ],
        )

    return router
