"""Have models look at pictures of the library that they never saw, some with each request."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from stores.records import Asset
from vision.errors import StageError

AT_ONCE: Final = 8
"""Pictures that one request has a model look at: a second or two on two cores."""
CLOCKS: Final = timedelta(hours=1)
"""By which the clocks of two gateways differ at most."""

Without = Callable[[str, int, datetime | None], Awaitable[list[Asset]]]
"""Pictures that a version of a model never saw: up to so many, of those uploaded since a moment."""


class Source(Protocol):
    """What looks at pictures and stores what it finds."""

    async def model_version(self) -> str:
        """Return the version that serves now. Raises StageError."""
        ...

    async def many(self, assets: Iterable[Asset]) -> tuple[Mapping[str, Any], dict[str, StageError]]:
        """Return what is in pictures, and the errors of those that cannot be used."""
        ...


class Unseen:
    """The pictures that one source never looked at."""

    def __init__(self, source: Source, without: Without) -> None:
        self._source = source
        self._without = without
        self._unusable: set[str] = set()
        """Pictures that the model cannot take; they must not stand before others each time."""
        self._seen_until: dict[str, datetime] = {}
        """By version: all that was uploaded before was looked at. To ask of every asset takes long where it was."""

    async def look(self) -> bool:
        """Look at some of them; return whether none is left. Raises StageError where the model does not serve."""
        version, now = await self._source.model_version(), datetime.now(UTC)
        limit = AT_ONCE + 1 + len(self._unusable)
        without = await self._without(version, limit, self._seen_until.get(version))
        unseen = [asset for asset in without if asset.asset_id not in self._unusable]
        _, failures = await self._source.many(unseen[:AT_ONCE])
        self._unusable.update(failures)
        if len(unseen) > AT_ONCE:
            return False
        self._seen_until[version] = now - CLOCKS
        return True
