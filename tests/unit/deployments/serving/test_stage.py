"""The runner of a stage: loading and loading again, errors by item, deadlines, reconfigure, maintenance."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from ray import ObjectRef

from deployments.serving import runner as stage_module
from deployments.serving.catalog import local_handle
from deployments.serving.runner import StageRunner
from deployments.serving.stage import INLINE_BYTES, Stage, StageConfig, needs_reference
from tests.waiting import PATIENCE_S
from vision.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelNotLoaded,
    ProcessingFailed,
    StageError,
    StageUnavailable,
)


class Config(StageConfig):
    factor: int = 2


class Doubler(Stage[Config, Any, Any, Any]):
    """Multiplies numbers; the class attributes stand for the world around it."""

    key = "room/doubler"
    config_class = Config
    prepare_threads = 1
    made: "list[Doubler]" = []  # noqa: RUF012
    missing: str | None = None

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.events: list[str] = []
        self.batches: list[list[Any]] = []
        self.threads: set[str] = set()
        self.healthy = True
        self.made.append(self)

    def load(self) -> None:
        self._note("load")
        if self.missing:
            raise ModelNotLoaded(self.missing)

    def warm_up(self) -> None:
        self._note("warm_up")

    def prepare(self, item: Any) -> Any:
        if item == "bad":
            raise InvalidInput("bad is no number")
        return int(item)

    def predict_batch(self, items: list[Any]) -> Sequence[Any]:
        self._note("predict")
        self.batches.append(items)
        if -1 in items:
            raise RuntimeError("a bug in /srv/secret.py")
        if -2 in items:
            raise type("PanicException", (BaseException,), {})("a panic in Rust")
        if -3 in items:
            next(iter(()))
        return [InvalidInput("zero") if item == 0 else item * self.config.factor for item in items]

    def reconfigure(self, config: Config) -> None:
        self._note("reconfigure")
        super().reconfigure(config)

    def tick(self) -> None:
        self._note("tick")

    def check_health(self) -> None:
        if not self.healthy:
            raise RuntimeError("replace me")

    def info(self) -> dict[str, Any]:
        return {"factor": self.config.factor}

    def _note(self, event: str) -> None:
        self.events.append(event)
        self.threads.add(threading.current_thread().name)


@pytest.fixture
async def runner(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StageRunner]:
    monkeypatch.setattr(Doubler, "made", [])
    runner = StageRunner(Doubler)
    yield runner
    await runner.close()


async def test_it_loads_warms_up_and_answers_in_order(runner: StageRunner) -> None:
    assert runner.info()["error"] == "room/doubler is still loading; try again in a few seconds."
    await runner.configure({})
    assert await runner.run([3, "1", 2], None) == [6, 2, 4]
    (stage,) = Doubler.made
    assert stage.events[:3] == ["load", "warm_up", "predict"]
    assert len(stage.threads) == 1  # all of it on the one thread
    assert threading.current_thread().name not in stage.threads
    info = runner.info()
    assert info.pop("load_s") >= 0
    assert info == {"stage": "room/doubler", "loaded": True, "factor": 2}


async def test_a_bad_item_fails_alone(runner: StageRunner) -> None:
    await runner.configure({})
    async with asyncio.timeout(PATIENCE_S):
        results = await runner.run([1, "bad", 0, "x", -1, -2, -3, 4], None)
    assert (results[0], results[7]) == (2, 8)
    kinds = [type(result) for result in results[1:7]]
    assert kinds == [InvalidInput, InvalidInput] + [ProcessingFailed] * 4
    assert (results[1].message, results[2].message) == ("bad is no number", "zero")
    assert {result.message for result in results[3:7]} == {"room/doubler failed on this input."}


class Inverter(Stage[StageConfig, Any, Any, Any]):
    """A stage that takes its items one by one."""

    key = "room/inverter"
    libraries = ("wave",)

    def predict(self, item: Any) -> Any:
        if item == 0:
            raise InvalidInput("zero has no inverse")
        return 1 / item


def test_a_stage_of_single_items_fails_by_item(caplog: pytest.LogCaptureFixture) -> None:
    stage = Inverter(StageConfig())
    with caplog.at_level(logging.ERROR, "ray.serve"):
        results = stage.predict_batch([2, 0, "two", 4])
    assert (results[0], results[3]) == (0.5, 0.25)
    assert [type(result) for result in results[1:3]] == [InvalidInput, ProcessingFailed]
    assert (results[1].message, results[2].message) == ("zero has no inverse", "room/inverter failed on this input.")
    (record,) = caplog.records
    assert record.message == "room/inverter failed on an item"
    assert record.exc_info is not None


def test_a_stage_imports_its_libraries_when_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    stage = Inverter(StageConfig())
    assert "wave" not in sys.modules
    stage.load()
    assert "wave" in sys.modules


def test_a_stage_says_in_one_way_how_it_predicts() -> None:
    with pytest.raises(TypeError, match="Both defines both predict and predict_batch"):

        class Both(Inverter):
            def predict_batch(self, items: list[Any]) -> Sequence[Any]:
                return items

    with pytest.raises(TypeError, match="Neither defines neither predict nor predict_batch"):

        class Neither(Stage[StageConfig, Any, Any, Any]):
            key = "room/neither"

    class Base(Stage[StageConfig, Any, Any, Any]):
        """Without a key it is no stage yet."""


async def test_before_it_was_configured_there_is_no_answer(runner: StageRunner) -> None:
    (result,) = await runner.run([1], None)
    assert isinstance(result, StageUnavailable)  # it may answer in a moment, so it is no missing model
    assert Doubler.made == []


async def test_without_weights_it_says_why_and_loads_later(
    runner: StageRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Doubler, "missing", "no weights: hub is gated, folder is empty")
    await runner.configure({})
    results = await runner.run([1, 2], None)
    assert [type(result) for result in results] == [ModelNotLoaded] * 2
    assert results[0].message == "no weights: hub is gated, folder is empty"
    assert runner.info()["error"] == results[0].message
    assert len(Doubler.made) == 1  # not tried again so soon

    monkeypatch.setattr(Doubler, "missing", None)
    monkeypatch.setattr(stage_module, "RELOAD_AFTER_S", 0)
    assert await runner.run([1, 2], None) == [2, 4]
    assert (len(Doubler.made), runner.info()["loaded"]) == (2, True)


async def test_many_callers_have_it_loaded_again_once(runner: StageRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Doubler, "missing", "nothing there")
    await runner.configure({})
    runner._tried_at -= stage_module.RELOAD_AFTER_S + 1
    await asyncio.gather(*(runner.run([1], None) for _ in range(5)))
    assert len(Doubler.made) == 2


async def test_a_bug_in_load_fails_the_replica(runner: StageRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: Stage[Any, Any, Any, Any]) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Doubler, "load", load)
    with pytest.raises(RuntimeError, match="a bug"):
        await runner.configure({})


async def test_what_is_too_late_is_not_computed(runner: StageRunner) -> None:
    await runner.configure({})
    (late,) = await runner.run([1], time.time() - 1)
    assert isinstance(late, DeadlineExceeded)
    assert Doubler.made[0].batches == []
    assert await runner.run([1], time.time() + 60) == [2]


async def test_only_the_late_ones_of_a_batch_are_left_out(runner: StageRunner) -> None:
    await runner.configure({})
    now = time.time()
    results = await runner._predict([1, 2, 3], [now + 60, now - 1, now + 60])
    assert (results[0], type(results[1]), results[2]) == (2, DeadlineExceeded, 6)
    assert Doubler.made[0].batches == [[1, 3]]


async def test_a_stage_that_loses_items_is_a_bug(runner: StageRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    await runner.configure({})
    monkeypatch.setattr(Doubler, "predict_batch", lambda *_: [])
    (result,) = await runner.run([1], None)
    assert isinstance(result, ProcessingFailed)


async def test_a_new_configuration_is_applied_in_place(runner: StageRunner) -> None:
    await runner.configure({"factor": 3})
    assert await runner.run([5], None) == [15]
    await runner.configure({"factor": 4, "max_batch_size": 8})
    assert await runner.run([5], None) == [20]
    (stage,) = Doubler.made
    assert stage.events.count("load") == 1
    assert (stage.config.factor, stage.config.max_batch_size) == (4, 8)
    for wrong in ({"factor": "many"}, {"faktor": 1}, {"max_batch_size": 0}, {"batch_wait_s": -1}):
        with pytest.raises(ValidationError):
            await runner.configure(wrong)
    assert await runner.run([5], None) == [20]


async def test_items_are_batched_and_keep_their_places(runner: StageRunner) -> None:
    await runner.configure({"max_batch_size": 4})
    assert await runner.run(list(range(1, 40)), None) == [2 * n for n in range(1, 40)]
    batches = Doubler.made[0].batches
    assert sorted(item for batch in batches for item in batch) == list(range(1, 40))
    assert max(map(len, batches)) <= 4
    await runner.configure({"max_batch_size": 1})
    batches.clear()
    await runner.run([1, 2, 3], None)
    assert batches == [[1], [2], [3]]


async def test_maintenance_continues_after_a_failure(
    runner: StageRunner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ticks, third = [], threading.Event()

    def tick(_: Stage[Any, Any, Any, Any]) -> None:
        ticks.append(threading.current_thread().name)
        if len(ticks) == 1:
            raise RuntimeError("a bug in maintenance")
        if len(ticks) == 3:
            third.set()

    monkeypatch.setattr(Doubler, "tick", tick)
    monkeypatch.setattr(Doubler, "tick_s", 0.001)
    with caplog.at_level(logging.ERROR, "ray.serve"):
        await runner.configure({})
        assert await asyncio.to_thread(third.wait, 20)
    assert [record.message for record in caplog.records] == ["room/doubler failed in its maintenance"]
    assert set(ticks) <= Doubler.made[0].threads
    await runner.close()
    await asyncio.sleep(0)
    assert runner._maintenance is not None
    assert runner._maintenance.cancelled()


async def test_health_is_what_the_stage_says(runner: StageRunner) -> None:
    await runner.configure({})
    runner.check_health()
    Doubler.made[0].healthy = False
    with pytest.raises(RuntimeError, match="replace me"):
        runner.check_health()


async def test_a_local_handle_raises_what_a_stage_returns() -> None:
    handle = await local_handle(Doubler, {"factor": 5})
    assert handle.key == "room/doubler"
    assert await asyncio.gather(*(handle(n) for n in range(1, 40))) == [5 * n for n in range(1, 40)]
    with pytest.raises(InvalidInput, match="zero"):
        await handle(0)
    with pytest.raises(StageError, match="failed on this input"):
        await handle(-1)
    assert (await handle.info())["factor"] == 5


@dataclass(frozen=True)
class Query:
    vectors: np.ndarray
    names: tuple[str, ...]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["a key", b"some bytes", 5, None], False),
        ([bytes(INLINE_BYTES)], False),
        ([bytes(INLINE_BYTES // 2)] * 3, True),
        ([Query(np.zeros((10, 512), np.float32), ("a",))], False),
        ([Query(np.zeros((600, 512), np.float32), ("a",))], True),
        ([Query(np.zeros(1), ("x" * 1000,) * 1100)], True),
        ([{"key": [np.zeros(INLINE_BYTES, np.uint8), "and more"]}], True),
        ([(ObjectRef(bytes(28)), "beside it")], True),
    ],
)
def test_large_calls_and_shared_images_go_by_reference(items: list[Any], expected: bool) -> None:
    assert needs_reference(items) is expected


class Painter(Stage[StageConfig, Any, Any, Any]):
    """Counts the pictures that are prepared at once, each until it may go on."""

    key = "room/painter"
    prepare_threads = 4

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        self.lock, self.may_go = threading.Lock(), threading.Event()
        self.running = self.most = self.done = 0

    def prepare(self, item: np.ndarray) -> int:
        if item.nbytes <= stage_module.LARGE:
            return 0
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.may_go.wait(10)
        with self.lock:
            self.running -= 1
            self.done += 1
        return item.nbytes

    def predict(self, item: int) -> int:
        return item


async def test_large_pictures_are_prepared_two_at_once_and_small_ones_pass_them() -> None:
    large = np.empty(stage_module.LARGE + 1, np.uint8)
    runner, other = StageRunner(Painter), StageRunner(Painter)
    await runner.configure({})
    await other.configure({})
    first, second = runner._stage, other._stage
    assert isinstance(first, Painter)
    assert isinstance(second, Painter)
    work = [asyncio.ensure_future(r.run([large] * 3, time.time() + 20)) for r in (runner, other)]
    await asyncio.sleep(0.05)
    late = asyncio.ensure_future(runner.run([large], time.time() + 0.3))
    assert await asyncio.wait_for(runner.run([np.empty(9, np.uint8)] * 5, time.time() + 5), 5) == [0] * 5
    await asyncio.sleep(0.4)
    assert first.running + second.running == stage_module.LARGE_AT_ONCE
    first.may_go.set()
    second.may_go.set()
    assert await asyncio.gather(*work) == [[large.nbytes] * 3] * 2
    assert first.most + second.most >= stage_module.LARGE_AT_ONCE
    assert max(first.most, second.most) <= stage_module.LARGE_AT_ONCE
    (error,) = await late
    assert isinstance(error, DeadlineExceeded)
    assert first.done == 3
    await runner.close()
    await other.close()
