"""Run one stage in this process: load and inference on worker threads, batching, deadlines, metrics."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from deployments.serving.batching import Batcher
from deployments.serving.metrics import StageMetrics
from deployments.serving.stage import Stage, resolved
from deployments.serving.streams import ByteStream, StreamedBytes, on_thread
from vision.deadlines import request_deadline
from vision.errors import (
    DeadlineExceeded,
    ModelNotLoaded,
    ProcessingFailed,
    StageError,
    StageOverloaded,
    StageUnavailable,
)
from vision.memory import trim_soon

logger = logging.getLogger("ray.serve")

RELOAD_AFTER_S = 60.0
TRIM_AFTER_S = 20.0
"""From inference to when free memory is returned: seldom, as the next batch needs it again."""


class StageRunner:
    """Runs one stage in this process: load on a worker thread, batching, deadlines, metrics, errors by item."""

    def __init__(
        self,
        stage_class: type[Stage[Any, Any, Any, Any]],
        metrics: StageMetrics | None = None,
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
        self._batcher = Batcher(self._predict, self._config.max_batch_size, self._config.batch_wait_s)
        self._loading = f"{self.key} is still loading; try again in a few seconds."
        self._missing: str | None = None
        self._configured = True
        self._tried_at: float | None = None
        self._load_s: float | None = None
        self._maintenance: asyncio.Task[None] | None = None

    async def configure(self, values: dict[str, Any]) -> None:
        """Load with this configuration, or apply it in place when loaded. Raises pydantic.ValidationError."""
        config = self._stage_class.config_class.model_validate(values)
        self._config = config
        self._batcher.max_size = config.max_batch_size
        self._batcher.wait_s = config.batch_wait_s
        if self._stage is None:
            await self._load()
        else:
            await self._on_worker(self._stage.reconfigure, config)

    async def run(self, items: list[Any], deadline: float | None) -> list[Any]:
        """Return results in order, StageErrors in place of failed items. ``deadline`` is in epoch seconds."""
        if self._stage is None:
            await self._reload_when_due()
        if self._stage is None:
            return [self._refusal() for _ in items]
        return list(await asyncio.gather(*(self._one(item, deadline or float("inf")) for item in items)))

    async def stream(self, item: Any, deadline: float | None) -> StreamedBytes:
        """Yield the bytes of one item as the stage makes them."""
        if self._stage is None:
            await self._reload_when_due()
        stage, item = self._stage, await resolved(item)
        self._streams = [stream for stream in self._streams if stream.running]
        if stage is None:
            yield self._count(self._refusal())
        elif len(self._streams) >= self._config.max_streams:
            message = f"{self.key} has {len(self._streams)} streams running; try again in a few seconds."
            yield self._count(StageOverloaded(message))
        else:
            stream = ByteStream(self.key, lambda: stage.stream(stage.prepare(item)), deadline or float("inf"))
            self._streams.append(stream)
            async with aclosing(stream.read()) as chunks:
                async for chunk in chunks:
                    yield self._count(chunk) if isinstance(chunk, StageError) else chunk

    def info(self) -> dict[str, Any]:
        """Return the state of the stage for ``/model-info`` and ``/health``."""
        state: dict[str, Any] = {"stage": self.key, "loaded": self._stage is not None, "load_s": self._load_s}
        if self._stage is None:
            return {**state, "error": self._refusal().message, "configured": self._configured}
        return {**state, **self._stage.info()}

    def check_health(self) -> None:
        """Raise when the replica should be replaced."""
        if self._stage is not None:
            self._stage.check_health()

    async def close(self) -> None:
        """Stop the maintenance, the streams and the threads."""
        if self._maintenance is not None:
            self._maintenance.cancel()
        for stream in self._streams:
            stream.leave()
        for pool in (self._worker, self._preparers, self._predictors):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    def _refusal(self) -> StageError:
        """Return why a stage that is not loaded cannot answer: its model is missing, or it is on its way."""
        return StageUnavailable(self._loading) if self._missing is None else ModelNotLoaded(self._missing)

    async def _load(self) -> None:
        started = self._tried_at = time.monotonic()
        stage = self._stage_class(self._config)

        def load() -> None:
            stage.load()
            stage.warm_up()

        try:
            await self._on_worker(load)
        except StageError as error:
            self._missing = error.message
            self._configured = not (isinstance(error, ModelNotLoaded) and error.optional)
            logger.warning("%s not loaded: %s", self.key, error.message)
            return
        at_once = stage.batches_at_once()
        if at_once > 1:
            self._predictors = ThreadPoolExecutor(at_once, thread_name_prefix=f"{self.key}-predict")
            self._batcher.at_once = at_once
        self._stage = stage
        self._load_s = round(time.monotonic() - started, 3)
        logger.info("%s loaded in %.1f s", self.key, self._load_s)
        if stage.tick_s is not None and self._maintenance is None:
            self._maintenance = asyncio.create_task(self._tick(stage.tick_s))

    async def _reload_when_due(self) -> None:
        if self._tried_at is not None and time.monotonic() - self._tried_at > RELOAD_AFTER_S:
            await self._load()

    async def _tick(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            if self._stage is not None:
                try:
                    await self._on_worker(self._stage.tick)
                except Exception:
                    logger.exception("%s failed in its maintenance", self.key)

    async def _one(self, item: Any, deadline: float) -> Any:
        assert self._stage is not None
        request_deadline.set(None if deadline == float("inf") else deadline)  # of the task of this item
        try:
            item = await resolved(item)
            if self._preparers is not None:
                with self._batcher.announced():
                    item = await on_thread(self._preparers, self._stage.prepare, item)
            return await self._batcher.submit(item, deadline)
        except StageError as error:
            self._count(error)
            return error
        except asyncio.CancelledError:
            raise
        except BaseException:  # a panic in Rust is no Exception
            logger.exception("%s failed on an item", self.key)
            return self._count(ProcessingFailed(f"{self.key} failed on this input."))

    async def _predict(self, items: list[Any], deadlines: list[float]) -> list[Any]:
        assert self._stage is not None
        now = time.time()
        live = [index for index, deadline in enumerate(deadlines) if deadline > now]
        results: list[Any] = [DeadlineExceeded(f"The time ran out before {self.key} could start.")] * len(items)
        if live:
            started = time.perf_counter()
            pool, batch = self._predictors or self._worker, [items[index] for index in live]
            latest = max(deadlines[index] for index in live)
            request_deadline.set(None if latest == float("inf") else latest)
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

    def _count(self, error: StageError) -> StageError:
        if self._metrics is not None:
            self._metrics.error(self.key, error.code)
        return error

    async def _on_worker(self, function: Callable[..., Any], *args: Any) -> Any:
        return await on_thread(self._worker, function, *args)
