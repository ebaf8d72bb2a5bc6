"""What is recorded of stages and stores, and under which names."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from deployments.serving import metrics
from deployments.serving.batching import Batcher
from deployments.serving.metrics import METRICS, Growth, StageMetrics, publish_regularly, record_store_call
from tests.recorded import Recorded, recorded

__all__ = ["recorded"]


@pytest.fixture
def stages() -> StageMetrics:
    return StageMetrics()


def test_a_batch_has_its_time_its_fill_and_its_items(recorded: Recorded, stages: StageMetrics) -> None:
    stages.batch("embed/dinov3", 3, 4, 0.25)
    stages.error("embed/dinov3", "OVERLOADED")
    assert recorded.values("stage_batch_latency_ms", stage="embed/dinov3") == [250]
    assert recorded.values("stage_batch_fill", stage="embed/dinov3") == [0.75]
    assert recorded.total("stage_items", stage="embed/dinov3") == 3
    assert recorded.total("stage_errors", stage="embed/dinov3", code="OVERLOADED") == 1


async def test_items_wait_for_the_batch_before_theirs(recorded: Recorded, stages: StageMetrics) -> None:
    async def run(items: list[int], _: list[float]) -> list[int]:
        await asyncio.sleep(0.05)
        return items

    batcher = Batcher(run, 2, 0, lambda seconds: stages.waited("a/b", seconds))
    started = time.perf_counter()
    assert await asyncio.gather(*(batcher.submit(n, float("inf")) for n in range(4))) == [0, 1, 2, 3]
    took = (time.perf_counter() - started) * 1000
    waits = recorded.values("stage_queue_wait_ms", stage="a/b")
    assert len(waits) == 4
    assert max(waits[:2]) < min(waits[2:])
    assert 49 <= min(waits[2:]) <= max(waits[2:]) <= took


@pytest.mark.parametrize(
    ("info", "loaded", "fault"),
    [
        ({"loaded": True}, 1, 0),
        ({"loaded": True, "missing": ["no weights of a head"]}, 1, 1),
        ({"loaded": False, "loading": True, "error": "is loading"}, 0, 0),
        ({"loaded": False, "loading": False, "error": "no verified weights"}, 0, 1),
        ({"loaded": False, "loading": False, "configured": False, "error": "no key"}, 0, 0),
    ],
)
def test_a_stage_without_its_weights_is_a_fault_and_one_that_loads_is_none(
    recorded: Recorded, stages: StageMetrics, info: dict[str, Any], loaded: int, fault: int
) -> None:
    stages.state({"stage": "a/b", **info})
    assert recorded.values("stage_loaded", stage="a/b") == [loaded]
    assert recorded.values("stage_fault", stage="a/b") == [fault]
    assert recorded.of("model_info") == {}


def test_every_model_of_a_stage_is_there_with_its_version(recorded: Recorded, stages: StageMetrics) -> None:
    heads = {name: {"model": f"nima-{name}", "model_version": f"nima-{name}@1"} for name in ("aesthetic", "technical")}
    stages.state({"stage": "quality/nima", "loaded": True, "engine": "torch", "device": "cuda", **heads})
    stages.state({"stage": "embed/dinov3", "loaded": True, "model": "s16", "model_version": "s16@08c6", "device": None})
    same = {"engine": "torch", "device": "cuda", "stage": "quality/nima"}
    assert recorded.values("model_info", version="nima-aesthetic@1", **same) == [1]
    assert recorded.values("model_info", version="nima-technical@1", **same) == [1]
    assert recorded.values("model_info", stage="embed/dinov3", version="s16@08c6", engine="", device="") == [1]


def test_counters_grow_by_what_is_new(recorded: Recorded) -> None:
    growth = Growth()
    for number in (0, 4, 4, 9):
        growth.publish("stage_refused", number, stage="a/b")
    growth.publish("stage_refused", 2, stage="c/d")
    assert recorded.total("stage_refused", stage="a/b") == 9
    assert recorded.total("stage_refused", stage="c/d") == 2


def test_a_call_that_a_store_failed_counts_twice_over(recorded: Recorded) -> None:
    record_store_call("objects", "put_file", 0.5, "StoreFull")
    record_store_call("objects", "get", 0.001, None)
    assert recorded.values("store_latency_ms", store="objects", operation="put_file") == [500]
    assert recorded.values("store_latency_ms", store="objects", operation="get") == [1]
    assert recorded.of("store_errors") == {(("error", "StoreFull"), ("operation", "put_file"), ("store", "objects")): 1}


async def test_gauges_that_cannot_be_set_are_said_once_and_set_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls, done = 0, asyncio.Event()

    async def publish() -> None:
        nonlocal calls
        calls += 1
        if calls in (2, 3, 5):
            raise OSError("no disk")
        if calls == 6:
            done.set()

    task = asyncio.create_task(publish_regularly(publish, 0.001))
    await done.wait()
    task.cancel()
    assert [record.message for record in caplog.records if record.name == "ray.serve"] == ["gauges cannot be set"] * 2


def test_rays_objects_take_every_metric() -> None:
    for name, metric in METRICS.items():
        made = metrics._made(name)
        assert made.info["name"] == f"visiongraph_{name}"
        assert made.info["tag_keys"] == metric.labels
        labels = dict.fromkeys(metric.labels, "x")
        if metric.kind == "counter":
            metrics.count(name, **labels)
        else:
            (metrics.observe if metric.kind == "histogram" else metrics.set_gauge)(name, 1, **labels)
        assert (metric.kind == "histogram") == bool(metric.boundaries)
        assert list(metric.boundaries) == sorted(metric.boundaries)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    metrics._made.cache_clear()
