"""Stages in the process of their caller: what passes by reference, what waits, and who is told what."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import ray
from ray.exceptions import ObjectStoreFullError

from deployments.serving import catalog
from deployments.serving.catalog import CallLimits, LocalStages, remote_handle
from deployments.serving.handle import LocalHandle
from deployments.serving.loading import LoadQueue
from deployments.serving.runner import StageRunner
from deployments.serving.stage import SharedPixels, Stage, StageConfig, sent
from graphs.jobs.worker import Worker, WorkerArgs
from graphs.web.gateway import Gateway, GatewayArgs, gateway
from tests.waiting import PATIENCE_S
from vision.deadlines import request_deadline
from vision.errors import DeadlineExceeded, InvalidInput, StageOverloaded, StageUnavailable


class Seen(Stage[StageConfig, Any, Any, Any]):
    """Returns its items, one at a time and when its gate is open; the class notes what it got."""

    key = "room/seen"
    gate: ClassVar[threading.Event]
    items: ClassVar[list[Any]]

    def predict(self, item: Any) -> Any:
        Seen.items.append(item)
        assert self.gate.wait(20)
        if isinstance(item, str) and item == "bad":
            raise InvalidInput("bad is no number")
        return item


class Other(Seen):
    key = "room/other"


MakeHandles = Callable[..., dict[str, LocalHandle[Any, Any]]]


@pytest.fixture
async def stages() -> AsyncIterator[LocalStages]:
    """A process with two stages, which are not loaded yet."""
    Seen.gate, Seen.items = threading.Event(), []
    Seen.gate.set()
    made, queue = LocalStages([]), LoadQueue()
    made._runners = {stage.key: StageRunner(stage, None, queue) for stage in (Seen, Other)}
    yield made
    Seen.gate.set()
    for runner in made._runners.values():
        await runner.close()


async def under_way(count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(Seen.items) < count:  # noqa: ASYNC110 (a stage works on a thread of its own)
            await asyncio.sleep(0.002)


async def test_one_picture_is_the_same_array_in_every_stage(stages: LocalStages, monkeypatch: Any) -> None:
    monkeypatch.setattr(ray, "put", lambda _: pytest.fail("nothing goes through the object store"))
    await stages.reconfigure({})
    handles = stages.handles(CallLimits())
    image = SharedPixels(np.zeros((2, 3, 3), np.uint8))
    results = await asyncio.gather(handles["room/seen"](image), handles["room/other"]((image, "beside it")))
    assert results[0] is image.pixels
    assert results[1][0] is image.pixels
    assert not image.pixels.flags.writeable


async def test_a_picture_is_put_into_the_object_store_once_for_all_other_processes(monkeypatch: Any) -> None:
    puts: list[Any] = []
    calls: list[Any] = []

    def put(pixels: Any) -> Any:
        puts.append(pixels)
        return f"reference {len(puts)}"

    class Remote:
        def options(self, **_: Any) -> "Remote":
            return self

        @property
        def run(self) -> "Remote":
            return self

        async def remote(self, _: str, items: list[Any], __: float | None) -> list[Any]:
            calls.append(items)
            return items

    monkeypatch.setattr(ray, "put", put)
    monkeypatch.setattr(catalog.serve, "get_deployment_handle", lambda *_: Remote())
    handles = [remote_handle(key, {}, CallLimits()) for key in ("quality/blur", "people/faces")]
    image = SharedPixels(np.zeros((2, 3, 3), np.uint8))
    assert await asyncio.gather(handles[0](image), handles[1]((image, 5))) == ["reference 1", ("reference 1", 5)]
    assert len(puts) == 1
    assert await sent("a key") == "a key"
    assert calls == [["reference 1"], [("reference 1", 5)]]


async def test_a_full_object_store_is_told_and_tried_again(monkeypatch: Any) -> None:
    full = True

    def put(_: Any) -> str:
        if full:
            raise ObjectStoreFullError
        return "a reference"

    monkeypatch.setattr(ray, "put", put)
    image = SharedPixels(np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(StageOverloaded, match="Too many large images"):
        await image.ref()
    full = False
    assert await image.ref() == "a reference"


async def test_what_one_item_did_wrong_is_told_to_its_caller_alone(stages: LocalStages) -> None:
    await stages.reconfigure({})
    handle = stages.handles(CallLimits())["room/seen"]
    good, bad = await asyncio.gather(handle("good"), handle("bad"), return_exceptions=True)
    assert (good, type(bad)) == ("good", InvalidInput)


async def test_no_more_items_wait_than_may(stages: LocalStages) -> None:
    await stages.reconfigure({})
    handle = stages.handles(CallLimits(max_batch=1, max_in_flight=2, max_pending=3))["room/seen"]
    Seen.gate.clear()
    calls = [asyncio.create_task(handle(number)) for number in range(5)]
    await under_way(1)
    with pytest.raises(StageOverloaded, match="3 requests waiting"):
        await handle(5)
    assert Seen.items == [0]
    Seen.gate.set()
    assert await asyncio.gather(*calls) == [0, 1, 2, 3, 4]
    assert await handle(6) == 6


async def test_the_item_of_a_caller_who_left_takes_no_place(stages: LocalStages) -> None:
    await stages.reconfigure({})
    handle = stages.handles(CallLimits())["room/seen"]
    Seen.gate.clear()
    calls = [asyncio.create_task(handle(number)) for number in range(3)]
    await under_way(1)
    calls[1].cancel()
    await asyncio.sleep(0.01)
    Seen.gate.set()
    assert await calls[2] == 2
    assert Seen.items == [0, 2]


async def test_a_call_ends_with_the_time_of_its_request(stages: LocalStages) -> None:
    await stages.reconfigure({})
    handle = stages.handles(CallLimits())["room/seen"]
    Seen.gate.clear()
    token = request_deadline.set(time.time() + 0.05)
    with pytest.raises(DeadlineExceeded, match="room/seen did not answer in the time"):
        await handle(1)
    request_deadline.reset(token)
    Seen.gate.set()
    assert await handle(2) == 2


async def test_a_stage_that_nobody_has_configured_is_loading(stages: LocalStages) -> None:
    handle = stages.handles(CallLimits())["room/seen"]
    with pytest.raises(StageUnavailable, match="still loading"):
        await handle(1)
    await stages.reconfigure({})
    assert await handle(1) == 1
    assert (await handle.loaded_info())["loaded"] is True


async def test_other_processes_call_the_same_stages(stages: LocalStages) -> None:
    await stages.reconfigure({})
    assert await stages.run("room/seen", [1, 2], None) == [1, 2]
    assert (await stages.info("room/other"))["loaded"] is True
    with pytest.raises(InvalidInput, match="embed/clip does not run here"):
        await stages.run("embed/clip", [1], None)
    with pytest.raises(ValueError, match="does not have: embed/clip"):
        await stages.reconfigure({"embed/clip": {}})


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"here": ["embed/dinov3", "embed/dinov3"]}, "named twice"),
        ({"here": ["embed/dinov3"], "stages": {"embed/dinov3": "models.models"}}, "embed/dinov3 runs here"),
        ({"here": ["embed/clip"], "on_demand": ["embed/clip"]}, "embed/clip runs here"),
    ],
)
def test_a_stage_here_is_nowhere_else(args: dict[str, Any], message: str) -> None:
    for kind in (GatewayArgs, WorkerArgs):
        with pytest.raises(ValueError, match=message):
            kind.model_validate(args)


def test_the_gateway_and_the_worker_are_processes_of_stages() -> None:
    args = {"apis": ["assets"], "here": ["embed/dinov3"], "stages": {"analysis/nearest": "a.b"}}
    handles = GatewayArgs.model_validate(args).handles(LocalStages(["embed/dinov3"]))
    assert {key for key, handle in handles.items() if isinstance(handle, LocalHandle)} == {"embed/dinov3"}
    assert issubclass(Gateway, LocalStages)
    assert issubclass(Worker, LocalStages)
    with pytest.raises(LookupError, match="no stage 'embed/dinov9'"):
        gateway({"apis": ["assets"], "here": ["embed/dinov9"]})
