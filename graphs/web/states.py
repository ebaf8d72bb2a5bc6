"""How the parts of the service are, its stages and stores: each is asked once for all who want to know."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import Context
from datetime import UTC, datetime
from typing import Any, Final, Literal

from deployments.serving.handle import AnyHandle
from stores.cache import Cache
from stores.documents import Documents
from stores.errors import StoreError
from stores.objects import Objects
from stores.open import Stores
from vision.errors import StageError

logger = logging.getLogger("ray.serve")

ANSWER_WITHIN_S: Final = 5.0
FRESH_S: Final = 1.0
DUTY: Final = 0.1
"""That a part works is passed on for ``FRESH_S``, or for less where asking costs so little that it takes no more than
this part of the time. One that does not work is asked again for each who comes afterwards."""

StoreName = Literal["documents", "objects", "cache"]
State = dict[str, Any]
"""What a part says about itself. ``error`` is why it cannot be used, ``since`` when this process first saw that."""


def usable(info: Mapping[str, Any]) -> bool:
    """Return whether a stage is loaded, or will be by its first request."""
    return bool(info.get("loaded") or (info.get("on_demand") and not info.get("error")))


def configured(info: Mapping[str, Any]) -> bool:
    """Return whether a stage has what its operator has to give it, such as a provider's key."""
    return info.get("configured") is not False


def _faulty(info: Mapping[str, Any]) -> bool:
    """Return whether a stage does not work as a whole; one that is loading is no fault."""
    return configured(info) and not info.get("loading") and not (usable(info) and not info.get("missing"))


class _Part:
    """One stage or store. Who wants to know at the same time shares a question, and for ``FRESH_S`` its good answer."""

    def __init__(self, name: str, ask: Callable[[], Awaitable[State]], fails: Callable[[State], bool]) -> None:
        self._name = name
        self._ask = ask
        self._fails = fails
        self._asking: asyncio.Task[State] | None = None
        self._fresh_until = 0.0
        self._since: str | None = None

    async def state(self) -> State:
        if self._asking is None or (self._asking.done() and time.monotonic() >= self._fresh_until):
            # In a new context: what Serve cancels when one client leaves, the others still wait for.
            self._asking = asyncio.create_task(self._asked(), context=Context())
        return await asyncio.shield(self._asking)

    async def _asked(self) -> State:
        started = time.monotonic()
        state = await self._ask()
        if not self._fails(state):
            now = time.monotonic()
            self._fresh_until = now + min(FRESH_S, (now - started) / DUTY)
            if self._since is not None:
                logger.info("%s works again", self._name)
            self._since = None
            return state
        if self._since is None:
            self._since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            logger.warning("%s does not work: %s", self._name, state.get("error") or "parts of it are missing")
        return {**state, "since": self._since}


class States:
    """The states of all stages and stores of one gateway."""

    def __init__(self, stages: Mapping[str, AnyHandle], stores: Stores) -> None:
        def stage_part(key: str) -> _Part:
            return _Part(key, lambda: _stage(stages[key]), _faulty)

        def store_part(name: StoreName) -> _Part:
            return _Part(name, lambda: _store(getattr(stores, name)), lambda state: state["error"] is not None)

        self._stages = {key: stage_part(key) for key in stages}
        self._stores: dict[StoreName, _Part] = {
            "documents": store_part("documents"),
            "objects": store_part("objects"),
            "cache": store_part("cache"),
        }

    async def stages(self, keys: Iterable[str] | None = None) -> dict[str, State]:
        """Return what stages say about themselves, by default all; for one that does not answer that is its error."""
        keys = list(self._stages if keys is None else keys)
        return dict(zip(keys, await asyncio.gather(*(self._stages[key].state() for key in keys)), strict=True))

    async def store(self, name: StoreName) -> State:
        """Return whether a store is ``connected``, its ``type`` and ``error``: a full one is connected all the same."""
        return await self._stores[name].state()


async def _stage(handle: AnyHandle) -> State:
    try:
        return await handle.info(ANSWER_WITHIN_S)
    except StageError as error:
        # The class is enough, its text may be internal.
        cause = error.__cause__ or error
        late = isinstance(cause, TimeoutError)
        reason = f"no answer within {ANSWER_WITHIN_S:g} s" if late else f"no answer ({type(cause).__name__})"
        if not late:
            logger.warning("%s could not be asked how it is: %r", handle.key, cause)
        return {"stage": handle.key, "loaded": False, "error": reason}


async def _store(store: Documents | Objects | Cache) -> State:
    connected, error = False, None
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            # The cache, which nothing depends on, answers with a bool; the others raise.
            connected = await store.ping() is not False
            error = None if connected else StoreError.reason
            if not isinstance(store, Cache):
                await store.check_room()
    except TimeoutError:
        error = f"no answer within {ANSWER_WITHIN_S:g} s"
    except StoreError as failure:
        error = failure.reason
    return {"connected": connected, "type": store.type, "error": error}
