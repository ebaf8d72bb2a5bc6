"""Which request work is for, from the caller of a stage to the lines that its process logs."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ray import serve
from ray.serve._private.logging_utils import ServeContextFilter

from deployments.serving import catalog
from deployments.serving.catalog import CallLimits, remote_handle
from deployments.serving.stage import StageRef
from tests.unit.deployments.serving import stage_child
from tests.unit.deployments.serving.stage_child import Talkative
from vision.tracing import NOBODY, Origin, log_request_ids, origin, origin_of, shared_by


@contextmanager
def asked_by(request_id: str) -> Iterator[None]:
    token = origin.set(Origin(request_id))
    yield
    origin.reset(token)


class Replica:
    """A handle of Serve's to the child; calls are answered one after another."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        self._child = child
        self.calls: list[dict[str, Any]] = []

    @property
    def run(self) -> "Replica":
        return self

    async def remote(self, *positional: Any, **named: Any) -> Any:
        self.calls.append(named)

        def ask() -> Any:
            assert self._child.stdin is not None
            assert self._child.stdout is not None
            stage_child.write(self._child.stdin, (positional, named))  # type: ignore[arg-type]
            return stage_child.read(self._child.stdout)  # type: ignore[arg-type]

        return await asyncio.to_thread(ask)


async def test_a_process_of_stages_logs_which_request_each_line_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", stage_child.__name__]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes) as child:  # type: ignore[call-overload]  # noqa: ASYNC220
        replica = Replica(child)
        monkeypatch.setattr(serve, "get_deployment_handle", lambda *_: replica)
        monkeypatch.setattr(catalog, "find_reference", lambda _: StageRef[str, str](Talkative.key))
        handle = remote_handle(Talkative.key, {}, CallLimits(max_in_flight=1))

        async def ask(request_id: str, item: str) -> None:
            with asked_by(request_id):
                assert await handle(item) == item

        await ask("alone", "a")
        assert await handle("nobody's") == "nobody's"
        # While the first call is under way the others wait, and go together with the next one.
        await asyncio.gather(ask("r1", "b"), ask("r2", "c"), ask("r3", "d"), ask("r3", "e"))
        assert child.stdin is not None
        child.stdin.close()
        assert child.stderr is not None
        lines = await asyncio.to_thread(child.stderr.read)
    told = [line.split(" ", 1) for line in lines.decode().splitlines() if "prepared" in line or "batch" in line]
    names = {message: request_id for request_id, message in told}
    assert names.pop("batch of c+d+e") == "r2,r3"
    assert names == {
        "prepared a": "alone",
        "batch of a": "alone",
        "prepared nobody's": "-",
        "batch of nobody's": "-",
        "prepared b": "r1",
        "batch of b": "r1",
        "prepared c": "r2",
        "prepared d": "r3",
        "prepared e": "r3",
    }
    assert "origins" not in replica.calls[1]


def test_work_for_many_names_a_few_of_them() -> None:
    assert shared_by([]) == NOBODY
    assert shared_by([Origin("a", "trace"), Origin("a", "trace")]) == Origin("a", "trace")
    assert shared_by([Origin("b"), NOBODY, Origin("a"), Origin("b")]) == Origin("b,a")
    assert shared_by([Origin(str(number)) for number in range(10)]) == Origin("0,1,2,3+6")


def test_what_a_later_version_sends_along_is_left_out() -> None:
    assert origin_of(("a", "b", "c", "d")) == Origin("a", "b", "c")
    assert origin_of(("a",)) == Origin("a")
    assert origin_of(None) == NOBODY


def test_lines_have_the_id_although_serve_names_calls_of_its_own_and_makes_new_handlers() -> None:
    said: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(
                json.loads(json.dumps({"text": record.getMessage(), "id": getattr(record, "request_id", None)}))
            )

    def handler() -> logging.Handler:
        made = Kept()
        made.addFilter(ServeContextFilter())
        return made

    from ray.serve import context

    logger = logging.Logger("test of ids")
    logging.Logger.manager.loggerDict[logger.name] = logger
    token = context._serve_request_context.set(context._RequestContext(request_id="of a call"))
    try:
        log_request_ids(logger.name)
        log_request_ids(logger.name)
        assert len(logger.filters) == 1
        for number in (1, 2):
            logger.handlers = [handler()]
            with asked_by("of the request"):
                logger.info("line %d", number)
        logger.info("line 3")
    finally:
        context._serve_request_context.reset(token)
        del logging.Logger.manager.loggerDict[logger.name]
    assert said == [
        {"text": "line 1", "id": "of the request"},
        {"text": "line 2", "id": "of the request"},
        {"text": "line 3", "id": "of a call"},
    ]
