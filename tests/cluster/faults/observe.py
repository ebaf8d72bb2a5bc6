"""A fault under a steady load of mixed requests: what clients see of it, what is lost, and when it is over."""

import asyncio
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ops.bench.load import json_request, upload_request
from tests.cluster.conftest import photo
from tests.cluster.faults.clients import Outcome, ask, fates, get

PAUSE_S = 0.1
QUIET_S = 5.0
"""A fault is over when no request has failed for this long."""
GIVE_UP_S = 90.0

_seeds = itertools.count(50_000)


class Load:
    """Four clients, of which each asks for one thing again and again: an upload, its features, a picture's quality, a
    record. ``acknowledged`` are the ids of all uploads that were answered with 200.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.outcomes: list[Outcome] = []
        self.acknowledged: list[str] = []
        self._photos = [photo(next(_seeds)) for _ in range(8)]
        self._rng = random.Random(7)
        self._fresh: asyncio.Queue[str] = asyncio.Queue()

    async def first(self) -> None:
        """Upload until one is acknowledged, so that the others have something to ask for."""
        while not self.acknowledged:
            await self.upload()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the clients until the block ends."""
        await self.first()
        tasks = [
            asyncio.create_task(self._again(each)) for each in (self.upload, self.features, self.quality, self.record)
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _again(self, request: Callable[[], Awaitable[None]]) -> None:
        while True:
            await request()
            await asyncio.sleep(PAUSE_S)

    async def upload(self) -> None:
        """Upload a picture that nobody has."""
        # Bytes behind the end of a picture make another file of it, at no cost to this client.
        data = self._rng.choice(self._photos) + self._rng.randbytes(16)
        outcome = await self._ask("upload", upload_request("/api/v1/upload-media", "a.jpg", data, self.port))
        if outcome.fate == "200":
            asset_id = str(json.loads(outcome.body)["asset_id"])
            self.acknowledged.append(asset_id)
            self._fresh.put_nowait(asset_id)

    async def features(self) -> None:
        """Extract the features of an upload that has none yet."""
        asset_id = await self._fresh.get()
        await self._ask("features", json_request("/api/v1/extract-features", {"asset_id": asset_id}, self.port))

    async def quality(self) -> None:
        """Judge the quality of an upload."""
        body = {"asset_id": self._rng.choice(self.acknowledged)}
        await self._ask("quality", json_request("/api/v1/analyze-quality", body, self.port))

    async def record(self) -> None:
        """Read the record of an upload."""
        await self._ask("record", get(f"/api/v1/media/{self._rng.choice(self.acknowledged)}"))

    async def _ask(self, kind: str, request: bytes) -> Outcome:
        outcome = await ask(self.port, kind, request)
        self.outcomes.append(outcome)
        return outcome

    async def lost(self) -> list[str]:
        """The acknowledged uploads that are not there any more."""
        missing = []
        for asset_id in self.acknowledged:
            for _ in range(20):
                outcome = await ask(self.port, "record", get(f"/api/v1/media/{asset_id}"))
                if outcome.fate in {"200", "404"}:
                    break
                await asyncio.sleep(0.5)
            if outcome.fate != "200":
                missing.append(asset_id)
        return missing


@dataclass(slots=True)
class Seen:
    """What a fault did. ``fates`` counts the requests from the fault on, as ``clients.Outcome`` names them.

    Seconds are counted from the fault: ``first_s`` until there was an answer of status 200 to a request of every kind
    that was sent after the first failure, ``steady_s`` until the last request that failed had ended (0: none did).
    """

    fault: str
    fates: Counter[str]
    worst_s: float
    first_s: float
    steady_s: float
    acknowledged: int
    lost: int
    note: str = ""
    plain: int = 0
    """5xx without a JSON body, and 429 or 503 without Retry-After."""
    ok: bool = True
    outcomes: list[Outcome] = field(default_factory=list, repr=False)


async def observe(
    port: int,
    name: str,
    fault: Callable[[], Awaitable[str | None]],
    *,
    before_s: float = 2.0,
    quiet_s: float = QUIET_S,
    give_up_s: float = GIVE_UP_S,
) -> Seen:
    """Let a fault happen under load, and wait until nothing has failed for ``quiet_s`` seconds.

    What ``fault`` returns is the note of the result.
    """
    loop = asyncio.get_running_loop()
    load = Load(port)
    async with load.running():
        await asyncio.sleep(before_s)
        at = loop.time()
        note = await fault()
        ended = loop.time()
        while loop.time() < at + give_up_s:
            await asyncio.sleep(0.2)
            after = [outcome for outcome in load.outcomes if outcome.at + outcome.seconds >= at]
            bad = [outcome.at + outcome.seconds for outcome in after if outcome.fate != "200"]
            if loop.time() > max([ended, *bad]) + quiet_s and len(_first(after, min(bad, default=at))) == 4:
                break
    after = [outcome for outcome in load.outcomes if outcome.at + outcome.seconds >= at]
    bad = [outcome.at + outcome.seconds for outcome in after if outcome.fate != "200"]
    firsts = _first(after, min(bad, default=at))
    lost = await load.lost()
    return Seen(
        name,
        fates(after),
        max(outcome.seconds for outcome in after),
        max(firsts.values()) - at if len(firsts) == 4 else math.inf,
        max(bad, default=at) - at,
        len(load.acknowledged),
        len(lost),
        note or "",
        plain=len(unfit(after)),
        outcomes=after,
    )


def unfit(outcomes: list[Outcome]) -> list[Outcome]:
    """Errors that a client cannot read: 5xx without JSON, 429 and 503 that do not say when to come again."""
    return [
        outcome
        for outcome in outcomes
        if (outcome.fate.startswith("5") and not outcome.content_type.startswith("application/json"))
        or (outcome.fate in {"429", "503"} and outcome.retry_after is None)
    ]


def _first(outcomes: list[Outcome], at: float) -> dict[str, float]:
    """When the first request of each kind that was sent after ``at`` was answered with 200."""
    ends: dict[str, float] = {}
    for outcome in outcomes:
        if outcome.fate == "200" and outcome.at >= at:
            ends.setdefault(outcome.kind, outcome.at + outcome.seconds)
    return ends
