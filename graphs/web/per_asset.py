"""Results that are computed once at a time, and for many assets: one bad asset costs itself, never the request."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

from deployments.serving.handle import work_on
from stores.records import Asset
from vision.errors import StageError

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Computes results by key, each at most once at a time in this process."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[T]] = {}

    async def run(self, key: str, compute: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what ``compute`` does, or the result of the computation that runs for this key already."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(compute())
            task.add_done_callback(lambda done: self._ended(key, done))
        # Shielded: one caller that leaves must not cancel the result of the others.
        return await asyncio.shield(task)

    def _ended(self, key: str, task: asyncio.Task[T]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            # Retrieved here because every caller may have left; asyncio would report it as lost.
            task.exception()


class PerAsset(Generic[T]):
    """Computes a result for assets, that of each at most once at a time in this process."""

    def __init__(self, compute: Callable[[Asset], Coroutine[Any, Any, T]]) -> None:
        self._compute = compute
        self._flights = SingleFlight[T]()

    async def one(self, asset: Asset) -> T:
        """Return the result for an asset, from the computation that runs for it already if there is one."""
        return await self._flights.run(asset.asset_id, lambda: self._named(asset))

    async def many(self, assets: Iterable[Asset]) -> tuple[dict[str, T], dict[str, StageError]]:
        """Return results by asset id, and the error of each asset whose picture cannot be used.

        Errors that may go away by themselves, of a stage or a store, are raised, and so is ModelNotLoaded.
        """
        wanted = list(assets)
        results: dict[str, T] = {}
        failures: dict[str, StageError] = {}
        outcomes = await asyncio.gather(*map(self.one, wanted), return_exceptions=True)
        for asset, outcome in zip(wanted, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                results[asset.asset_id] = outcome
            elif isinstance(outcome, StageError) and outcome.concerns_input:
                failures[asset.asset_id] = outcome
            else:
                raise outcome
        return results, failures

    async def _named(self, asset: Asset) -> T:
        # Each computation is a task, so the name is set for nothing else.
        work_on(asset.asset_id)
        return await self._compute(asset)
