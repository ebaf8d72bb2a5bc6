"""Runs durable jobs of a store: claims them one by one and sees each attempt to its end.

What becomes of a job whose function

- returns: it succeeded, with that result;
- raises a StageError that passes by itself (``retryable``), or anything unforeseen: it is queued again, to be tried
  after a pause, or failed when that was its last attempt;
- raises another StageError: it failed at once with that message, as the same input would fail again;
- is stopped because the job was cancelled: it is cancelled;
- is stopped because this process ends: it is queued again, and the attempt is not counted;
- is stopped because the lease is lost: nothing more is written from here.

A process that dies writes nothing at all: its leases run out, and the next claim goes on from the checkpoint. So what a
function does must bear being done again since its last checkpoint. ``stores/jobs.py`` has all the states.
"""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Mapping
from typing import Final

from graphs.jobs.run import JobContext, JobFunction, JobRun, LeaseLost, Timing
from stores.errors import StoreError
from stores.jobs import JobStore

__all__ = ["JobContext", "JobFunction", "JobRunner", "LeaseLost", "Timing"]

logger = logging.getLogger("ray.serve")

POLL_S: Final = (0.2, 2.0)


class JobRunner:
    """Runs jobs of these kinds, ``at_once`` at a time, from ``start`` to ``stop``.

    ``poll_s`` are pauses between looks for work: after the first one they double up to the second one.
    """

    def __init__(
        self,
        store: JobStore,
        kinds: Mapping[str, JobFunction],
        *,
        at_once: int = 1,
        poll_s: tuple[float, float] = POLL_S,
        timing: Timing | None = None,
    ) -> None:
        self._store = store
        self._kinds = dict(kinds)
        self._at_once = at_once
        self._poll_s = poll_s
        self._timing = timing or Timing()
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._slots: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for work."""
        self._slots = asyncio.create_task(self._run_slots())

    async def stop(self) -> None:
        """Give back what runs, and end."""
        self._stopping.set()
        self._woken.set()
        if self._slots is not None:
            await self._slots

    def wake(self) -> None:
        """Look for work now rather than at the next poll."""
        self._woken.set()

    def check_health(self) -> None:
        """Raise when no more jobs are run here, though nobody asked for that."""
        if self._slots is not None and self._slots.done() and not self._stopping.is_set():
            raise RuntimeError("no more jobs are run here") from self._slots.exception()

    async def _run_slots(self) -> None:
        async with asyncio.TaskGroup() as slots:
            for _ in range(self._at_once):
                slots.create_task(self._run_one_by_one())

    async def _run_one_by_one(self) -> None:
        shortest, longest = self._poll_s
        pause = shortest
        while not self._stopping.is_set():
            try:
                found = await self._claim()
            except StoreError as error:
                logger.warning("cannot look for jobs: %s", error)
                found, pause = None, longest
            if found is not None:
                self._woken.set()  # there may be more, for another slot
                await found.run(self._stopping)
                pause = shortest
            elif await self._woken_within(pause):
                pause = shortest
            else:
                pause = min(2 * pause, longest)

    async def _claim(self) -> JobRun | None:
        # A name for this claim alone: it is the proof of the lease, even against an older one of this process.
        worker, asked_at = f"{self._name}-{uuid.uuid4().hex[:12]}", time.monotonic()
        job = await self._store.claim(worker, self._kinds, self._timing.lease_s)
        if job is None:
            return None
        return JobRun(self._store, job, self._kinds[job.kind], worker, asked_at, self._timing)

    async def _woken_within(self, pause: float) -> bool:
        if self._stopping.is_set():
            return True
        try:
            async with asyncio.timeout(pause):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True
