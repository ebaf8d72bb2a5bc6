"""Removes what is older than the settings keep it: assets, face traces, identities, jobs, entries of the audit trail.

It is a job that workers submit for every hour, all of them the same one, so a sweep has the lease, checkpoint and
cancelling of any job. A batch that was cut off is done again. Assets go the way of every delete (``stores.deletion``);
what a job works on, or waits to work on, is left for the next sweep.

Each asset, index of a video and identity has an entry in the audit trail; jobs and entries have one for each batch of
them, which follows their removal at once.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from configs.settings import Settings
from deployments.embed.dinov3 import DINOV3
from graphs.indexing.people import remove_pictures
from graphs.indexing.shot_tags import tag_stored_shots
from graphs.jobs.kinds import JobKind
from graphs.jobs.runner import JobContext
from graphs.web.context import Context
from stores.audit import new_entry
from stores.cache import features_key
from stores.deletion import Removed, delete_asset
from stores.jobs import UNFINISHED, JobStatus, Json
from stores.people import Identity
from stores.records import Asset
from stores.uploads import ANYONE
from vision.errors import StageError

logger = logging.getLogger("ray.serve")

RETENTION: Final = "retention"
BATCH: Final = 50
"""Assets, videos or identities between two checkpoints."""
ROWS: Final = 1000
"""Jobs or entries of the audit trail that are removed in one step."""
SWEEPS_KEPT: Final = timedelta(days=7)
"""How long jobs of this kind are kept, where others are not removed before."""
ACCOUNTING: Final = timedelta(minutes=10)
"""How long flagging a batch may take before its worker is thought dead and its owners' sums are counted again."""
CUT_SHORT: Final[tuple[JobStatus, ...]] = ("failed", "cancelled")
CLOCKS: Final = timedelta(hours=1)
"""By which the clocks of two workers differ at most."""


def is_wanted(settings: Settings) -> bool:
    """Return whether anything is ever removed for its age."""
    days = (settings.keep_assets_days, settings.keep_traces_days, settings.keep_jobs_days, settings.keep_audit_days)
    return any(days)


async def sweep(context: Context, job: JobContext) -> Json:
    """Remove what is too old, counted from when the job was submitted; return how much of everything.

    ``left`` are assets and videos that jobs work on. Raises StoreError.
    """
    if await _follows_another(context, job):
        return {"skipped": "An earlier sweep has not ended yet; it removes the same."}
    return await _Sweep(context, job).run()


async def _follows_another(context: Context, job: JobContext) -> bool:
    lists = [await context.jobs.list(kind=RETENTION, status=status) for status in UNFINISHED]
    return any(other.subject < job.subject for others in lists for other in others)


class _Sweep:
    """One attempt at a sweep.

    Its checkpoint is a step, behind which id that goes on, the ids that are being removed, and counts.
    """

    def __init__(self, context: Context, job: JobContext) -> None:
        self._context, self._job = context, job
        self._stores = context.stores
        self._now = datetime.fromisoformat(job.payload["at"])
        self._step: str = job.checkpoint.get("step", "")
        self._after: str = job.checkpoint.get("after", "")
        self._batch: list[str] = job.checkpoint.get("batch", [])
        self._counts: dict[str, int] = dict(job.checkpoint.get("counts", {}))
        self._days = 0

    async def run(self) -> Json:
        """Do all steps, from that of the checkpoint on."""
        settings = self._context.settings
        steps: dict[str, tuple[int, Callable[[datetime], Awaitable[None]]]] = {
            "assets": (settings.keep_assets_days, self._remove_assets),
            "traces": (settings.keep_traces_days, self._remove_traces),
            "identities": (settings.keep_traces_days, self._remove_identities),
            "jobs": (settings.keep_jobs_days, self._remove_jobs),
            "audit": (settings.keep_audit_days, self._remove_entries),
        }
        names = list(steps)
        start = names.index(self._step) if self._step in steps else 0
        for number, name in enumerate(names[start:], start):
            self._days, remove = steps[name]
            if name != self._step:
                self._step, self._after, self._batch = name, "", []
            self._job.progress(number / len(steps), f"Removing old {name}")
            if self._days:
                await remove(self._now - timedelta(days=self._days))
        await self._save("")
        await self._remove_sweeps()
        return dict(self._counts)

    async def _remove_assets(self, before: datetime) -> None:
        known = await self._stores.documents.get_assets(self._batch)
        await self._forget([each for each in self._batch if each not in known])
        await self._record_lost("assets", [each for each in self._batch if each not in known])
        while page := await self._stores.documents.old_assets(before, self._after, BATCH):
            idle = [asset for asset in page if not await self._is_busy(asset.asset_id)]
            flagged = await self._flag(idle, before)
            await self._save(self._after, flagged)
            for asset_id in flagged:
                removed = Removed()
                await delete_asset(self._stores, asset_id, removed)
                counts = removed.counts()
                await self._record(asset_id, removed={name: counts[name] for name in ("objects", "documents", "jobs")})
                self._count(assets=1, **counts)
            await self._forget(flagged)
            self._count(left=len(page) - len(idle))
            await self._save(page[-1].asset_id)

    async def _flag(self, assets: Sequence[Asset], before: datetime) -> list[str]:
        """Flag assets as being deleted, unless they were uploaded once more; return the ids of those that are flagged.

        Their owners have less stored then, which is counted when it is asked for next.
        """
        usage = self._stores.usage
        uploads = [upload for asset in assets for upload in asset.uploads if not upload.withdrawn]
        owners = {upload.owner for upload in uploads} - {ANYONE}
        holds = {owner: await usage.mark_change(owner, ACCOUNTING) for owner in owners}
        try:
            expire = self._stores.documents.expire_asset
            return [asset.asset_id for asset in assets if await expire(asset.asset_id, before)]
        finally:
            for owner, hold in holds.items():
                if hold is not None:
                    await usage.settle(owner, hold, None)

    async def _forget(self, asset_ids: Sequence[str]) -> None:
        """Remove deleted assets from the vector store and the cache."""
        if not asset_ids:
            return
        self._count(vectors=await self._stores.vectors.remove_all(asset_ids))
        try:
            info = await self._context.stage(DINOV3).info()
        except StageError as error:
            logger.info("deleted assets stay in the cache until they expire there: %s", error.code)
            return
        if version := str(info.get("model_version", "")):
            keys = [features_key(version, each) for each in asset_ids]
            cached = sum(each is not None for each in await self._stores.cache.get_many(keys))
            self._count(cache=cached if await self._stores.cache.delete(keys) else 0)

    async def _remove_traces(self, before: datetime) -> None:
        people, objects = self._stores.people, self._stores.objects
        gone = [each for each in self._batch if await people.get_index(each) is None]
        for asset_id in gone:
            await people.delete_index(asset_id)  # traces may be left of one that was cut off
            await tag_stored_shots(self._context, asset_id)
        await self._record_lost("videos", gone)
        while page := await people.old_indexes(before, self._after, BATCH):
            idle = [asset_id for asset_id in page if not await self._is_busy(asset_id)]
            await self._save(self._after, idle)
            for asset_id in idle:
                index = await people.get_index(asset_id)
                if index is None or index.indexed_at >= before:
                    continue  # its job ended only now
                pictures = await remove_pictures(objects, asset_id)
                records = await people.delete_index(asset_id)
                pictures += await remove_pictures(objects, asset_id)  # one that was made meanwhile
                await tag_stored_shots(self._context, asset_id)
                await self._record(asset_id, removed={"objects": pictures, "documents": records})
                self._count(videos=1, traces=records - 1 - index.object_count, objects=pictures, documents=records)
            self._count(left=len(page) - len(idle))
            await self._save(page[-1])

    async def _remove_identities(self, before: datetime) -> None:
        people = self._stores.people
        known = await people.get_identities(self._batch)
        await self._record_lost("identities", [each for each in self._batch if each not in known])
        while page := await people.list_identities(after=self._after, limit=BATCH):
            old = [each.identity_uuid for each in page if _is_nobody(each) and each.created_at < before]
            used = await people.longest_traces(old) if old else {}
            unused = [each for each in old if each not in used]
            if unused:
                await self._save(self._after, unused)
            for identity_uuid in unused:
                if await people.delete_identity(identity_uuid):
                    await self._record(identity_uuid, removed={"documents": 1})
                    self._count(identities=1, documents=1)
            self._after = page[-1].identity_uuid
            if unused:
                await self._save(self._after)

    async def _remove_jobs(self, before: datetime) -> None:
        while count := await self._stores.jobs.delete_finished(before, ROWS):
            await self._record("", removed={"jobs": count})
            self._count(jobs=count)
            await self._save("")

    async def _remove_entries(self, before: datetime) -> None:
        while count := await self._stores.audit.delete_before(before, ROWS):
            await self._record("", removed={"entries": count})
            self._count(entries=count)
            await self._save("")

    async def _remove_sweeps(self) -> None:
        """Remove records of earlier sweeps; checkpoints of those that were cut short name what is no more."""
        jobs = self._stores.jobs
        for status in CUT_SHORT:
            for job in await jobs.list(kind=RETENTION, status=status):
                if job.subject < self._job.subject:
                    await jobs.forget(job.subject)
        await jobs.delete_finished(self._now - SWEEPS_KEPT, ROWS, RETENTION)

    async def _is_busy(self, asset_id: str) -> bool:
        for status in UNFINISHED:
            if await self._stores.jobs.list(subject=asset_id, status=status, limit=1):
                return True
        return False

    async def _record_lost(self, name: str, object_ids: Sequence[str]) -> None:
        """Record what an attempt that was killed has removed and not recorded any more; nobody knows its counts."""
        for object_id in object_ids:
            since = self._now - CLOCKS
            if not await self._stores.audit.list(object_id=object_id, key=RETENTION, since=since, limit=1):
                await self._record(object_id)
            self._count(**{name: 1})

    async def _record(self, object_id: str, **details: Any) -> None:
        if self._context.settings.audit != "none":
            action = f"{RETENTION} {self._step}"
            facts = {**details, "days": self._days, "job_id": self._job.job_id}
            entry = new_entry(datetime.now(UTC), "", RETENTION, action, object_id, "done", **facts)
            await self._stores.audit.append(entry, reserve=True)

    def _count(self, **amounts: int) -> None:
        for name, amount in amounts.items():
            self._counts[name] = self._counts.get(name, 0) + amount

    async def _save(self, after: str, batch: Sequence[str] = ()) -> None:
        self._after, self._batch = after, list(batch)
        place: Json = {"step": self._step, "after": after, "batch": self._batch, "counts": self._counts}
        await self._job.save(place)


def _is_nobody(identity: Identity) -> bool:
    return not identity.name and not identity.references


JOB_KINDS: Final = (JobKind(RETENTION, sweep, (DINOV3,), hourly=is_wanted),)
