"""Analyses of media that were handed in to be judged: the answers, kept for a while, without the media."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Analysis:
    """``answer``: the JSON that the client got; ``picture``: what its heat map shows, an encoded image, or None."""

    analysis_id: str
    answer: str
    picture: bytes | None
    created_at: datetime
    expires_at: datetime


class Analyses(Protocol):
    """Kept analyses; every write that returned is durable."""

    async def put(self, analysis: Analysis) -> None:
        """Add an analysis."""
        ...

    async def get(self, analysis_id: str, now: datetime) -> Analysis | None:
        """An analysis; None when there is none, or when it expired before ``now``."""
        ...

    async def delete_expired(self, now: datetime) -> int:
        """Remove all that expired before ``now``; how many there were."""
        ...

    async def ping(self) -> None:
        """Raise StoreError unless the store answers."""
        ...

    async def close(self) -> None: ...
