"""kill -9 of everything at once loses no acknowledged upload."""

import os
import signal

from tests.cluster.conftest import RunningService, start
from tests.cluster.load import Load, all_there
from tests.waiting import wait_for


def test_killing_every_process_costs_no_acknowledged_upload(running: RunningService) -> None:
    with Load(running, 400_000, threads=2) as load:
        wait_for(lambda: len(load.acknowledged) >= 20)
        everything = [*running.processes(""), running.process]
        running.killed = True
        for process in everything:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    running.process.wait()
    again = start(running.home, running.log.with_name("again.log"))
    try:
        with again.client() as client:
            assert all_there(client, load.acknowledged)
            picture = client.get(f"/api/v1/media/{load.acknowledged[-1]}/content")
            assert picture.status_code == 200
            assert picture.headers["content-type"] == "image/jpeg"
    finally:
        assert again.stop() == 0
