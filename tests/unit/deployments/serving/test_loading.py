"""When the stages of a pack are loaded, what those say who ask before, and loads that end their process."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from deployments.serving import loading
from deployments.serving.catalog import StageHost
from deployments.serving.loading import LoadQueue, fatal_loads
from deployments.serving.runner import REPLY_S, StageRunner
from deployments.serving.stage import Stage, StageConfig
from tests.waiting import PATIENCE_S
from vision.deadlines import request_deadline
from vision.errors import ModelNotLoaded, StageUnavailable


class Config(StageConfig):
    factor: int = 1


class Gated(Stage[Config, int, int, int]):
    """Loads when its gate is open; the class says in which order that happened."""

    config_class = Config
    gate: ClassVar[threading.Event]
    order: ClassVar[list[str]]
    failure: ClassVar[BaseException | None] = None

    def load(self) -> None:
        Gated.order.append(self.key)
        assert self.gate.wait(20)
        if self.failure is not None:
            raise self.failure

    def predict(self, item: int) -> int:
        return item * self.config.factor


def pack(*names: str) -> list[type[Gated]]:
    return [type(name, (Gated,), {"key": f"room/{name}", "gate": threading.Event()}) for name in names]


@pytest.fixture
async def hosts() -> AsyncIterator[Any]:
    """Makes the process of a pack of such stages."""
    Gated.order = []
    made: list[tuple[StageHost, list[type[Gated]]]] = []

    def make(*names: str) -> tuple[StageHost, list[type[Gated]]]:
        stages, queue = pack(*names), LoadQueue()
        host = StageHost([])
        host._runners = {stage.key: StageRunner(stage, None, queue) for stage in stages}
        made.append((host, stages))
        return host, stages

    yield make
    for host, stages in made:
        for stage in stages:
            stage.gate.set()
        for runner in host._runners.values():
            await runner.close()


async def begun(*keys: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while Gated.order != list(keys):  # noqa: ASYNC110 (a stage loads on a thread of its own)
            await asyncio.sleep(0.005)


async def test_a_pack_is_there_at_once_and_loads_what_is_asked_for_first(hosts: Any) -> None:
    host, (one, two, three, four) = hosts("one", "two", "three", "four")
    await host.reconfigure({"room/three": {"factor": 3}, "room/four": {"factor": 4}})
    await begun("room/one")
    infos = [await host.info(stage.key) for stage in (one, two, three, four)]
    assert [(info["loaded"], info["loading"]) for info in infos] == [(False, True)] * 4
    assert infos[1]["error"] == "room/two is still loading; try again in a few seconds."
    fourth = asyncio.create_task(host.run("room/four", [5], None))
    third = asyncio.create_task(host.run("room/three", [5, 6], time.time() + 60))
    await asyncio.sleep(0.02)
    assert Gated.order == ["room/one"]  # one at a time
    for stage in (one, three, four):
        stage.gate.set()
    assert await fourth == [20]
    assert await third == [15, 18]
    assert Gated.order[:3] == ["room/one", "room/four", "room/three"]
    assert (await host.info("room/two"))["loading"] is True
    two.gate.set()
    assert await host.run("room/two", [2], None) == [2]
    assert Gated.order == ["room/one", "room/four", "room/three", "room/two"]
    assert "loading" not in await host.info("room/two")


@pytest.mark.parametrize("left", [0.0, 0.1, REPLY_S + 0.1])
async def test_who_cannot_wait_so_long_is_told_that_it_is_loading(hosts: Any, left: float) -> None:
    host, (one, two) = hosts("one", "two")
    await host.reconfigure({})
    started = time.time()
    results = await host.run("room/two", [1, 2], started + left)
    assert [type(result) for result in results] == [StageUnavailable] * 2
    assert (results[0].message, results[0].status) == (
        "room/two is still loading; try again in a few seconds.",
        503,
    )
    one.gate.set()
    two.gate.set()
    assert await host.run("room/two", [1, 2], time.time() + 60) == [1, 2]


async def test_a_stream_waits_as_well(hosts: Any) -> None:
    host, (one, two) = hosts("one", "two")
    await host.reconfigure({})
    chunks = [chunk async for chunk in host.stream("room/two", 1, time.time())]
    assert [type(chunk) for chunk in chunks] == [StageUnavailable]
    one.gate.set()
    two.gate.set()
    (last,) = [chunk async for chunk in host.stream("room/two", 1, time.time() + 60)]
    assert last.message == "room/two has no streams."


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ModelNotLoaded("no weights of one: here, there"), "no weights of one: here, there"),
        (ImportError("libone.so"), "room/one failed while it was loaded; the log of its process says why."),
        (BaseException("panicked"), "room/one failed while it was loaded; the log of its process says why."),
    ],
)
async def test_what_fails_says_so_and_costs_no_other_stage(hosts: Any, failure: BaseException, message: str) -> None:
    host, (one, two) = hosts("one", "two")
    one.failure = failure
    one.gate.set()
    two.gate.set()
    await host.reconfigure({})
    (result,) = await host.run("room/one", [1], None)
    assert (type(result), result.message) == (ModelNotLoaded, message)
    info = await host.info("room/one")
    assert (info["loaded"], info["loading"], info["error"]) == (False, False, message)
    assert await host.run("room/two", [1], None) == [1]
    assert Gated.order.count("room/one") == 1  # it is not tried again for each request


async def test_a_load_knows_nothing_of_the_request_that_began_it(hosts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    host, (one,) = hosts("one")
    one.failure = ModelNotLoaded("no weights")
    one.gate.set()
    await host.reconfigure({})
    monkeypatch.setattr("deployments.serving.runner.RELOAD_AFTER_S", 0)
    deadlines: list[float | None] = []
    monkeypatch.setattr(one, "load", lambda _: deadlines.append(request_deadline.get()))
    request_deadline.set(time.time() + 5)
    assert await host.run("room/one", [3], time.time() + 5) == [3]
    assert deadlines == [None]


async def test_a_stage_alone_is_loaded_before_its_replica_is_there(hosts: Any) -> None:
    host, (one,) = hosts("one")
    configured = asyncio.create_task(host.reconfigure({"room/one": {"factor": 2}}))
    await begun("room/one")
    assert not configured.done()
    one.gate.set()
    await configured
    assert await host.run("room/one", [4], None) == [8]


async def test_a_configuration_that_comes_meanwhile_is_applied_without_another_load(hosts: Any) -> None:
    host, (one, two) = hosts("one", "two")
    await host.reconfigure({"room/one": {"factor": 2}, "room/two": {"factor": 2}})
    await begun("room/one")
    await host.reconfigure({"room/one": {"factor": 3}, "room/two": {"factor": 4}})
    with pytest.raises(ValidationError):
        await host.reconfigure({"room/one": {"factor": "many"}})
    one.gate.set()
    two.gate.set()
    assert await host.run("room/one", [10], None) == [30]
    assert await host.run("room/two", [10], None) == [40]
    await asyncio.sleep(0.02)
    assert Gated.order == ["room/one", "room/two"]


def process(folder: Path, key: str, end: str, *, other_parent: bool = False) -> str:
    """Load a stage in a process that ends in this way; what it says."""
    program = f"""
        import os, signal
        from pathlib import Path
        from deployments.serving.loading import fatal_loads
        from vision.errors import ModelNotLoaded
        try:
            with fatal_loads({key!r}, Path({str(folder)!r})):
                {end}
        except ModelNotLoaded as error:
            print(error.message)
        else:
            print("loaded")
        """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    if other_parent:
        command = ["sh", "-c", '"$@"; exit $?', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()


def test_a_stage_whose_loads_end_their_process_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "loading"
    assert process(folder, "room/one", "os.kill(os.getpid(), signal.SIGKILL)") == ""
    assert process(folder, "room/one", "os.abort()") == ""
    assert process(folder, "room/one", "os._exit(3)") == ""
    assert process(folder, "room/one", "pass") == (
        "Loading room/one has ended its process 3 times within 10 minutes, so it is left out for as long. Look for the "
        "reason in the log of its process, such as a lack of memory."
    )
    assert process(folder, "room/two", "pass") == "loaded"  # another stage
    assert process(folder, "room/one", "pass", other_parent=True) == "loaded"  # another run of Ray
    assert len(list(folder.iterdir())) == 3
    for mark in folder.iterdir():
        os.utime(mark, times=(time.time() - loading.FORGOTTEN_AFTER_S - 5,) * 2)
    assert process(folder, "room/one", "pass") == "loaded"
    assert list(folder.iterdir()) == []


def test_a_load_that_comes_to_its_end_forgets_the_last_one(tmp_path: Path) -> None:
    for _ in range(2):
        assert process(tmp_path, "room/one", "os._exit(1)") == ""
        assert process(tmp_path, "room/one", "os._exit(1)") == ""
        assert process(tmp_path, "room/one", "pass") == "loaded"
    # A failure is an end as well, and no reason to leave the stage out.
    for _ in range(4):
        with pytest.raises(ModelNotLoaded, match="no weights"), fatal_loads("room/one", tmp_path):
            raise ModelNotLoaded("no weights")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_load_the_same_stage_are_no_failure(tmp_path: Path) -> None:
    with fatal_loads("room/one", tmp_path), fatal_loads("room/one", tmp_path), fatal_loads("room/one", tmp_path):
        assert len(list(tmp_path.iterdir())) == 3
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_stages_load_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with fatal_loads("room/one", file / "loading"):
        pass
