"""The caller's side of a stage: coalescing, order, errors by item, retries, limits and deadlines."""

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.serving.handle import StageHandle, subject
from vision.deadlines import request_deadline
from vision.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelNotLoaded,
    ProcessingFailed,
    StageError,
    StageOverloaded,
    StageUnavailable,
)


async def no_info() -> dict[str, Any]:
    return {}


class Remote:
    """A stage behind a handle: answers every item with its double, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.deadlines: list[float | None] = []
        self.errors: list[BaseException] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.answer: Callable[[Any], Any] = lambda item: item * 2

    async def __call__(self, items: list[Any], deadline: float | None) -> list[Any]:
        self.batches.append(items)
        self.deadlines.append(deadline)
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return [self.answer(item) for item in items]

    def handle(self, **options: int) -> StageHandle:
        return StageHandle("room/stage", self, no_info, **options)


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_lone_call_goes_at_once() -> None:
    remote = Remote()
    assert await remote.handle()(21) == 42
    assert remote.batches == [[21]]


async def test_what_arrives_while_calls_are_in_flight_goes_in_one_batch() -> None:
    remote = Remote()
    handle = remote.handle(max_in_flight=2, max_batch=4)
    remote.gate.clear()
    first = [asyncio.create_task(handle(n)) for n in (0, 1)]
    await settle()
    later = [asyncio.create_task(handle(n)) for n in range(2, 9)]
    await settle()
    assert remote.batches == [[0], [1]]
    remote.gate.set()
    assert await asyncio.gather(*first, *later) == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    assert remote.batches == [[0], [1], [2, 3, 4, 5], [6, 7, 8]]


async def test_an_error_reaches_its_own_caller_only() -> None:
    remote = Remote()
    handle = remote.handle(max_in_flight=1)
    remote.answer = lambda item: InvalidInput(f"{item} is odd") if item % 2 else item
    remote.gate.clear()
    calls = [asyncio.create_task(handle(n)) for n in range(5)]
    await settle()
    remote.gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert remote.batches == [[0], [1, 2, 3, 4]]
    assert (results[0], results[2], results[4]) == (0, 2, 4)
    assert [(type(results[n]), results[n].message) for n in (1, 3)] == [
        (InvalidInput, "1 is odd"),
        (InvalidInput, "3 is odd"),
    ]


async def test_a_caller_that_left_is_not_computed_for() -> None:
    remote = Remote()
    handle = remote.handle(max_in_flight=1, max_batch=2)
    remote.gate.clear()
    calls = [asyncio.create_task(handle(n)) for n in range(5)]
    await settle()
    for left in (0, 1, 3):  # the first one is on its way already
        calls[left].cancel()
    await settle()
    remote.gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert remote.batches == [[0], [2, 4]]
    assert (results[2], results[4]) == (4, 8)
    assert [type(results[n]) for n in (0, 1, 3)] == [asyncio.CancelledError] * 3


async def test_a_batch_does_not_belong_to_the_request_that_sent_it() -> None:
    """Serve finds by context what a request started, and cancels that when the client leaves."""
    owner: ContextVar[str] = ContextVar("owner", default="nobody")
    seen = []

    async def call(items: list[Any], _: float | None) -> list[Any]:
        seen.append(owner.get())
        return items

    owner.set("a client that may leave")
    await StageHandle("room/stage", call, no_info)(1)
    assert seen == ["nobody"]


async def test_a_full_queue_refuses_and_recovers() -> None:
    remote = Remote()
    handle = remote.handle(max_in_flight=1, max_pending=3)
    remote.gate.clear()
    calls = [asyncio.create_task(handle(n)) for n in range(4)]
    await settle()
    with pytest.raises(StageOverloaded, match="3 requests waiting"):
        await handle(99)
    remote.gate.set()
    assert await asyncio.gather(*calls) == [0, 2, 4, 6]
    assert await handle(99) == 198


DEAD = ActorDiedError()
AWAY = ActorUnavailableError("the node 10.0.0.7 does not answer", None)
NOWHERE = DeploymentUnavailableError(DeploymentID("stage", "room"))


@pytest.mark.parametrize("error", [DEAD, AWAY, NOWHERE])
async def test_a_replica_that_died_is_tried_again(error: Exception) -> None:
    remote = Remote()
    remote.errors = [error]
    assert await remote.handle(attempts=2)(21) == 42
    assert remote.batches == [[21], [21]]


async def test_a_stage_that_stays_away_is_unavailable() -> None:
    remote = Remote()
    remote.errors = [NOWHERE] * 3
    with pytest.raises(StageUnavailable) as caught:
        await remote.handle(attempts=2)(1)
    assert len(remote.batches) == 2
    assert caught.value.retryable


class Fragile(Remote):
    """A stage whose replica dies over one of its items, whenever that comes."""

    def __init__(self, deadly: int, error: Exception) -> None:
        super().__init__()
        self.deadly, self.error = deadly, error

    async def __call__(self, items: list[Any], deadline: float | None) -> list[Any]:
        results = await super().__call__(items, deadline)
        if self.deadly in items:
            raise self.error
        return results


@pytest.mark.parametrize("error", [DEAD, AWAY])
async def test_the_one_item_of_a_batch_that_kills_replicas_is_found_and_named(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    remote = Fragile(3, error)
    handle = remote.handle(max_in_flight=1)

    async def call(item: int) -> Any:
        subject.set(f"asset-{item}")
        return await handle(item)

    remote.gate.clear()
    calls = [asyncio.create_task(call(n)) for n in range(6)]
    await settle()
    remote.gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [results[n] for n in (0, 1, 2, 4, 5)] == [0, 2, 4, 8, 10]
    assert isinstance(results[3], StageUnavailable)
    assert "10.0.0.7" not in results[3].message
    # Two replicas were lost, not one for each of three tries of the batch; nobody was with it the second time.
    assert remote.batches == [[0], [1, 2, 3, 4, 5], [1], [2], [3], [4], [5]]
    assert [record.getMessage() for record in caplog.records if "lost again" in record.getMessage()] == [
        f"a replica of room/stage was lost again over asset-3 ({type(error).__name__}); it is not tried again"
    ]


async def test_nothing_is_tried_again_for_callers_that_left() -> None:
    remote = Fragile(1, DEAD)
    handle = remote.handle(max_in_flight=1)
    remote.gate.clear()
    call = asyncio.create_task(handle(1))
    await settle()
    call.cancel()
    await settle()
    remote.gate.set()
    await asyncio.sleep(0.5)
    assert remote.batches == [[1]]
    remote.errors = [NOWHERE]
    remote.gate.clear()
    late = asyncio.create_task(handle(2))
    await settle()
    late.cancel()
    await settle()
    remote.gate.set()
    await asyncio.sleep(0.5)
    assert remote.batches == [[1], [2]]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BackPressureError(num_queued_requests=9, max_queued_requests=9), StageOverloaded),
        (RayTaskError("run", "Traceback: /srv/app.py", ValueError("secret")), ProcessingFailed),
        (RayTaskError("run", "Traceback", ValueError("secret")).as_instanceof_cause(), ProcessingFailed),
        (KeyError("secret"), ProcessingFailed),
        (InvalidInput("all of these"), InvalidInput),
        (asyncio.CancelledError(), StageUnavailable),
        (type("PanicException", (BaseException,), {})("secret"), ProcessingFailed),
    ],
)
async def test_any_other_failure_is_told_to_every_caller_once(error: BaseException, kind: type[StageError]) -> None:
    remote = Remote()
    handle = remote.handle(max_in_flight=1)

    def answer(item: int) -> int:
        if item:
            raise error
        return 0

    remote.answer = answer
    remote.gate.clear()
    first = asyncio.create_task(handle(0))
    await settle()
    calls = [asyncio.create_task(handle(n)) for n in (1, 2)]
    await settle()
    remote.gate.set()
    assert await first == 0
    for result in await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5):
        assert type(result) is kind
        for secret in ("secret", "Traceback", ".py"):
            assert secret not in result.message
    assert remote.batches == [[0], [1, 2]]
    assert await handle(0) == 0


class Sleeper:
    """A stage whose replica starts with its first item, and then says what it is."""

    def __init__(self, woken: dict[str, Any]) -> None:
        self.woken = woken
        self.state: dict[str, Any] = {"loaded": False, "on_demand": True}
        self.items: list[Any] = []
        self.refusal: StageError | None = None

    async def call(self, items: list[Any], _: float | None) -> list[Any]:
        self.items += items
        self.state = self.woken
        return [self.refusal or item for item in items]

    async def info(self) -> dict[str, Any]:
        return self.state

    def handle(self) -> StageHandle:
        return StageHandle("room/stage", self.call, self.info)


async def test_a_sleeping_stage_is_woken_for_its_info_and_no_sooner() -> None:
    sleeper = Sleeper({"loaded": True, "model_version": "m@1"})
    handle = sleeper.handle()
    assert await handle.info() == {"loaded": False, "on_demand": True}
    assert sleeper.items == []
    assert await handle.ready_info("blank") == sleeper.woken
    assert await handle.ready_info("blank") == sleeper.woken
    assert sleeper.items == ["blank"]


async def test_a_stage_without_weights_has_no_ready_info() -> None:
    sleeper = Sleeper({"loaded": False, "error": "no weights"})
    sleeper.refusal = ModelNotLoaded("no weights")
    with pytest.raises(ModelNotLoaded, match="no weights"):
        await sleeper.handle().ready_info("blank")
    assert (await sleeper.handle().info())["error"] == "no weights"


async def test_a_stage_that_does_not_say_what_it_is_is_unavailable() -> None:
    async def away() -> dict[str, Any]:
        raise AWAY

    async def hang() -> dict[str, Any]:
        return await asyncio.Event().wait()

    with pytest.raises(StageUnavailable) as caught:
        await StageHandle("room/stage", away, away).ready_info(1)
    assert caught.value.__cause__ is AWAY
    assert "10.0.0.7" not in caught.value.message
    silent = StageHandle("room/stage", hang, hang)
    with pytest.raises(StageUnavailable, match="room/stage does not answer yet"):
        await silent.info(0.01)
    request_deadline.set(time.time() + 0.05)
    with pytest.raises(StageUnavailable, match="room/stage does not answer yet"):
        await silent.ready_info(1)


async def test_a_deadline_ends_the_wait_and_goes_along() -> None:
    remote = Remote()
    handle = remote.handle(max_in_flight=1)
    remote.gate.clear()
    soon = time.time() + 0.05
    request_deadline.set(soon)
    with pytest.raises(DeadlineExceeded, match="room/stage"):
        await handle(1)
    assert remote.deadlines == [soon]
    remote.gate.set()


async def test_a_batch_has_until_the_latest_deadline_in_it() -> None:
    remote = Remote()
    handle = remote.handle(max_in_flight=1)

    async def call(item: int, deadline: float | None) -> Any:
        request_deadline.set(deadline)
        return await handle(item)

    now = time.time()
    for deadlines, sent in (([now + 50, now + 90, now + 70], now + 90), ([now + 50, None], None)):
        remote.gate.clear()
        calls = [asyncio.create_task(call(0, now + 60))]
        await settle()
        calls += [asyncio.create_task(call(n, deadline)) for n, deadline in enumerate(deadlines, 1)]
        await settle()
        remote.gate.set()
        await asyncio.gather(*calls)
        assert remote.deadlines[-2:] == [now + 60, sent]
