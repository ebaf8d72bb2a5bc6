"""The metrics of every process: what there is, and how it is recorded.

Ray's metrics agent of each node shows those of all processes of the node (``/metrics``, Prometheus text, each name with
``ray_`` before it), so whoever scrapes the agents has those of every replica, wherever it runs. The agent drops a gauge
that was not set for twice its interval, and puts the sum of a histogram together from the middles of its buckets: use
the quantiles of a histogram, not its average.
"""

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cache
from threading import Lock
from typing import Any, Final, Literal, NamedTuple

from ray.util import metrics

from vision import spans

logger = logging.getLogger("ray.serve")

Kind = Literal["counter", "gauge", "histogram"]

PREFIX: Final = "visiongraph_"
PUBLISH_S: Final = 10.0
"""Time between two settings of a gauge: what Ray sends to its agent is as old."""
LATENCY_MS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000)
STORE_MS: Final = (0.2, 1, 5, 20, 100, 500, 2000, 10000)
FILL: Final = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)


class Metric(NamedTuple):
    """A metric: its kind, what it says, its labels, and the boundaries of its buckets if it is a histogram."""

    kind: Kind
    description: str
    labels: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()


METRICS: Final[Mapping[str, Metric]] = {
    # gateway
    "info": Metric("gauge", "1 for each gateway, with the version of this software.", ("version",)),
    "requests": Metric("counter", "Requests that were answered.", ("api", "route", "method", "status")),
    "request_latency_ms": Metric(
        "histogram",
        "Time to the first byte of the answer, without that for which the client was waited for, in milliseconds.",
        ("api", "route", "method"),
        LATENCY_MS,
    ),
    "requests_in_flight": Metric("gauge", "Requests whose answer has not ended."),
    "requests_refused": Metric(
        "counter", "Answers 429, by what was exceeded: rate, quota or overload.", ("api", "reason")
    ),
    "request_bytes": Metric("counter", "Bytes of bodies that came.", ("api",)),
    "response_bytes": Metric("counter", "Bytes of bodies that were sent.", ("api",)),
    "cache_lookups": Metric(
        "counter", "What was looked up before it is made, by where it was: cache, store, or miss.", ("cache", "result")
    ),
    # stages
    "stage_loaded": Metric("gauge", "1 when the stage can answer, 0 when it loads or cannot be loaded.", ("stage",)),
    "stage_fault": Metric("gauge", "1 when weights of the stage, or of a part of it, are missing.", ("stage",)),
    "model_info": Metric("gauge", "1 for each model that serves.", ("stage", "version", "engine", "device")),
    "stage_batch_latency_ms": Metric(
        "histogram", "Time of one predict_batch call in milliseconds.", ("stage",), LATENCY_MS
    ),
    "stage_batch_fill": Metric("histogram", "Items of a batch over the largest batch allowed.", ("stage",), FILL),
    "stage_queue_wait_ms": Metric(
        "histogram", "Time from when an item is prepared to its batch, in milliseconds.", ("stage",), LATENCY_MS
    ),
    "stage_items": Metric("counter", "Items that went through predict_batch.", ("stage",)),
    "stage_errors": Metric("counter", "Items answered with an error, by error code.", ("stage", "code")),
    "stage_waiting": Metric("gauge", "Items of a gateway or worker that wait for the stage.", ("stage",)),
    "stage_refused": Metric("counter", "Items that found the queue of the stage full.", ("stage",)),
    "gpu_memory_bytes": Metric("gauge", "Memory of a GPU of this node: used, total.", ("gpu", "state")),
    # jobs
    "jobs": Metric("gauge", "Jobs in the store.", ("kind", "status")),
    "jobs_oldest_queued_seconds": Metric("gauge", "How long the oldest job that is due waits already.", ("kind",)),
    "job_attempts": Metric("counter", "Attempts at jobs that have ended.", ("kind", "outcome")),
    "webhooks": Metric("gauge", "Webhooks, by whether anything is sent to them: enabled, disabled.", ("state",)),
    "webhook_waiting": Metric("gauge", "Deliveries to webhooks that are under way, or will be tried again."),
    "webhook_attempts": Metric(
        "counter",
        "Attempts at deliveries: delivered, failed; and deliveries given_up.",
        ("outcome",),
    ),
    "job_frames": Metric("counter", "Frames of videos that jobs have looked at.", ("kind",)),
    # stores
    "store_latency_ms": Metric(
        "histogram",
        "Time of one call, of a stream that to its first bytes, in milliseconds.",
        ("store", "operation"),
        STORE_MS,
    ),
    "store_errors": Metric("counter", "Calls that a store failed.", ("store", "operation", "error")),
    "disk_free_bytes": Metric("gauge", "Free bytes of the disk of an embedded store or of the spool.", ("disk",)),
    "disk_size_bytes": Metric("gauge", "Size of that disk.", ("disk",)),
}
"""Every metric, by its name without ``PREFIX``. No label has values without a bound: routes are templates."""


@cache
def _made(name: str) -> Any:
    """Return Ray's object for a metric, which records nothing that leaves a process without Ray."""
    metric = METRICS[name]
    options: dict[str, Any] = {"description": metric.description, "tag_keys": metric.labels}
    if metric.kind == "histogram":
        return metrics.Histogram(PREFIX + name, boundaries=list(metric.boundaries), **options)
    return (metrics.Counter if metric.kind == "counter" else metrics.Gauge)(PREFIX + name, **options)


_counted: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
_counting = Lock()


def count(name: str, by: float = 1, /, **labels: str) -> None:
    """Raise a counter, if by anything; ``flush`` tells Ray, as each record costs it more than the rest of a request."""
    if by:
        with _counting:
            _counted[name, tuple(labels.items())] += by  # type: ignore[assignment]  # a Counter sums floats as well


def flush() -> None:
    """Tell Ray what was counted since the last time."""
    with _counting:
        counted = dict(_counted)
        _counted.clear()
    for (name, labels), by in counted.items():
        _made(name).inc(by, dict(labels))


def observe(name: str, value: float, **labels: str) -> None:
    """Add a value to a histogram."""
    _made(name).observe(value, labels)


def set_gauge(name: str, value: float, **labels: str) -> None:
    """Set a gauge, which lasts for two ``PUBLISH_S``."""
    _made(name).set(value, labels)


class Growth:
    """Raises counters by how much numbers have grown that are counted elsewhere."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, ...], float] = {}

    def publish(self, name: str, value: float, **labels: str) -> None:
        """Raise a counter to a number that only grows."""
        key = (name, *labels.values())
        count(name, value - self._before.get(key, 0), **labels)
        self._before[key] = value


async def publish_regularly(publish: Callable[[], Awaitable[None]], every_s: float | None = None) -> None:
    """Set gauges until this is cancelled, every ``PUBLISH_S`` unless told; what fails is logged when it begins to."""
    failing = False
    while True:
        try:
            await publish()
            flush()
            failing = False
        except Exception:
            if not failing:
                logger.exception("gauges cannot be set")
            failing = True
        await asyncio.sleep(PUBLISH_S if every_s is None else every_s)


def models_in(info: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what a stage says about each of its models: itself, and parts of it such as the heads of a network."""
    if info.get("model_version"):
        yield info
    for part in info.values():
        for each in part if isinstance(part, list) else [part]:
            if isinstance(each, Mapping):
                yield from models_in(each)


def record_store_call(store: str, operation: str, seconds: float, error: str | None) -> None:
    """Record one call of a store, also as a span; ``error`` is the class of the StoreError that it raised."""
    spans.record_store_call(store, operation, seconds, error)
    observe("store_latency_ms", seconds * 1000, store=store, operation=operation)
    if error is not None:
        count("store_errors", store=store, operation=operation, error=error)


class StageMetrics:
    """What the stages of one process record."""

    def batch(self, stage: str, size: int, max_size: int, seconds: float) -> None:
        """Record one batch of ``size`` items that took ``seconds``."""
        observe("stage_batch_latency_ms", seconds * 1000, stage=stage)
        observe("stage_batch_fill", size / max_size, stage=stage)
        count("stage_items", size, stage=stage)

    def waited(self, stage: str, seconds: float) -> None:
        """Record how long an item waited for its batch."""
        observe("stage_queue_wait_ms", seconds * 1000, stage=stage)

    def error(self, stage: str, code: str) -> None:
        """Record one item answered with an error."""
        count("stage_errors", stage=stage, code=code)

    def state(self, info: Mapping[str, Any]) -> None:
        """Publish what a stage says about itself."""
        stage = info["stage"]
        set_gauge("stage_loaded", int(info["loaded"]), stage=stage)
        lacks = not info["loaded"] and not info.get("loading") and info.get("configured") is not False
        set_gauge("stage_fault", int(lacks or bool(info.get("missing"))), stage=stage)
        for model in models_in(info):
            names = {name: str(model.get(name) or info.get(name) or "") for name in ("engine", "device")}
            set_gauge("model_info", 1, stage=stage, version=str(model["model_version"]), **names)

    def gpu(self) -> None:
        """Publish the memory of the GPUs that torch uses in this process, if it does."""
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
            return
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            # Of the card and not of its place in this process, which sees only the cards that it has a share of.
            gpu = str(torch.cuda.get_device_properties(number).uuid)
            set_gauge("gpu_memory_bytes", total - free, gpu=gpu, state="used")
            set_gauge("gpu_memory_bytes", total, gpu=gpu, state="total")
