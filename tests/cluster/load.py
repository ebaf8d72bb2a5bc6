"""Traffic that keeps book of what was acknowledged."""

import threading
import time
from collections import Counter

import httpx

from tests.cluster.conftest import RunningService, photo


class Load:
    """Uploads and extracts new pictures until told to stop; remembers what was acknowledged."""

    def __init__(self, service: RunningService, first_seed: int, threads: int = 4) -> None:
        self.acknowledged: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.broken = 0
        self._service = service
        self._seeds = iter(range(first_seed, first_seed + 100_000))
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with self._service.client() as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/api/v1/upload-media", files={"file": ("a.jpg", photo(next(self._seeds)))})
                    self.statuses[answer.status_code] += 1
                    if answer.status_code == 200:
                        asset_id = answer.json()["asset_id"]
                        self.acknowledged.append(asset_id)
                        answer = client.post("/api/v1/extract-features", json={"asset_id": asset_id})
                        self.statuses[answer.status_code] += 1
                except httpx.TransportError:
                    self.broken += 1
                    time.sleep(0.1)


def all_there(client: httpx.Client, asset_ids: list[str]) -> bool:
    return all(client.get(f"/api/v1/media/{asset_id}").status_code == 200 for asset_id in asset_ids)
