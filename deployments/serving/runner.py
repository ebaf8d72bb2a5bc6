"""Run one stage in this process: load and inference on worker threads, batching, deadlines, metrics."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, nullcontext, suppress
from contextvars import Context
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from deployments.serving.batching import Batcher
from deployments.serving.loading import LoadQueue, fatal_loads
from deployments.serving.messages import unreadable
from deployments.serving.metrics import StageMetrics
from deployments.serving.stage import Stage, resolved
from deployments.serving.streams import ByteStream, StreamedBytes, on_thread
from vision.deadlines import request_deadline, time_left
from vision.errors import (
    DeadlineExceeded,
    ModelNotLoaded,
    ProcessingFailed,
    StageError,
    StageOverloaded,
    StageUnavailable,
)
from vision.memory import trim_soon
from vision.spans import batch as batch_span
from vision.spans import begin
from vision.tracing import NOBODY, Origin, origin, origins

logger = logging.getLogger("ray.serve")

RELOAD_AFTER_S = 60.0
REPLY_S = 0.5
"""Before the end of a request, when it is told that a stage is still loading: its caller must still be there."""
TRIM_AFTER_S = 20.0
"""From inference to when free memory is returned: seldom, as the next batch needs it again."""
LARGE: Final = 64 * 2**20
"""Bytes of a picture from which on it is prepared among its like: the planes of one may take several times as much."""
LARGE_AT_ONCE: Final = 2


@cache
def _large_preparers() -> ThreadPoolExecutor:
    """Return the threads on which large pictures are prepared, for all stages of this process.

    So few are in memory at once, and small ones need not wait for them.
    """
    return ThreadPoolExecutor(LARGE_AT_ONCE, thread_name_prefix="prepare-large")


def _is_large(item: Any) -> bool:
    parts = item if isinstance(item, tuple) else (item,)
    return sum(part.nbytes for part in parts if isinstance(part, np.ndarray)) > LARGE


class StageRunner:
    """Runs one stage in this process: load on a worker thread, batching, deadlines, metrics, errors by item.

    ``queue`` says when stages are loaded that share it. ``marks`` is a folder where loads are noted that end their
    process, so that the next one does without this stage.
    """

    def __init__(
        self,
        stage_class: type[Stage[Any, Any, Any, Any]],
        metrics: StageMetrics | None = None,
        queue: LoadQueue | None = None,
        marks: Path | None = None,
    ) -> None:
        self.key = stage_class.key
        self._stage_class = stage_class
        self._metrics = metrics
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=self.key)
        self._preparers = (
            ThreadPoolExecutor(stage_class.prepare_threads, thread_name_prefix=f"{self.key}-prepare")
            if stage_class.prepare_threads
            else None
        )
        self._predictors: ThreadPoolExecutor | None = None
        self._streams: list[ByteStream] = []
        self._stage: Stage[Any, Any, Any, Any] | None = None
        self._config = stage_class.config_class()
        on_wait = None if metrics is None else partial(metrics.waited, self.key)
        self._batcher = Batcher(self._predict, self._config.max_batch_size, self._config.batch_wait_s, on_wait)
        self._queue = queue or LoadQueue()
        self._marks = marks
        self._settled = asyncio.Event()
        """Not set while it waits for its load or is loaded."""
        self._settled.set()
        self._missing: str | None = None
        self._bug: BaseException | None = None
        self._configured = True
        self._tried_at: float | None = None
        self._load_s: float | None = None
        self._maintenance: asyncio.Task[None] | None = None

    async def configure(self, values: dict[str, Any]) -> None:
        """Load with this configuration, or apply it in place when loaded. Raises as ``accept``, and what is a bug."""
        await self.accept(values)
        await self.loaded()

    async def loaded(self) -> None:
        """Wait until it is loaded, or cannot be. Raises what is a bug."""
        await self._settled.wait()
        if self._bug is not None:
            raise self._bug

    async def accept(self, values: dict[str, Any]) -> None:
        """Have it loaded with this configuration, or apply it in place when loaded. Raises pydantic.ValidationError."""
        config = self._stage_class.config_class.model_validate(values)
        self._config = config
        self._batcher.max_size = config.max_batch_size
        self._batcher.wait_s = config.batch_wait_s
        if self._stage is None:
            self._missing = None
            self._settled.clear()
            self._queue.add(self.key, self._load)
        else:
            await self._on_worker(self._stage.reconfigure, config)

    async def run(self, items: list[Any], deadline: float | None, origins: Sequence[Origin] = ()) -> list[Any]:
        """Return results in order, StageErrors in place of failed items. ``deadline`` is in epoch seconds.

        ``origins`` say what each item is for; without any it is what the caller works for.
        """
        if (refusal := await self._refusal(deadline)) is not None:
            return [refusal] * len(items)
        latest = deadline or float("inf")
        given: list[Origin | None] = [*origins] or [None] * len(items)
        if len(items) == 1:  # in the task of the caller, as gathering costs more than that takes
            return [await self._one(items[0], latest, given[0])]
        each = zip(items, given, strict=True)
        return list(await asyncio.gather(*(self._one(item, latest, by) for item, by in each)))

    async def stream(self, item: Any, deadline: float | None) -> StreamedBytes:
        """Yield the bytes of one item as the stage makes them."""
        refusal, stage, item = await self._refusal(deadline), self._stage, await resolved(item)
        self._streams = [stream for stream in self._streams if stream.running]
        if refusal is not None or stage is None:
            yield self._count(refusal or self._why())
        elif len(self._streams) >= self._config.max_streams:
            message = f"{self.key} has {len(self._streams)} streams running; try again in a few seconds."
            yield self._count(StageOverloaded(message))
        else:
            recorded = begin(f"stream {self.key}", "server", origin.get())
            token = origin.set(recorded.origin if recorded else origin.get())
            stream = ByteStream(self.key, lambda: stage.stream(stage.prepare(item)), deadline or float("inf"))
            origin.reset(token)
            self._streams.append(stream)
            size, failure = 0, ""
            try:
                async with aclosing(stream.read()) as chunks:
                    async for chunk in chunks:
                        if isinstance(chunk, StageError):
                            failure = type(chunk).__name__
                            yield self._count(chunk)
                        else:
                            size += len(chunk)
                            yield chunk
            finally:
                if recorded:
                    recorded.end({"visiongraph.stage": self.key, "visiongraph.bytes": size}, failure)

    def info(self) -> dict[str, Any]:
        """Return the state of the stage for ``/model-info`` and ``/health``."""
        state: dict[str, Any] = {"stage": self.key, "loaded": self._stage is not None, "load_s": self._load_s}
        if self._stage is None:
            loading = self._missing is None
            return {**state, "loading": loading, "error": self._why().message, "configured": self._configured}
        return {**state, **self._stage.info()}

    def check_health(self) -> None:
        """Raise when the replica should be replaced."""
        if self._stage is not None:
            self._stage.check_health()

    async def close(self) -> None:
        """Stop the loads, the maintenance and the streams, and close the stage and its threads."""
        self._queue.close()
        if self._maintenance is not None:
            self._maintenance.cancel()
        for stream in self._streams:
            stream.leave()
        if self._stage is not None:
            stage, self._stage = self._stage, None
            await self._on_worker(stage.close)
        for pool in (self._worker, self._preparers, self._predictors):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    async def _refusal(self, deadline: float | None) -> StageError | None:
        """Wait until it is loaded, for as long as a request may; return why it cannot answer, None when it can."""
        if self._stage is not None:
            return None
        if self._settled.is_set():
            if self._tried_at is None or time.monotonic() - self._tried_at <= RELOAD_AFTER_S:
                return self._why()
            self._settled.clear()
            self._queue.add(self.key, self._load)
        elif self._missing is not None:  # it is being tried again, for the one who asked first
            return self._why()
        self._queue.ask(self.key)
        left = None if deadline is None else max(deadline - time.time() - REPLY_S, 0)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), left)
        return None if self._stage is not None else self._why()

    def _why(self) -> StageError:
        """Return why a stage that is not loaded cannot answer: its model is missing, or it is on its way."""
        if self._missing is None:
            return StageUnavailable(f"{self.key} is still loading; try again in a few seconds.")
        return ModelNotLoaded(self._missing, optional=not self._configured)

    async def _load(self) -> None:
        started = time.monotonic()
        try:
            if self._stage is None:  # else it was configured again while it was loaded
                self._tried_at, self._bug = started, None
                self._start(await self._loaded())
                self._load_s = round(time.monotonic() - started, 3)
                logger.info("%s loaded in %.1f s", self.key, self._load_s)
        except StageError as error:
            self._missing = error.message
            self._configured = not (isinstance(error, ModelNotLoaded) and error.optional)
            logger.warning("%s not loaded: %s", self.key, error.message)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # a panic in Rust is no Exception
            self._missing = f"{self.key} failed while it was loaded; the log of its process says why."
            self._bug = error
            logger.exception("%s failed while it was loaded", self.key)
        finally:
            self._settled.set()

    async def _loaded(self) -> Stage[Any, Any, Any, Any]:
        config = self._config
        stage = self._stage_class(config)

        def load() -> None:
            with nullcontext() if self._marks is None else fatal_loads(self.key, self._marks):
                stage.load()
                stage.warm_up()

        await self._on_worker(load)
        while config is not self._config:
            config = self._config
            await self._on_worker(stage.reconfigure, config)
        return stage

    def _start(self, stage: Stage[Any, Any, Any, Any]) -> None:
        at_once = stage.batches_at_once()
        if at_once > 1:
            self._predictors = ThreadPoolExecutor(at_once, thread_name_prefix=f"{self.key}-predict")
            self._batcher.at_once = at_once
        self._stage = stage
        if stage.tick_s is not None and self._maintenance is None:
            self._maintenance = asyncio.create_task(self._tick(stage.tick_s), context=Context())  # for no request

    async def _tick(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            if self._stage is not None:
                try:
                    await self._on_worker(self._stage.tick)
                except Exception:
                    logger.exception("%s failed in its maintenance", self.key)

    async def _one(self, item: Any, deadline: float, by: Origin | None) -> Any:
        assert self._stage is not None
        if by is not None:
            origin.set(by)
        request_deadline.set(None if deadline == float("inf") else deadline)
        try:
            item = await resolved(item)
            if (other_version := unreadable(item)) is not None:
                return self._count(other_version)
            if self._preparers is not None and _is_large(item):
                item = await on_thread(_large_preparers(), self._prepared, item)
                trim_soon()
            elif self._preparers is not None:
                with self._batcher.announced():
                    item = await on_thread(self._preparers, self._prepared, item)
            return await self._batcher.submit(item, deadline)
        except StageError as error:
            self._count(error)
            return error
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException:  # a panic in Rust is no Exception
            logger.exception("%s failed on an item", self.key)
            return self._count(ProcessingFailed(f"{self.key} failed on this input."))

    def _prepared(self, item: Any) -> Any:
        """Prepare an item, on a thread for which it may have waited."""
        assert self._stage is not None
        if time_left() == 0:
            raise self._late()
        return self._stage.prepare(item)

    async def _predict(self, items: list[Any], deadlines: list[float]) -> list[Any]:
        assert self._stage is not None
        now = time.time()
        live = [index for index, deadline in enumerate(deadlines) if deadline > now]
        results: list[Any] = [self._late()] * len(items)
        if live:
            started = time.perf_counter()
            pool, batch = self._predictors or self._worker, [items[index] for index in live]
            latest = max(deadlines[index] for index in live)
            request_deadline.set(None if latest == float("inf") else latest)
            by = origins.get() or (NOBODY,) * len(items)
            with batch_span(self.key, [by[index] for index in live], self._config.max_batch_size):
                outputs = await on_thread(pool, self._stage.predict_batch, batch)
            if self._metrics is not None:
                self._metrics.batch(self.key, len(live), self._config.max_batch_size, time.perf_counter() - started)
            for index, output in zip(live, outputs, strict=True):
                results[index] = output
            trim_soon(TRIM_AFTER_S)
        for result in results:
            if isinstance(result, StageError):
                self._count(result)
        return results

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"The time ran out before {self.key} could start.")

    def _count(self, error: StageError) -> StageError:
        if self._metrics is not None:
            self._metrics.error(self.key, error.code)
        return error

    async def _on_worker(self, function: Callable[..., Any], *args: Any) -> Any:
        return await on_thread(self._worker, function, *args)
