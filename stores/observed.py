"""Stores whose calls are told of: which one, how long it took, and how it failed."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar, cast

from stores.errors import StoreError

StoreT = TypeVar("StoreT")

Report = Callable[[str, str, float, str | None], None]
"""Is told of a call: store, method, seconds, and the class of the StoreError that it raised, None for none.

Of a method that yields it is told when the first item is there.
"""


def observed(name: str, store: StoreT, report: Report | None) -> StoreT:
    """Return a store that tells of its calls; without ``report`` the store itself."""
    return store if report is None else cast(StoreT, _Observed(name, store, report))


class _Observed:
    """Stands for a store, and is an instance of its class for all who ask; its methods tell of their calls."""

    def __init__(self, name: str, store: object, report: Report) -> None:
        self._name = name
        self._store = store
        self._report = report

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._store)

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._store, attribute)
        if attribute.startswith("_") or not callable(value):
            return value

        def call(*args: Any, **options: Any) -> Any:
            return self._call(attribute, args, options)

        self.__dict__[attribute] = call  # the next look-up finds it at once
        return call

    def _call(self, operation: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        started = time.perf_counter()
        try:
            result = getattr(self._store, operation)(*args, **options)
        except Exception as error:
            self._tell(operation, started, error)
            raise
        if isinstance(result, Coroutine):
            return self._awaited(operation, started, result)
        if isinstance(result, AsyncGenerator):
            return self._iterated(operation, started, result)
        self._tell(operation, started)
        return result

    async def _awaited(self, operation: str, started: float, result: Awaitable[Any]) -> Any:
        failure: BaseException | None = None
        try:
            return await result
        except BaseException as error:
            failure = error
            raise
        finally:
            self._tell(operation, started, failure)

    async def _iterated(self, operation: str, started: float, items: AsyncGenerator[Any, None]) -> AsyncIterator[Any]:
        began = False
        try:
            async with aclosing(items):
                async for item in items:
                    if not began:
                        self._tell(operation, started)
                    began = True
                    yield item
        except StoreError as error:
            self._tell(operation, started, error)
            began = True
            raise
        finally:
            if not began:
                self._tell(operation, started)

    def _tell(self, operation: str, started: float, error: BaseException | None = None) -> None:
        failure = type(error).__name__ if isinstance(error, StoreError) else None
        self._report(self._name, operation, time.perf_counter() - started, failure)
