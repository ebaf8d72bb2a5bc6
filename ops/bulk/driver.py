"""Index what SOURCEs name on a Ray cluster: connect, plan, run, and keep a job record of the whole run."""

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
from typing import TYPE_CHECKING, Any, Final

from configs.settings import settings
from deployments.objects.detector import OBJECTS
from deployments.serving.catalog import AnyStage, find_stage
from deployments.serving.handle import AnyHandle, StageHandle
from deployments.serving.nodes import working_nodes
from graphs.indexing.jobs import BULK_INDEX
from graphs.indexing.people import PeopleModels
from graphs.indexing.shots import ShotModels
from graphs.jobs.runner import JobContext, JobRun, LeaseLost, Timing
from graphs.web.context import Context
from graphs.web.gateway import open_context
from ops.bulk.plan import Options, Plan, make_plan, served_stages, stage_configs
from ops.bulk.report import Report
from ops.bulk.run import BulkRun, Monitor, PipelineBroken
from ops.bulk.sources import Item, find_items
from ops.bulk.workers import StageSetup
from ops.cluster import check_stores, free_port, inherited_environment, join
from ops.plan.choice import default_config
from stores.errors import StoreError
from stores.jobs import Job, Json
from vision.errors import ModelNotLoaded, ProcessingFailed, StageError

if TYPE_CHECKING:
    from ops.bulk.pipeline import FinalizerPool

LOCAL: Final = "local"
NICENESS: Final = 10
"""Added to the niceness of workers in a cluster that was running before, so that its service goes first."""
PROGRESS_S: Final = 0.5
WAITING_S: Final = 20.0
"""How long workers may take to start before it is said what they wait for."""


class AlreadyRunning(Exception):
    """Another run indexes the same source; the message says which."""


class Stopped(Exception):
    """The run was stopped before it began any file."""


def connect() -> bool:
    """Connect to the Ray cluster of this process or this machine, else start one; return whether it was started.

    ``RAY_ADDRESS=local`` always starts one.
    """
    import ray

    # The default path of embedded stores is relative, and workers run in other folders.
    os.environ["VISION_HOME"] = str(settings().home.resolve())
    os.environ["VISION_MODELS_FILE"] = str(settings().local_models)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if join(**options) is not None:
        return False
    port = free_port(8265)
    ray.init(address=LOCAL, include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=port, **options)
    return True


def index(
    sources: Sequence[str],
    options: Options,
    monitor: Monitor,
    *,
    config: Path | None = None,
    find: Callable[[str], AnyStage] = find_stage,
    timing: Timing | None = None,
) -> Report:
    """Index what the sources name; block until that is done, or SIGINT or SIGTERM stops it.

    Raises SourceError, PlanError, ClusterError, PipelineBroken, AlreadyRunning, Stopped, StageError and StoreError.
    """
    items = find_items(sources)
    monitor.message(f"{len(items)} files; Ray …")
    started_here = connect()
    import ray

    try:
        cpus = [float(node["Resources"]["CPU"]) for node in working_nodes()]
        check_stores(settings(), len(cpus), ("objects", "documents"))
        path = config or default_config()
        objects = settings().index_objects and OBJECTS.key in served_stages(path)
        plan = make_plan(ray.cluster_resources(), options, max(cpus) if len(cpus) > 1 else 0.0, objects=objects)
        niceness = 0 if started_here else NICENESS
        setup = StageSetup(find, stage_configs(path), niceness=niceness, objects=objects)
        environment = {} if started_here else {"env_vars": inherited_environment(len(cpus))}
        return asyncio.run(_run(sources, items, plan, setup, environment, monitor, timing))
    finally:
        ray.shutdown()


async def _run(
    sources: Sequence[str],
    items: Sequence[Item],
    plan: Plan,
    setup: StageSetup,
    environment: dict[str, Any],
    monitor: Monitor,
    timing: Timing | None,
) -> Report:
    from ops.bulk.pipeline import FinalizerPool, RayPipeline

    stopping = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    for_objects = f"{plan.object_workers} for objects, " if plan.object_workers else ""
    monitor.message(
        f"Workers: {plan.decoders} to decode, {plan.frame_workers} for faces and camera, {for_objects}"
        f"{plan.cut_workers} for cuts, {plan.finalizers} to finalize; {plan.cpus:g} CPUs each"
    )
    finalizers = FinalizerPool(plan, setup, environment)
    infos = await _started(finalizers, stopping, monitor)
    async with _context(infos) as context:
        # Fails with the reason, if a model is missing, before anything is claimed.
        await asyncio.gather(PeopleModels.of(context), ShotModels.of(context))
        detector = infos.get(OBJECTS.key, {"loaded": True})
        if not detector["loaded"]:
            monitor.message(f"Objects are not looked for: {ModelNotLoaded(str(detector['error'])).reason}")
            setup, plan = replace(setup, objects=False), plan.without_objects()
        versions = {key: str(info["model_version"]) for key, info in infos.items() if "model_version" in info}
        pipeline = RayPipeline(plan, replace(setup, versions=versions), environment)
        run = BulkRun(context, items, pipeline, finalizers, monitor, timing)
        report = await recorded(context, sources, run, stopping, timing)
    return replace(report, sources=tuple(sources))


async def _started(finalizers: "FinalizerPool", stopping: asyncio.Event, monitor: Monitor) -> dict[str, dict[str, Any]]:
    """Return the info of each stage once the workers that have them run. Raises Stopped, and as ``infos`` does."""
    import ray

    infos, stop = asyncio.create_task(finalizers.infos()), asyncio.create_task(stopping.wait())
    tasks: set[asyncio.Task[Any]] = {infos, stop}
    try:
        await asyncio.wait(tasks, timeout=WAITING_S, return_when=asyncio.FIRST_COMPLETED)
        if not infos.done() and not stop.done():
            free, all_ = (float(each.get("CPU", 0)) for each in (ray.available_resources(), ray.cluster_resources()))
            monitor.message(f"Waiting for workers to start; {free:g} of {all_:g} CPUs of the cluster are free.")
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if infos.done():
            return infos.result()
        raise Stopped("The run was stopped before its workers had started.")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def recorded(
    context: Context, sources: Sequence[str], run: BulkRun, stopping: asyncio.Event, timing: Timing | None = None
) -> Report:
    """Run with a job record, which shows the progress and can cancel the run.

    The record ends with the run: it succeeded, failed with the reason, or was cancelled when the run was stopped. That
    of a run that is killed fails when its lease is over, by a worker of the service.

    Raises AlreadyRunning, and what ``BulkRun.run`` does.
    """
    timing = timing or Timing()
    reports: list[Report] = []
    failures: list[BaseException] = []

    async def work(job: JobContext) -> Json:
        reporting = asyncio.create_task(_report_progress(job, run))
        try:
            reports.append(await run.run(stopping))
        except Exception as error:
            failures.append(error)
            # Whatever it is: with its run the record ends, and nobody would come back for a queued one.
            raise ProcessingFailed(_reason(error)) from error
        finally:
            reporting.cancel()
        if stopping.is_set() and reports[0].counts.get("unfinished"):
            await context.jobs.cancel(job.job_id)
            raise LeaseLost("the run was stopped")
        return {"counts": reports[0].counts, **reports[0].totals}

    job, worker, asked_at = await _claimed(context, sources, timing)
    # A separate event: the run gives its jobs back before its record ends.
    await JobRun(context.jobs, job, work, worker, asked_at, timing).run(asyncio.Event())
    if failures:
        raise failures[0]
    return reports[0] if reports else run.report()


async def _report_progress(job: JobContext, run: BulkRun) -> None:
    while True:
        job.progress(*run.share)
        await asyncio.sleep(PROGRESS_S)


def _reason(error: Exception) -> str:
    """Return why a run failed, for a person who reads its record."""
    if isinstance(error, StageError | StoreError):
        return error.message
    return str(error) if isinstance(error, PipelineBroken) else f"It failed unexpectedly ({type(error).__name__})."


async def _claimed(context: Context, sources: Sequence[str], timing: Timing) -> tuple[Job, str, float]:
    """Begin the record of this run, or claim that of a killed run of the same sources."""
    # Who may read jobs must not see paths of this machine.
    subject = hashlib.sha256("\0".join(sources).encode()).hexdigest()[:32]
    lease_over: Any = None
    while True:
        latest = next(iter(await context.jobs.list(kind=BULK_INDEX, subject=subject, limit=1)), None)
        worker, asked_at = f"bulk-{uuid.uuid4().hex}", time.monotonic()
        if latest is None or latest.finished:
            since = "" if latest is None else latest.job_id
            payload = {"sources": len(sources)}
            job = await context.jobs.begin(BULK_INDEX, subject, f"{subject} {since}", payload, worker, timing.lease_s)
        else:
            job = await context.jobs.claim_job(latest.job_id, worker, timing.lease_s)
        if job is not None:
            return job, worker, asked_at
        until = None if latest is None else latest.lease_until
        if latest is not None and lease_over is not None and until is not None and until > lease_over:
            raise AlreadyRunning(
                f"Another run indexes the same source; see or cancel it at /api/v1/jobs/{latest.job_id}."
            )
        lease_over = lease_over or until
        await asyncio.sleep(timing.heartbeat_s / 2)


@asynccontextmanager
async def _context(infos: Mapping[str, dict[str, Any]]) -> AsyncIterator[Context]:
    """Yield a context of the stores, and of stages that only report the models of the workers."""

    def info_only(key: str, info: dict[str, Any]) -> AnyHandle:
        async def call(items: list[Any], _: float | None) -> list[Any]:
            return [ModelNotLoaded(info.get("error", f"{key} does not run here.")) for _ in items]

        async def get_info() -> dict[str, Any]:
            return info

        return StageHandle(key, call, get_info)

    context = open_context(settings(), {key: info_only(key, info) for key, info in infos.items()})
    try:
        yield context
    finally:
        await context.close()
