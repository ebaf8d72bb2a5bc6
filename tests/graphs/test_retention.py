"""Retention: what is older than the settings keep it goes, with all that belongs to it, and nothing else does."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from graphs.indexing.objects import objects_folder
from graphs.indexing.people import faces_folder
from graphs.jobs import worker as worker_module
from graphs.jobs.kinds import find_job_kinds, submit_hourly
from graphs.jobs.runner import JobRunner, Timing
from graphs.jobs.worker import Worker
from graphs.retention import jobs as retention
from graphs.retention.jobs import RETENTION
from graphs.web.context import Context
from stores import derived
from stores.audit import AuditEntry, new_entry
from stores.deletion import Removed, delete_asset
from stores.jobs import Job, JobStatus
from stores.mentions import mentions
from stores.shots import ShotFilter
from stores.uploads import Upload
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import picture
from tests.stores.samples import asset_id, make_asset, make_features
from tests.stores.test_people import identity, index, trace
from tests.stores.test_shots import shot
from tests.waiting import PATIENCE_S

NOW = datetime(2026, 6, 1, 12, 34, 56, tzinfo=UTC)
DAY, MICROSECOND = timedelta(days=1), timedelta(microseconds=1)
QUICK = Timing(lease_s=0.3, heartbeat_s=0.05, progress_s=0.02, retry_s=0.01)
KIND = find_job_kinds()[RETENTION]


@asynccontextmanager
async def working(*contexts: Context) -> AsyncIterator[list[JobRunner]]:
    """Workers that sweep while this lasts, one for each context."""
    runners = [
        JobRunner(each.jobs, {RETENTION: partial(KIND.function, each)}, poll_s=(0.01, 0.02), timing=QUICK)
        for each in contexts
    ]
    for runner in runners:
        runner.start()
    yield runners
    for runner in runners:
        await runner.stop()


async def submit(context: Context, hour: str = "2026-06-01T12") -> Job:
    return await context.jobs.submit(RETENTION, hour, hour, {"at": NOW.isoformat()})


async def ended(context: Context, job: Job) -> Job:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            now = await context.jobs.get(job.job_id)
            assert now is not None
            if now.finished:
                return now
            await asyncio.sleep(0.01)


async def submitted(context: Context, status: JobStatus | None = None) -> Sequence[Job]:
    """The sweeps of this status, of which there must come some."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if made := await context.jobs.list(kind=RETENTION, status=status):
                return made
            await asyncio.sleep(0.01)


async def swept(context: Context, hour: str = "2026-06-01T12") -> Mapping[str, Any]:
    """The result of one sweep, which must succeed."""
    async with working(context):
        job = await ended(context, await submit(context, hour))
    assert job.status == "succeeded", job.error
    assert job.result is not None
    return job.result


async def put_assets(context: Context, *uploaded_at: datetime, owner: str = "studio") -> list[str]:
    """Assets with bytes that were uploaded at these times, by their ids."""
    for number, moment in enumerate(uploaded_at):
        await context.documents.insert_asset(replace(make_asset(number), uploaded_at=moment), owner)
        await derived.put(context.objects, context.settings.spool, asset_id(number), b"bytes", "image/jpeg")
    return [asset_id(number) for number in range(len(uploaded_at))]


async def trail(context: Context) -> list[AuditEntry]:
    return (await context.audit.list())[::-1]


async def test_old_assets_go_everywhere_and_young_ones_stay(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(keep_assets_days=30)) as service:
        context = service.context
        at = NOW - 30 * DAY
        old, edge, shared, busy = await put_assets(context, at - MICROSECOND, at, at - DAY, at - DAY)
        assert await context.documents.put_features(make_features(0))
        await context.stores.vectors.add([make_features(0), make_features(1)])
        await derived.put(context.objects, context.settings.spool, derived.poster_key(old), b"p", "image/jpeg")
        await derived.put(context.objects, context.settings.spool, f"{derived.folder(old)}x", b"x", "image/jpeg")
        await context.documents.add_upload(shared, Upload("press", "same.jpg", NOW))
        await context.people.put_index(index(old, 1), [trace(1, asset_id=old)])
        await context.jobs.submit("index-video", busy, "1", {})
        assert await context.usage.used("studio", *_counts(context)) == {"bytes": 4, "files": 4, "jobs": 0, "videos": 0}

        result = await swept(context)
        assert result == {**removed(objects=3, documents=4, vectors=1), "assets": 1, "left": 1}
        assert await mentions(context.stores, old) == {"documents: audit": 1}
        left = await context.documents.get_assets([old, edge, shared, busy])
        assert set(left) == {edge, shared, busy}
        assert not any(each.deleting for each in left.values())
        assert [await context.objects.head(each) is None for each in (old, edge)] == [True, False]
        (entry,) = await trail(context)
        assert (entry.key_id, entry.who, entry.action, entry.object_id) == ("", RETENTION, "retention assets", old)
        assert entry.details["removed"] == {"objects": 3, "documents": 4, "jobs": 0}
        assert entry.details["days"] == 30
        # A sum that was kept is counted again.
        assert (await context.usage.used("studio", *_counts(context, 3)))["files"] == 3

        for job in await context.jobs.list(subject=busy):
            await context.jobs.cancel(job.job_id)
        assert (await swept(context, "2026-06-01T13"))["assets"] == 1
        assert set(await context.documents.get_assets([edge, shared, busy])) == {edge, shared}


def removed(**counts: int) -> dict[str, int]:
    return {**Removed().counts(), **counts}


def _counts(context: Context, files: int = 4) -> tuple[Any, Any]:
    async def stored() -> dict[Any, int]:
        return {"bytes": files, "files": files}

    async def working_jobs() -> dict[Any, int]:
        return {"jobs": await context.jobs.count_unfinished("studio")}

    return stored, working_jobs


async def test_what_a_key_stored_is_free_again(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(keep_assets_days=1)) as service:
        context, count = service.context, _counts(service.context, 1)
        await put_assets(context, NOW - 2 * DAY)
        taken = await context.usage.take("studio", {"files": 1}, {"files": 2}, DAY, *count)
        assert taken.hold is not None
        await context.usage.settle("studio", taken.hold, {"files": 1})
        assert (await context.usage.take("studio", {"files": 1}, {"files": 2}, DAY, *count)).over == "files"
        assert (await swept(context))["assets"] == 1
        again = await context.usage.take("studio", {"files": 2}, {"files": 2}, DAY, *_counts(context, 0))
        assert (again.over, again.used["files"]) == (None, 0)


async def test_features_leave_the_cache(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(keep_assets_days=1)) as service:
        asset = await service.upload(picture(1))
        version = str((await service.context.stage(retention.DINOV3).info())["model_version"])
        key = retention.features_key(version, asset)
        await service.context.cache.set_many({key: b"features"}, 60)
        payload = {"at": (datetime.now(UTC) + 2 * DAY).isoformat()}
        async with working(service.context):
            job = await ended(service.context, await service.context.jobs.submit(RETENTION, "h", "h", payload))
        assert job.result is not None
        assert job.result["cache"] == 1
        assert await service.context.cache.get_many([key]) == [None]


async def test_old_traces_and_nobodies_go(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(keep_traces_days=10)) as service:
        context, before, people = service.context, NOW - 10 * DAY, service.context.people
        old, edge, busy = "a" * 32, "b" * 32, "c" * 32
        for asset, moment, who in (
            (old, before - MICROSECOND, "00000001"),
            (edge, before, "00000002"),
            (busy, before - DAY, None),
        ):
            video = replace(index(asset, 2), indexed_at=moment, objects="detr@1")
            await people.put_index(video, [trace(n, who, asset) for n in (1, 2)])
            await context.shots.put_shots([shot(0, asset, objects=())])
        await context.jobs.submit("index-video", busy, "1", {})
        for folder in (faces_folder(old), objects_folder(old), objects_folder(edge)):
            await derived.put(context.objects, context.settings.spool, f"{folder}1-1.jpg", b"x", "image/jpeg")
        made = {
            "alone": replace(identity(1), references=()),
            "in a video": replace(identity(2), references=()),
            "named": replace(identity(3, "Ada"), references=()),
            "with a photo": identity(4),
            "of this second": replace(identity(5), references=()),
        }
        for name, each in made.items():
            moment = before if name == "of this second" else before - MICROSECOND
            await people.put_identity(replace(each, created_at=moment))

        result = await swept(context)
        assert result == {"left": 1, "videos": 1, "traces": 2, "identities": 1, "objects": 2, "documents": 4}
        assert [info.key async for info in context.objects.list()] == [f"{objects_folder(edge)}1-1.jpg"]
        assert [await people.get_index(each) is None for each in (old, edge, busy)] == [True, False, False]
        left = {each.video_asset_id: each.objects for each in await context.shots.list_shots(ShotFilter())}
        assert left == {old: None, edge: (), busy: ()}
        assert [each.identity_uuid for each in await people.list_identities()] == [f"{n:08d}" for n in (2, 3, 4, 5)]
        assert [(each.action, each.object_id) for each in await trail(context)] == [
            ("retention traces", old),
            ("retention identities", "00000001"),
        ]


async def test_old_jobs_and_entries_go_in_batches(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS", 2)
    async with serve(settings_for(keep_jobs_days=5, keep_audit_days=7)) as service:
        context = service.context
        for number in range(3):
            job = await context.jobs.submit("index-video", f"{number}", f"{number}", {})
            await context.jobs.cancel(job.job_id)
        await context.jobs.submit("index-video", "waits", "waits", {})
        for number, seconds in enumerate((-3, -2, -1, 0)):
            at = NOW - 7 * DAY + timedelta(seconds=seconds)
            await context.audit.append(new_entry(at, "k", "studio", "POST /x", f"{number}", "200"))
        at = (datetime.now(UTC) + 5 * DAY).isoformat()
        async with working(context):
            first = await ended(context, await submit(context))
            later = await ended(context, await context.jobs.submit(RETENTION, "later", "later", {"at": at}))
        assert first.result == {"entries": 3}
        assert later.result is not None
        assert later.result["jobs"] == 3
        assert {each.subject for each in await context.jobs.list()} == {"waits", "later", first.subject}
        counts = [each.details["removed"] for each in await trail(context) if each.who == RETENTION]
        assert counts[:2] == [{"entries": 2}, {"entries": 1}]
        assert sum(each.get("jobs", 0) for each in counts) == 3


async def test_a_killed_sweep_is_finished_by_another_worker(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    async with serve(settings_for(keep_assets_days=1)) as service, serve(settings_for(keep_assets_days=1)) as other:
        context = service.context
        ids = sorted(await put_assets(context, *[NOW - 2 * DAY] * 5))
        # The first worker deletes three assets, and dies before it can say so of the third.
        job = await submit(context)
        assert await context.jobs.claim("dies", [RETENTION], 0.01)
        await context.documents.expire_asset(ids[2], NOW)
        await context.documents.expire_asset(ids[3], NOW)
        for each in ids[:3]:
            await context.documents.expire_asset(each, NOW)
            await delete_asset(context.stores, each)
        for each in ids[:2]:
            await context.audit.append(new_entry(NOW, "", RETENTION, "retention assets", each, "done", removed={}))
        place = {"step": "assets", "after": ids[1], "batch": ids[2:4], "counts": {"assets": 2, "left": 0}}
        assert await context.jobs.save_checkpoint(job.job_id, "dies", place)

        async with working(context, other.context):
            done = await ended(context, job)
        assert done.attempts == 2
        assert done.result is not None
        assert done.result["assets"] == 5
        assert await context.documents.get_assets(ids) == {}
        entries = [each.object_id for each in await trail(context)]
        assert sorted(entries) == ids
        assert [await context.objects.head(each) for each in ids] == [None] * 5


async def test_a_sweep_is_cancelled_between_two_assets(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, held = asyncio.Event(), asyncio.Event()

    async def slow(stores: Any, asset: str, counts: Removed) -> bool:
        if begun.is_set():
            await held.wait()
        begun.set()
        return await delete_asset(stores, asset, counts)

    monkeypatch.setattr(retention, "delete_asset", slow)
    async with serve(settings_for(keep_assets_days=1)) as service:
        context = service.context
        ids = await put_assets(context, *[NOW - 2 * DAY] * 3)
        job = await submit(context)
        async with working(context):
            await begun.wait()
            await context.jobs.cancel(job.job_id)
            assert (await ended(context, job)).status == "cancelled"
        assert len(await context.documents.get_assets(ids)) == 2
        monkeypatch.undo()
        assert (await swept(context, "2026-06-01T13"))["assets"] == 2
        assert await context.documents.get_assets(ids) == {}
        for each in ids:
            assert set(await mentions(context.stores, each)) == {"documents: audit"}


async def test_a_sweep_leaves_its_work_to_one_that_still_runs(service: Service) -> None:
    context = service.context
    first = await submit(context, "2026-06-01T11")
    assert await context.jobs.claim("slow", [RETENTION], 60) is not None
    assert "skipped" in await swept(context)
    assert (await context.jobs.get(first.job_id) or first).status == "running"


async def test_several_workers_submit_one_job_for_an_hour(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "find_job_kinds", lambda: {RETENTION: replace(KIND, stages=())})
    async with serve(settings_for(keep_jobs_days=1)) as service:
        hour = datetime.now(UTC).strftime("%Y-%m-%dT%H")
        workers = [Worker({}) for _ in range(2)]
        made = await submitted(service.context, "succeeded")
        for each in workers:
            each.check_health()
            closing = each.__del__()
            assert closing is not None
            await closing
        assert [job.attempts for job in made] == [1]
        assert made[0].subject >= hour
        assert len(await service.context.jobs.list(kind=RETENTION)) == len({job.subject for job in made})


async def test_a_cancelled_job_of_the_hour_is_not_submitted_again(service: Service) -> None:
    jobs = service.context.jobs
    for _ in range(2):
        submitting = asyncio.create_task(submit_hourly(jobs, [RETENTION]))
        made = await submitted(service.context)
        await jobs.cancel(made[0].job_id)
        await asyncio.sleep(0.05)
        submitting.cancel()
    assert {job.status for job in await jobs.list(kind=RETENTION)} == {"cancelled"}


async def test_nothing_is_removed_or_even_submitted_by_default(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "find_job_kinds", lambda: {RETENTION: replace(KIND, stages=())})
    async with serve(settings_for()) as service:
        (kept,) = await put_assets(service.context, datetime(1990, 1, 1, tzinfo=UTC))
        worker = Worker({})
        assert worker._hourly is None
        closing = worker.__del__()
        assert closing is not None
        await closing
        assert await service.context.jobs.list() == []
        assert await swept(service.context) == {}
        assert set(await service.context.documents.get_assets([kept])) == {kept}
