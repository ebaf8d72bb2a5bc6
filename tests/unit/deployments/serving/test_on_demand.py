"""Stages on demand, asked how they are: never woken, never between two answers when their replica comes or goes."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.serving import catalog
from deployments.serving.catalog import CallLimits, ServeStatus, remote_handle
from vision.errors import StageUnavailable

KEYS = [f"analysis/{name}" for name in ("clusters", "anomalies", "groups", "tracks", "identities", "nearest")]
PLACES = dict.fromkeys(KEYS, "analytics.analytics")


class Cluster:
    """What Serve says of the deployment ``analytics``, and how its replica answers."""

    def __init__(self) -> None:
        self.states: list[dict[str, int]] = [{}]
        self.asked = self.called = 0
        self.error: Exception | None = None

    def status(self) -> Any:
        self.asked += 1
        states = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        deployments = {"analytics": SimpleNamespace(replica_states=states)}
        return SimpleNamespace(applications={"analytics": SimpleNamespace(deployments=deployments)})

    def handle(self, *_: str) -> Any:
        async def info(key: str) -> dict[str, Any]:
            self.called += 1
            if self.error is not None:
                raise self.error
            return {"stage": key, "loaded": True}

        return SimpleNamespace(info=SimpleNamespace(remote=info))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(catalog.serve, "status", made.status)
    monkeypatch.setattr(catalog.serve, "get_deployment_handle", made.handle)
    return made


async def test_stages_that_sleep_are_not_woken_and_serve_is_asked_once_for_all(cluster: Cluster) -> None:
    status = ServeStatus()
    handles = [remote_handle(key, PLACES, CallLimits(), status) for key in KEYS]
    for states in ({}, {"STARTING": 1}, {"STOPPING": 1}):
        cluster.states, cluster.asked = [states], 0
        infos = await asyncio.gather(*(handle.info(5) for handle in handles))
        assert infos == [{"stage": key, "loaded": False, "on_demand": True} for key in KEYS]
        assert (cluster.asked, cluster.called) == (1, 0)
    cluster.states = [{"RUNNING": 1}]
    infos = await asyncio.gather(*(handle.info(5) for handle in handles))
    assert infos == [{"stage": key, "loaded": True, "on_demand": True} for key in KEYS]


async def test_a_replica_that_goes_while_it_is_asked_sleeps(cluster: Cluster) -> None:
    handle = remote_handle(KEYS[0], PLACES, CallLimits(), ServeStatus())
    cluster.states, cluster.error = [{"RUNNING": 1}, {}], ValueError("Failed to look up actor")
    assert await handle.info(5) == {"stage": KEYS[0], "loaded": False, "on_demand": True}
    cluster.states = [{"RUNNING": 1}]
    with pytest.raises(StageUnavailable):
        await handle.info(5)


async def test_one_who_leaves_takes_the_status_from_nobody(cluster: Cluster) -> None:
    status = ServeStatus()
    leaving, staying = [asyncio.ensure_future(status.running("analytics", "analytics")) for _ in range(2)]
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying is False
    assert await status.running("nothing", "nothing") is False
