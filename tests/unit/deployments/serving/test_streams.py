"""Streams of bytes: order, errors, slow readers, readers that leave, deadlines, limits; locally and by a handle."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError

from deployments.serving.catalog import StageHost, local_handle
from deployments.serving.handle import StageHandle
from deployments.serving.runner import StageRunner
from deployments.serving.stage import Stage, StageConfig
from deployments.serving.streams import CHUNKS_AHEAD, ByteGenerator, ByteStream, StreamedBytes
from vision.deadlines import request_deadline
from vision.errors import (
    DeadlineExceeded,
    InvalidInput,
    InvalidMedia,
    ProcessingFailed,
    StageError,
    StageOverloaded,
    StageUnavailable,
)

Script = Callable[[], ByteGenerator]


class Streamer(Stage[StageConfig, Any, Any, Any]):
    """Runs the script that it is given, and keeps track of how it goes."""

    key = "room/streamer"
    made: "list[Streamer]" = []  # noqa: RUF012

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        self.given = 0
        self.threads: set[str] = set()
        self.closed = threading.Event()
        self.made.append(self)

    def load(self) -> None:
        pass

    def prepare(self, item: Any) -> Any:
        if item == "bad":
            raise InvalidInput("bad is no script")
        return item

    def predict_batch(self, items: list[Any]) -> list[Any]:
        return items

    def stream(self, item: Script) -> ByteGenerator:
        try:
            for chunk in item():
                self.threads.add(threading.current_thread().name)
                self.given += 1
                yield chunk
        finally:
            self.threads.add(threading.current_thread().name)
            self.closed.set()


def counting(stop: int, pause_s: float = 0) -> Script:
    def script() -> ByteGenerator:
        for number in range(stop):
            time.sleep(pause_s)
            yield b"%d " % number

    return script


def failing(after: int, error: BaseException) -> Script:
    def script() -> ByteGenerator:
        yield from counting(after)()
        raise error

    return script


@pytest.fixture
async def runner(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StageRunner]:
    monkeypatch.setattr(Streamer, "made", [])
    runner = StageRunner(Streamer)
    await runner.configure({"max_streams": 2})
    yield runner
    await runner.close()


async def read(chunks: AsyncIterator[Any]) -> list[Any]:
    return [chunk async for chunk in chunks]


async def ended(*streams: ByteStream) -> None:
    """Wait until these streams have no thread."""
    for stream in streams:
        await asyncio.to_thread(stream._thread.join, 10)
        assert not stream.running


async def test_chunks_come_in_order_from_a_thread_of_their_own(runner: StageRunner) -> None:
    chunks = await read(runner.stream(counting(200), None))
    assert b"".join(chunks) == b"".join(b"%d " % number for number in range(200))
    (stage,) = Streamer.made
    assert stage.threads == {"room/streamer-stream"}
    assert stage.closed.is_set()
    await ended(*runner._streams)
    assert "room/streamer-stream" not in {thread.name for thread in threading.enumerate()}


async def test_empty_chunks_are_not_sent(runner: StageRunner) -> None:
    assert await read(runner.stream(lambda: (chunk for chunk in [b"", b"a", b"", b"", b"b"]), None)) == [b"a", b"b"]
    assert await read(runner.stream(lambda: (chunk for chunk in [b""]), None)) == []


@pytest.mark.parametrize("after", [0, 3])
async def test_an_error_comes_last_and_keeps_its_class(runner: StageRunner, after: int) -> None:
    *before, last = await read(runner.stream(failing(after, InvalidMedia("damaged")), None))
    assert len(before) == after
    assert (type(last), last.message) == (InvalidMedia, "damaged")


async def test_a_bug_is_told_without_its_secrets(runner: StageRunner, caplog: pytest.LogCaptureFixture) -> None:
    panic = type("PanicException", (BaseException,), {})("a panic in Rust")
    with caplog.at_level(logging.CRITICAL, "ray.serve"):
        for error in (RuntimeError("a bug in /srv/secret.py"), panic):
            (last,) = await read(runner.stream(failing(0, error), None))
            assert (type(last), last.message) == (ProcessingFailed, "room/streamer failed on this input.")
        (last,) = await read(runner.stream("bad", None))
        assert (type(last), last.message) == (InvalidInput, "bad is no script")


async def test_a_slow_reader_holds_the_generator_back(runner: StageRunner) -> None:
    async with aclosing(runner.stream(counting(10_000), None)) as chunks:
        for seen in range(1, 4):
            await anext(chunks)
            await asyncio.sleep(0.05)
            # One more waits for room, and what was read last is still with the reader.
            assert Streamer.made[0].given <= seen + CHUNKS_AHEAD + 1
    assert await asyncio.to_thread(Streamer.made[0].closed.wait, 10)


async def test_a_reader_that_leaves_has_the_generator_closed(runner: StageRunner) -> None:
    async with aclosing(runner.stream(counting(10_000), None)) as chunks:
        await anext(chunks)
    assert await asyncio.to_thread(Streamer.made[0].closed.wait, 10)
    assert Streamer.made[0].threads == {"room/streamer-stream"}
    await ended(*runner._streams)
    assert Streamer.made[0].given < 20


async def test_a_cancelled_reader_has_the_generator_closed(runner: StageRunner) -> None:
    task = asyncio.create_task(read(runner.stream(counting(10**9, 0.001), None)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(Streamer.made[0].closed.wait, 10)


async def test_a_reader_can_leave_while_there_are_no_bytes(runner: StageRunner) -> None:
    def silent() -> ByteGenerator:
        while True:
            time.sleep(0.001)
            yield b""

    task = asyncio.create_task(read(runner.stream(silent, None)))
    await asyncio.sleep(0.02)
    task.cancel()
    assert await asyncio.to_thread(Streamer.made[0].closed.wait, 10)


async def test_the_deadline_ends_a_stream(runner: StageRunner) -> None:
    *before, last = await read(runner.stream(counting(10**9, 0.001), time.time() + 0.1))
    assert before
    assert isinstance(last, DeadlineExceeded)
    assert await asyncio.to_thread(Streamer.made[0].closed.wait, 10)


async def test_the_deadline_ends_a_stream_that_nobody_reads_on(runner: StageRunner) -> None:
    chunks = runner.stream(counting(10**9), time.time() + 0.1)
    await anext(chunks)
    assert await asyncio.to_thread(Streamer.made[0].closed.wait, 10)
    assert isinstance((await read(chunks))[-1], DeadlineExceeded)


async def test_the_deadline_does_not_wait_for_a_generator_that_hangs(runner: StageRunner) -> None:
    gate = threading.Event()

    def hanging() -> ByteGenerator:
        gate.wait(30)
        yield b"late"

    (last,) = await read(runner.stream(hanging, time.time() + 0.05))
    assert isinstance(last, DeadlineExceeded)
    assert not Streamer.made[0].closed.is_set()
    gate.set()
    assert await asyncio.to_thread(Streamer.made[0].closed.wait, 10)


async def test_more_streams_than_allowed_are_refused(runner: StageRunner) -> None:
    held = [runner.stream(counting(10_000), None) for _ in range(2)]
    for chunks in held:
        await anext(chunks)
    (refused,) = await read(runner.stream(counting(1), None))
    assert isinstance(refused, StageOverloaded)
    assert "2 streams" in refused.message
    await held[0].aclose()
    await ended(runner._streams[0])
    assert await read(runner.stream(counting(1), None)) == [b"0 "]
    await held[1].aclose()


async def test_closing_the_runner_ends_its_streams(runner: StageRunner) -> None:
    chunks = runner.stream(counting(10_000), None)
    await anext(chunks)
    await runner.close()
    assert await asyncio.to_thread(Streamer.made[0].closed.wait, 10)
    await chunks.aclose()


async def test_a_stage_that_is_not_loaded_streams_an_error() -> None:
    (last,) = await read(StageRunner(Streamer).stream(counting(1), None))
    assert isinstance(last, StageUnavailable)


async def test_a_stage_without_streams_says_so() -> None:
    host = StageHost(["analysis/clusters"])
    await host.reconfigure({})
    (last,) = await read(host.stream("analysis/clusters", None, None))
    assert isinstance(last, InvalidInput)
    with pytest.raises(InvalidInput, match="does not run here"):
        await read(host.stream("media/clips", None, None))


async def test_a_handle_raises_before_the_first_byte_or_at_the_break() -> None:
    handle = await local_handle(Streamer)
    assert b"".join(await read(handle.stream(counting(30)))) == b"".join(b"%d " % number for number in range(30))
    with pytest.raises(InvalidMedia, match="damaged"):
        await anext(handle.stream(failing(0, InvalidMedia("damaged"))))
    chunks = handle.stream(failing(2, InvalidMedia("damaged")))
    assert [await anext(chunks), await anext(chunks)] == [b"0 ", b"1 "]
    with pytest.raises(InvalidMedia, match="damaged"):
        await anext(chunks)


async def test_a_handle_sends_the_deadline_along() -> None:
    handle = await local_handle(Streamer)
    request_deadline.set(time.time() + 0.1)
    with pytest.raises(DeadlineExceeded, match="room/streamer"):
        await read(handle.stream(counting(10**9, 0.001)))


async def no_info() -> dict[str, Any]:
    return {}


async def no_call(items: list[Any], _: float | None) -> list[Any]:
    return items


class Remote:
    """A stream whose replica fails as told: before the first byte by ``first``, then after two by ``then``."""

    def __init__(self, first: list[BaseException], then: BaseException | None = None) -> None:
        self.first, self.then, self.opened, self.closed = first, then, 0, 0

    async def __call__(self, _item: Any, _deadline: float | None) -> StreamedBytes:
        self.opened += 1
        try:
            if self.first:
                raise self.first.pop(0)
            yield b"0"
            yield b"1"
            if self.then is not None:
                raise self.then
        finally:
            self.closed += 1

    def handle(self) -> StageHandle:
        return StageHandle("room/streamer", no_call, no_info, self, attempts=2)


async def test_a_replica_that_dies_before_the_first_byte_is_replaced() -> None:
    remote = Remote([ActorDiedError()])
    assert await read(remote.handle().stream(1)) == [b"0", b"1"]
    assert (remote.opened, remote.closed) == (2, 2)


TASK_ERROR = RayTaskError("stream", "Traceback: /srv/app.py", ValueError("secret"))


@pytest.mark.parametrize(
    ("first", "then", "kind"),
    [
        ([ActorDiedError(), ActorDiedError()], None, StageUnavailable),
        ([], ActorDiedError(), StageUnavailable),
        ([BackPressureError(num_queued_requests=9, max_queued_requests=9)], None, StageOverloaded),
        ([TASK_ERROR], None, ProcessingFailed),
        ([], TASK_ERROR.as_instanceof_cause(), ProcessingFailed),
        ([], KeyError("secret"), ProcessingFailed),
    ],
)
async def test_what_fails_between_the_processes_is_a_stage_error(
    first: list[BaseException], then: BaseException | None, kind: type[StageError]
) -> None:
    remote = Remote(first, then)
    with pytest.raises(kind) as caught:
        await read(remote.handle().stream(1))
    assert type(caught.value) is kind
    for secret in ("secret", "Traceback", ".py"):
        assert secret not in caught.value.message
    assert remote.opened == remote.closed


async def test_leaving_a_handle_closes_the_remote_stream() -> None:
    remote = Remote([])
    async with aclosing(remote.handle().stream(1)) as chunks:
        assert await anext(chunks) == b"0"
    assert (remote.opened, remote.closed) == (1, 1)


async def test_a_handle_without_streams_says_so() -> None:
    with pytest.raises(StageUnavailable):
        await read(StageHandle("room/stage", no_call, no_info).stream(1))
