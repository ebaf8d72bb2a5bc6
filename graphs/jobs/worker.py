"""The worker: runs durable jobs and tells webhooks of their ends, over the same stores and stages as the gateway."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from ray.serve import Application

from configs.settings import settings
from deployments.serving.catalog import LocalStages
from deployments.serving.metrics import publish_regularly
from deployments.serving.nodes import check_stores, start_on_node
from graphs.jobs.kinds import find_job_kinds, submit_hourly
from graphs.jobs.runner import JobRunner
from graphs.jobs.webhooks.outbox import Outbox
from graphs.web.gateway import CallerArgs, deployment_of, open_context
from graphs.web.metrics import CallMetrics


class WorkerArgs(CallerArgs):
    """``args`` of the worker application."""

    def needed(self) -> list[str]:
        """Return the key of every stage that a kind of job calls."""
        return list(dict.fromkeys(ref.key for kind in find_job_kinds().values() for ref in kind.stages))


class Worker(LocalStages):
    """Serve's deployment class, and the process of the stages that run in it.

    Nobody asks it for a job: it polls for them from its start to its shutdown.
    """

    _open = False

    def __init__(self, args: dict[str, Any]) -> None:
        start_on_node()
        config = settings()
        worker_args = WorkerArgs.model_validate(args)
        super().__init__(worker_args.here)
        self._context = open_context(config, worker_args.handles(self))
        kinds = {name: partial(kind.function, self._context) for name, kind in find_job_kinds().items()}
        self._jobs = JobRunner(self._context.jobs, kinds, at_once=config.jobs_at_once)
        self._jobs.start()
        self._outbox = Outbox(self._context)
        self._outbox.start()
        hourly = [kind.name for kind in find_job_kinds().values() if kind.hourly is not None and kind.hourly(config)]
        self._hourly = asyncio.create_task(submit_hourly(self._context.jobs, hourly)) if hourly else None
        self._calls = asyncio.create_task(publish_regularly(CallMetrics(self._context.stages).publish))
        self._open = True

    def check_health(self) -> None:
        """Raise when the replica should be replaced; Serve calls this."""
        super().check_health()
        self._jobs.check_health()
        self._outbox.check_health()
        if self._hourly is not None and self._hourly.done() and not self._hourly.cancelled():
            raise RuntimeError("the jobs of the hour are not submitted any more") from self._hourly.exception()

    async def stop(self) -> None:
        """Release what runs, claim no more, send the last spans; call this before killing the process."""
        if self._hourly is not None:
            self._hourly.cancel()
        await asyncio.gather(self._jobs.stop(), self._outbox.stop())
        await self.send_spans()

    def __del__(self) -> Coroutine[Any, Any, None] | None:
        # Serve calls this at an orderly shutdown and awaits its result; Python calls it once more.
        if not self._open:
            return None
        self._open = False
        return self._close()

    async def _close(self) -> None:
        await self.stop()
        self._calls.cancel()
        await self._context.close()


def worker(args: dict[str, Any]) -> Application:
    """Build the routeless worker application for Serve (``import_path: graphs.jobs.worker:worker``)."""
    worker_args = WorkerArgs.model_validate(args)
    check_stores()
    return deployment_of(Worker, "worker", worker_args).bind(args)
