"""Killed proxies, caches and supervisors: clients see errors that they can read, and nothing acknowledged is lost."""

import asyncio

import pytest

from tests.cluster.conftest import RunningService
from tests.cluster.faults.kills import kill
from tests.cluster.faults.observe import observe


@pytest.mark.parametrize("what", ["HAProxy", "Valkey", "Serve controller"])
def test_a_killed_process_comes_back_by_itself(running: RunningService, what: str) -> None:
    seen = asyncio.run(observe(running.port, what, kill(running, what)))
    assert seen.lost == 0
    assert seen.plain == 0, seen.fates
    assert set(seen.fates) <= {"200", "429", "503", "reset", "refused", "closed"}, seen.fates
    assert seen.first_s < 60
