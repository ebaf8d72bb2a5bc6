"""A service whose metrics Ray's agent shows: dummies in the process of a driver, jobs, and nothing else.

``python -m tests.cases.monitored METRICS_PORT`` prints the port of its API when it serves, and ends with its input.
"""

import asyncio
import sys
from itertools import count

import ray

from configs.settings import settings
from deployments.analysis.clusters import Clusterer
from deployments.analysis.groups import Grouper
from deployments.quality.blur import BlurDetector
from deployments.quality.composition import CompositionAnalyzer
from deployments.quality.exposure import ExposureAnalyzer
from deployments.serving import metrics
from deployments.serving.catalog import CallLimits, _handle_of
from deployments.serving.handle import AnyHandle
from deployments.serving.metrics import StageMetrics, publish_regularly
from deployments.serving.runner import StageRunner
from graphs.jobs.runner import JobContext, JobRunner
from graphs.web.gateway import build_app, open_context
from stores.jobs import Json
from tests.dummies import DummyEmbed, LocalNearest
from tests.dummies.people import DummyIdentity
from tests.dummies.photos import STATELESS, DummyDescribe, DummyNima
from tests.graphs.harness import listening

STAGES = (
    *(DummyEmbed, LocalNearest, DummyNima, DummyDescribe, DummyIdentity, Clusterer, Grouper, BlurDetector),
    *(ExposureAnalyzer, CompositionAnalyzer, *STATELESS),
)


async def index(job: JobContext) -> Json:
    """Look at frames, as indexing a video does."""
    for _ in range(4):
        job.looked_at(25)
        await asyncio.sleep(0.05)
    return {}


async def serve() -> None:
    recorder = StageMetrics()
    runners = [StageRunner(stage, recorder) for stage in STAGES]
    for runner in runners:
        await runner.configure({})

    async def publish() -> None:
        for runner in runners:
            recorder.state(runner.info())

    handles: dict[str, AnyHandle] = {runner.key: _handle_of(runner, CallLimits()) for runner in runners}
    context = open_context(settings(), handles)
    app = build_app(context, ["assets", "photos"])
    jobs = JobRunner(context.jobs, {"index-video": index}, poll_s=(0.05, 0.1))

    async def submit() -> None:
        for number in count():
            await context.jobs.submit("index-video", f"film {number}", str(number), {})
            await asyncio.sleep(0.2)

    async with app.router.lifespan_context(app), listening(app) as port:
        tasks: list[asyncio.Task[None]] = [
            asyncio.create_task(submit()),
            asyncio.create_task(publish_regularly(publish)),
        ]
        jobs.start()
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
        await jobs.stop()


if __name__ == "__main__":
    metrics.PUBLISH_S = 0.5  # type: ignore[misc]
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        _metrics_export_port=int(sys.argv[1]),
        _temp_dir=sys.argv[2],
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level="error",
    )
    asyncio.run(serve())
