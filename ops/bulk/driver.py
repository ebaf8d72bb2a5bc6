"""From a SOURCE to a report: connects to Ray, plans, runs, and keeps a job record of the whole run."""

import asyncio
import hashlib
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from configs.settings import Settings, settings
from deployments.serving.catalog import AnyStage, find_stage
from deployments.serving.handle import AnyHandle, StageHandle
from graphs.indexing.people import PeopleModels
from graphs.indexing.shots import ShotModels
from graphs.jobs.run import JobContext, JobRun, LeaseLost, Timing
from graphs.web.context import Context
from graphs.web.gateway import open_context
from ops.bulk.actors import Models
from ops.bulk.plan import Options, Plan, planned, stage_configs
from ops.bulk.report import Report
from ops.bulk.run import BulkRun, Watcher
from ops.bulk.sources import Item, items_of
from ops.cluster import ClusterError, default_config, free_port, inherited_environment
from stores.jobs import Job, Json
from vision.errors import ModelNotLoaded

KIND: Final = "bulk-index"
LOCAL: Final = "local"
NICENESS: Final = 10
"""Added to that of the workers of somebody else's cluster, so that who serves people goes first."""
TELL_S: Final = 0.5
EMBEDDED: Final = ("file:///", "sqlite:///")


class AlreadyRunning(Exception):
    """Another run indexes the same source; the message says which."""


def connect() -> bool:
    """Connect to the Ray cluster that this process belongs to or that runs here, else start one; whether it did.

    ``RAY_ADDRESS=local`` has one started in any case.
    """
    import ray

    # Embedded stores are named by a relative path otherwise, and workers run elsewhere.
    os.environ["VISION_HOME"] = str(settings().home.resolve())
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if os.environ.get("RAY_ADDRESS") != LOCAL:
        try:
            ray.init(address="auto", **options)
        except ConnectionError:
            pass
        else:
            return False
    port = free_port(8265)
    ray.init(address=LOCAL, include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=port, **options)
    return True


def check_stores(config: Settings, nodes: int) -> None:
    """Raises ClusterError where workers of other nodes would not find the stores."""
    urls = {"VISION_OBJECTS_URL": config.objects, "VISION_DOCUMENTS_URL": config.documents}
    embedded = [name for name, url in urls.items() if url.startswith(EMBEDDED)]
    if nodes > 1 and embedded:
        raise ClusterError(
            f"This cluster has {nodes} nodes, and embedded stores are on one machine only: set "
            f"{' and '.join(embedded)} to stores that all nodes reach (s3://…, mongodb://…)."
        )


def index(
    sources: Sequence[str],
    options: Options,
    watcher: Watcher,
    *,
    config: Path | None = None,
    find: Callable[[str], AnyStage] = find_stage,
    timing: Timing | None = None,
) -> Report:
    """Index what the sources name; blocks until that is done, or the process is told to stop (SIGINT, SIGTERM).

    Raises SourceError, PlanError, ClusterError, PipelineBroken, AlreadyRunning, StageError and StoreError.
    """
    items = items_of(sources)
    watcher.says(f"{len(items)} files; Ray …")
    started_here = connect()
    import ray

    try:
        check_stores(settings(), len([node for node in ray.nodes() if node["Alive"]]))
        plan = planned(ray.cluster_resources(), options)
        niceness = 0 if started_here else NICENESS
        models = Models(find, stage_configs(config or default_config()), niceness=niceness)
        environment = {} if started_here else {"env_vars": inherited_environment()}
        return asyncio.run(_run(sources, items, plan, models, environment, watcher, timing))
    finally:
        ray.shutdown()


async def _run(
    sources: Sequence[str],
    items: Sequence[Item],
    plan: Plan,
    models: Models,
    environment: dict[str, Any],
    watcher: Watcher,
    timing: Timing | None,
) -> Report:
    from ops.bulk.pipeline import FinisherPool, RayPipeline

    stopping = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    watcher.says(
        f"{plan.decoders} decoders, {plan.lookers} for faces and camera, {plan.cutters} for cuts, {plan.finishers} to "
        f"finish; {plan.cpus:g} CPUs each"
    )
    finishers = FinisherPool(plan, models, environment)
    infos = await finishers.infos()
    async with _context(infos) as context:
        # Says why, if a model is not there, before anything is claimed.
        await asyncio.gather(PeopleModels.of(context), ShotModels.of(context))
        versions = {key: str(info["model_version"]) for key, info in infos.items() if "model_version" in info}
        pipeline = RayPipeline(plan, replace(models, versions=versions), environment)
        run = BulkRun(context, items, pipeline, finishers, watcher, timing)
        report = await recorded(context, sources, run, stopping, timing)
    return replace(report, sources=tuple(sources))


async def recorded(
    context: Context, sources: Sequence[str], run: BulkRun, stopping: asyncio.Event, timing: Timing | None = None
) -> Report:
    """Run with a job record of its own, in which its progress is seen and by which it can be cancelled.

    Raises AlreadyRunning, and what ``BulkRun.run`` does.
    """
    timing = timing or Timing()
    reports: list[Report] = []
    failures: list[BaseException] = []

    async def work(job: JobContext) -> Json:
        telling = asyncio.create_task(_tell(job, run))
        try:
            reports.append(await run.run(stopping))
        except Exception as error:
            failures.append(error)
            raise
        finally:
            telling.cancel()
        if stopping.is_set() and reports[0].counts.get("unfinished"):
            raise LeaseLost("the run was stopped; its record is for the one that goes on")
        return {"counts": reports[0].counts, **reports[0].totals}

    job, worker, asked_at = await _claimed(context, sources, timing)
    # Its own event: the run gives its jobs back first, and then comes to its end.
    await JobRun(context.jobs, job, work, worker, asked_at, timing).run(asyncio.Event())
    if failures:
        raise failures[0]
    return reports[0] if reports else run.report()


async def _tell(job: JobContext, run: BulkRun) -> None:
    while True:
        job.progress(*run.share)
        await asyncio.sleep(TELL_S)


async def _claimed(context: Context, sources: Sequence[str], timing: Timing) -> tuple[Job, str, float]:
    """The record of this run: a new one, or that of a run of the same sources that was killed."""
    # Places on this machine are nobody's business who may read jobs.
    subject = hashlib.sha256("\0".join(sources).encode()).hexdigest()[:32]
    lease_over: Any = None
    while True:
        latest = next(iter(await context.jobs.list(kind=KIND, subject=subject, limit=1)), None)
        if latest is None or latest.finished:
            since = "" if latest is None else latest.job_id
            latest = await context.jobs.submit(KIND, subject, f"{subject} {since}", {"sources": len(sources)})
        worker, asked_at = f"bulk-{uuid.uuid4().hex}", time.monotonic()
        job = await context.jobs.claim_job(latest.job_id, worker, timing.lease_s)
        if job is not None:
            return job, worker, asked_at
        if lease_over is not None and latest.lease_until is not None and latest.lease_until > lease_over:
            raise AlreadyRunning(
                f"Another run indexes the same source; see or cancel it at /api/v1/jobs/{latest.job_id}."
            )
        lease_over = lease_over or latest.lease_until
        await asyncio.sleep(timing.heartbeat_s / 2)


@asynccontextmanager
async def _context(infos: Mapping[str, dict[str, Any]]) -> AsyncIterator[Context]:
    """Stores, and stages that only say which models there are: those of the workers."""

    def known(key: str, info: dict[str, Any]) -> AnyHandle:
        async def call(items: list[Any], _: float | None) -> list[Any]:
            return [ModelNotLoaded(info.get("error", f"{key} does not run here.")) for _ in items]

        async def told() -> dict[str, Any]:
            return info

        return StageHandle(key, call, told)

    context = open_context(settings(), {key: known(key, info) for key, info in infos.items()})
    try:
        yield context
    finally:
        await context.close()
