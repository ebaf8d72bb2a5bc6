"""Authenticity analyses: the answers, kept for a while, without the media they judge."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Analysis:
    """``answer`` is the JSON sent to the client, ``picture`` its heat map as an encoded image, or None."""

    analysis_id: str
    answer: str
    picture: bytes | None
    created_at: datetime
    expires_at: datetime


class Analyses(Protocol):
    """Stored analyses; every write that returned is durable."""

    async def put(self, analysis: Analysis) -> None:
        """Add an analysis."""
        ...

    async def get(self, analysis_id: str, now: datetime) -> Analysis | None:
        """Return an analysis; None if there is none, or if it expired before ``now``."""
        ...

    async def delete_expired(self, now: datetime) -> int:
        """Remove all that expired before ``now`` and return how many there were."""
        ...
