"""The jobs that look through a video: for its people and its shots, or for its shots alone.

The video is decoded once, in order. What was seen is stored part by part, each of some seconds of video, and the
checkpoint counts the parts; so a job whose worker was killed goes on from the last part. Traces, identities and shots
are made at the end from all parts, and readers see the new results whole or not at all.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from graphs.indexing.finishing import VERSION, analysis_version, make, shots_of, store, store_shots
from graphs.indexing.keeping import WATCHED, Keeper, check_asset
from graphs.indexing.models import ShotModels
from graphs.indexing.parts import Parts
from graphs.indexing.passes import GREY_SIDE, LONG_SIDE
from graphs.indexing.serving import Models
from graphs.indexing.shots import ShotMaker
from graphs.indexing.watch import Watch
from graphs.indexing.watching import watch_all
from graphs.jobs.runner import JobContext
from graphs.web.context import Context
from stores.documents import StoreError
from stores.jobs import Job, Json
from stores.objects import ObjectNotFound
from stores.records import Asset
from vision.errors import InvalidInput, StageError, StageUnavailable

KIND: Final = "index-video"
SHOTS_KIND: Final = "analyze-shots"


async def submit(context: Context, asset: Asset) -> Job:
    """The job that indexes this video with the models that serve now; the same one as long as both stay the same."""
    people, shots = await asyncio.gather(Models.of(context), ShotModels.of(context))
    fingerprint = f"{asset.asset_id} {people.version} {shots.version} {LONG_SIDE} {GREY_SIDE} {VERSION}"
    return await context.jobs.submit(
        KIND, asset.asset_id, fingerprint, {"models": people.version, "shot_models": shots.version}
    )


async def submit_shots(context: Context, asset: Asset, threshold: float, models: ShotModels) -> Job:
    """The job that looks for the shots of a video alone; another one when what it found has been replaced since."""
    stored = await context.shots.get_analysis(asset.asset_id)
    since = "" if stored is None else f"{stored.models} {stored.analyzed_at.isoformat()}"
    fingerprint = f"{asset.asset_id} {analysis_version(models, threshold)} {since}"
    payload = {"shot_models": models.version, "threshold": threshold}
    job = await context.jobs.submit(SHOTS_KIND, asset.asset_id, fingerprint, payload)
    if job.status != "succeeded" or await context.shots.get_analysis(asset.asset_id) is not None:
        return job
    # What it found was lost, as when one store was brought back from a copy and the other was not.
    again = f"{fingerprint} {job.finished_at}"
    return await context.jobs.submit(SHOTS_KIND, asset.asset_id, again, payload)


async def index_video(context: Context, job: JobContext) -> Json:
    """Look for people and shots. Raises StageErrors whose message is the reason of the failure."""
    started = time.perf_counter()
    models = await Models.of(context)
    same_models(models.version, job.payload["models"])
    async with _watched(context, job, faces=True) as seen:
        result = await store(context, job.subject, await make(context, seen, job.progress), models)
        return result | {"seconds": round(time.perf_counter() - started, 1)}


async def analyze_shots(context: Context, job: JobContext) -> Json:
    """Look for shots alone. Raises as ``index_video`` does."""
    started = time.perf_counter()
    threshold = float(job.payload["threshold"])
    async with _watched(context, job, faces=False) as seen:
        shots = await shots_of(context, seen, threshold)
        await store_shots(context, job.subject, seen, shots, threshold)
        return {
            "shots": len(shots),
            "frames": len(seen.watch.times),
            "models": seen.models.version,
            "seconds": round(time.perf_counter() - started, 1),
        }


@asynccontextmanager
async def _watched(context: Context, job: JobContext, *, faces: bool) -> AsyncIterator[ShotMaker]:
    """What was found in the whole video, ready to make shots of; taken away at the end."""
    async with parts_of_job(context, job) as parts:
        await check_asset(context, job.subject)
        models = await ShotModels.of(context)
        same_models(models.version, job.payload["shot_models"])
        watch = await Watch.opened(context.objects, job.subject)
        try:
            keeper = Keeper(context, job, parts, len(watch.times), watch.facts.fps)
            await watch_all(context, job, watch, keeper, faces=faces)
        finally:
            await watch.close()
        job.progress(WATCHED, "Choosing keyframes")
        with whole_parts():
            found = await parts.all(keeper.done)
            yield ShotMaker(context, job.subject, watch, found, parts, keeper.span, models, faces=faces)


@asynccontextmanager
async def parts_of_job(context: Context, job: JobContext) -> AsyncIterator[Parts]:
    """What was kept of a job; removed when it is done, and when it will not be gone on with."""
    parts = Parts(context.objects, context.settings.spool, job.subject, job.job_id)
    try:
        yield parts
        await parts.forget()
    except BaseException as error:
        with suppress(StoreError):
            if (isinstance(error, StageError) and not error.retryable) or await _given_up(context, job):
                await parts.forget()
        raise


@contextmanager
def whole_parts() -> Iterator[None]:
    """While parts are read: a lost one is an error that another attempt makes good."""
    try:
        yield
    except ObjectNotFound:
        raise StageUnavailable("A part of what was seen got lost; it is looked at again.") from None


def same_models(now: str, asked: str) -> None:
    """Raises InvalidInput unless both are the same."""
    if now != asked:
        raise InvalidInput("The models were changed since this was asked for; ask for the index again.")


async def _given_up(context: Context, job: JobContext) -> bool:
    record = await context.jobs.get(job.job_id)
    return record is None or record.cancel_requested
