"""kill -9 of a replica loses no acknowledged upload, and the service comes back by itself."""

import os
import signal

import httpx

from tests.cluster.conftest import RunningService, photo, upload
from tests.cluster.load import Load, all_there
from tests.waiting import wait_for


def test_a_killed_stage_replica_costs_no_upload_and_only_503_or_429(
    running: RunningService, client: httpx.Client
) -> None:
    with Load(running, 10_000) as load:
        wait_for(lambda: len(load.acknowledged) >= 10)
        for replica in running.processes("ray::ServeReplica:models"):
            os.kill(replica.pid, signal.SIGKILL)
        before = len(load.acknowledged)
        wait_for(lambda: len(load.acknowledged) >= before + 10)
        probe = upload(client, photo(9_999))
        wait_for(lambda: client.post("/api/v1/extract-features", json={"asset_id": probe}).status_code == 200)
    assert load.broken == 0
    assert set(load.statuses) <= {200, 429, 503}, load.statuses
    assert all_there(client, load.acknowledged)


def test_a_killed_gateway_costs_no_acknowledged_upload(running: RunningService, client: httpx.Client) -> None:
    with Load(running, 200_000) as load:
        wait_for(lambda: len(load.acknowledged) >= 10)
        for replica in running.processes("ray::ServeReplica:gateway"):
            os.kill(replica.pid, signal.SIGKILL)
        before = len(load.acknowledged)
        wait_for(lambda: len(load.acknowledged) >= before + 10)
    with running.client() as fresh:
        assert all_there(fresh, load.acknowledged)
