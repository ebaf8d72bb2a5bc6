"""States of stages and stores: asked once for all who want to know, with the reason and since when."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deployments.serving.handle import StageHandle
from graphs.web.states import States, StoreName, configured, usable
from stores.errors import StoreError, StoreFull
from stores.open import Stores

NAMES: tuple[StoreName, ...] = ("documents", "objects", "cache")


class Asked:
    """A stage that answers after a while, counts how often it was asked, and raises what it is given."""

    def __init__(self, seconds: float = 0.02, **info: Any) -> None:
        self.seconds = seconds
        self.info_of_it: dict[str, Any] = {"loaded": True, **info}
        self.error: Exception | None = None
        self.times = 0

    async def info(self) -> dict[str, Any]:
        self.times += 1
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return self.info_of_it

    async def call(self, *_: object) -> list[Any]:
        raise NotImplementedError


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    made = Stores(objects=f"file://{tmp_path}/objects", documents=f"sqlite:///{tmp_path}/documents.sqlite")
    yield made
    await made.close()


def states_of(stores: Stores, **stages: Asked) -> States:
    return States({key: StageHandle(key, each.call, each.info) for key, each in stages.items()}, stores)


async def test_all_who_ask_at_once_share_one_question(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    pings, ping = 0, stores.documents.ping

    async def counted() -> None:
        nonlocal pings
        pings += 1
        await asyncio.sleep(0.02)
        await ping()

    monkeypatch.setattr(stores.documents, "ping", counted)
    stage, other = Asked(0.1), Asked(0.1)
    states = states_of(stores, stage=stage, other=other)
    answers = await asyncio.gather(
        *(states.stages() for _ in range(500)), *(states.stages(["stage"]) for _ in range(9))
    )
    assert answers[0] == {"stage": {"loaded": True}, "other": {"loaded": True}}
    await asyncio.gather(*(states.store("documents") for _ in range(500)))
    assert (stage.times, other.times, pings) == (1, 1, 1)
    await asyncio.sleep(1.05)
    await states.stages()
    assert stage.times == 2


async def test_one_who_leaves_takes_the_answer_from_nobody(stores: Stores) -> None:
    states = states_of(stores, stage=Asked(0.1))
    leaving, staying = [asyncio.ensure_future(states.stages()) for _ in range(2)]
    await asyncio.sleep(0.01)
    leaving.cancel()
    assert (await staying)["stage"]["loaded"] is True


async def test_a_stage_that_fails_says_why_and_since_when(stores: Stores) -> None:
    stage = Asked(0)
    states = states_of(stores, stage=stage)
    stage.error = ValueError("at 10.0.0.7:1234")
    first = (await states.stages())["stage"]
    assert (first["loaded"], first["error"]) == (False, "no answer (ValueError)")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first["since"])
    stage.error = ConnectionRefusedError()
    second = (await states.stages())["stage"]
    assert (second["error"], second["since"]) == ("no answer (ConnectionRefusedError)", first["since"])
    stage.error = None
    assert "since" not in (await states.stages())["stage"]


async def test_a_stage_that_hangs_is_given_up(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphs.web.states.ANSWER_WITHIN_S", 0.05)
    states = states_of(stores, slow=Asked(60), quick=Asked(0))
    answers = await states.stages()
    assert (answers["slow"]["error"], "error" in answers["quick"]) == ("no answer within 0.05 s", False)
    assert (await states.stages(["quick"])).keys() == {"quick"}


async def test_a_store_says_why_and_since_when(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    states = states_of(stores)
    assert await states.store("objects") == {"connected": True, "type": "file", "error": None}
    assert await states.store("cache") == {"connected": True, "type": "none", "error": None}

    async def away() -> None:
        raise StoreError("s3 at 10.0.0.7 refused")

    async def hangs() -> None:
        await asyncio.sleep(60)

    async def full() -> None:
        raise StoreFull("/home/x: no space")

    monkeypatch.setattr("graphs.web.states.ANSWER_WITHIN_S", 0.05)
    await asyncio.sleep(1.05)
    since = set()
    for method, failing, connected, error in (
        ("ping", away, False, "does not answer"),
        ("ping", hangs, False, "no answer within 0.05 s"),
        ("check_room", full, True, "is full"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(stores.objects, method, failing)
            state = await states.store("objects")
        since.add(state.pop("since"))
        assert state == {"connected": connected, "type": "file", "error": error}
    assert len(since) == 1
    assert (await states.store("objects"))["error"] is None


async def test_stores_are_well_while_all_threads_are_busy(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphs.web.states.ANSWER_WITHIN_S", 1.0)
    ended = threading.Event()
    busy = [asyncio.ensure_future(asyncio.to_thread(ended.wait)) for _ in range(64)]
    try:
        states = states_of(stores)
        assert [(await states.store(name))["error"] for name in NAMES] == [None, None, None]
    finally:
        ended.set()
        await asyncio.gather(*busy)


@pytest.mark.parametrize(
    ("info", "is_usable", "is_configured"),
    [
        ({"loaded": True}, True, True),
        ({"loaded": False, "on_demand": True}, True, True),
        ({"loaded": True, "on_demand": True}, True, True),
        ({"loaded": False, "on_demand": True, "error": "no weights"}, False, True),
        ({"loaded": False, "error": "no key", "configured": False}, False, False),
        ({"loaded": False, "error": "no weights", "configured": True}, False, True),
        ({}, False, True),
    ],
)
def test_what_counts_as_a_fault(info: dict[str, Any], is_usable: bool, is_configured: bool) -> None:
    assert (usable(info), configured(info)) == (is_usable, is_configured)
