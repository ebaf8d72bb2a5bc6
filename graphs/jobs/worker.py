"""The worker: runs durable jobs, over the stores and stages that the gateway uses."""

from collections.abc import Coroutine
from functools import partial
from typing import Any

from ray import serve
from ray.serve import Application

from configs.settings import settings
from graphs.jobs.kinds import JOB_KINDS
from graphs.jobs.runner import JobRunner
from graphs.web.gateway import GatewayArgs, open_context


class Worker:
    """Serve's deployment class. Nobody calls it: it looks for jobs by itself, from its start to its shutdown."""

    _open = False

    def __init__(self, args: dict[str, Any]) -> None:
        config = settings()
        self._context = open_context(config, GatewayArgs.model_validate(args).handles())
        kinds = {kind: partial(function, self._context) for kind, function in JOB_KINDS.items()}
        self._runner = JobRunner(self._context.jobs, kinds, at_once=config.jobs_at_once)
        self._runner.start()
        self._open = True

    def check_health(self) -> None:
        """Called by Serve; an exception has the replica replaced."""
        self._runner.check_health()

    async def stop(self) -> None:
        """Give back what runs and take nothing more; for whoever is about to kill this process."""
        await self._runner.stop()

    def __del__(self) -> Coroutine[Any, Any, None] | None:
        # Serve calls this at an orderly shutdown and awaits what it gets; Python calls it once more.
        if not self._open:
            return None
        self._open = False
        return self._close()

    async def _close(self) -> None:
        await self.stop()
        await self._context.close()


def worker(args: dict[str, Any]) -> Application:
    """Serve's builder for the routeless worker application (``import_path: graphs.jobs.worker:worker``)."""
    GatewayArgs.model_validate(args).needed()
    return serve.deployment(Worker).options(name="worker").bind(args)
