"""Bulk runs: what becomes of each file, and of those that something goes wrong with."""

import asyncio
import errno
import hashlib
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from configs import settings as settings_module
from graphs.indexing.jobs import BULK_INDEX, INDEX_VIDEO, submit_index
from graphs.jobs.kinds import find_job_kinds
from graphs.jobs.runner import JobRunner, Timing
from ops.bulk import driver, sources
from ops.bulk.driver import AlreadyRunning, Stopped, recorded
from ops.bulk.report import Report
from ops.bulk.run import BulkRun, PipelineBroken
from ops.bulk.sources import find_items
from stores.errors import StoreFull
from stores.jobs import Job
from tests.graphs.bulk import LocalFinalizer, LocalPipeline, Log
from tests.graphs.harness import configured
from tests.graphs.indexing import QUICK, IndexService, film, index_service, long_film
from tests.graphs.samples import audio
from tests.waiting import PATIENCE_S
from vision.errors import StageUnavailable


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IndexService]:
    monkeypatch.setattr("ops.bulk.run.POLL_S", 0.05)
    async with index_service(configured(monkeypatch, tmp_path / "home")) as made:
        # A bulk run looks for no objects, and its jobs are those of a service that does not either.
        del made.context.stages["objects/detector"]  # type: ignore[attr-defined]
        yield made
        spool = made.context.settings.spool
        assert not spool.exists() or list(spool.iterdir()) == []
    settings_module.settings.cache_clear()


@pytest.fixture
async def finalizer() -> AsyncIterator[LocalFinalizer]:
    made = LocalFinalizer()
    yield made
    await made.close()


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    return folder


def asset_id(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


class Bulk:
    """A run over a folder."""

    def __init__(self, service: IndexService, finalizer: LocalFinalizer, films: Path, pipeline: LocalPipeline) -> None:
        self.log, self.pipeline, self.stopping = Log(), pipeline, asyncio.Event()
        self.run_ = BulkRun(service.context, find_items([str(films)]), pipeline, finalizer, self.log, QUICK)

    async def run(self) -> Report:
        async with asyncio.timeout(PATIENCE_S):
            return await self.run_.run(self.stopping)


async def test_every_file_is_indexed_once_as_the_service_does_it(
    service: IndexService, finalizer: LocalFinalizer, films: Path
) -> None:
    (films / "a.mp4").write_bytes(film())
    (films / "b.mp4").write_bytes(film())
    (films / "c.mp4").write_bytes(film()[:500])
    (films / "d.mp4").write_bytes(audio())
    (films / "e.mov").write_bytes(long_film(12))
    bulk = Bulk(service, finalizer, films, LocalPipeline())
    report = await bulk.run()
    assert [file.state for file in report.files] == ["indexed", "duplicate", "failed", "failed", "indexed"]
    a, b, c, d, e = report.files
    assert (a.frames, a.decoded, a.shots, a.traces, a.identities, a.attempts) == (130, 130, 3, 4, 3, 1)
    assert a.asset_id == asset_id(films / "a.mp4")
    assert b.reason == f"The same as {films / 'a.mp4'}."
    assert "damaged" in str(c.reason)
    assert d.reason == "This WAV is audio, not video."
    assert (e.frames, e.traces, e.seconds) == (120, 1, 12.0)
    assert bulk.log.count == 5
    assert bulk.log.reached == {"a.mp4": 130, "e.mov": 120}
    assert (report.exit_code, report.totals["files"], report.totals["traces"]) == (1, 5, 5)

    asset = (await service.context.documents.get_assets([str(a.asset_id)]))[str(a.asset_id)]
    assert (asset.kind, asset.frame_count) == ("video", 130)
    assert asset.filename in ("a.mp4", "b.mp4")  # both are read at the same time
    assert await service.derived_objects(asset) == []
    assert len((await service.ok(asset, "traces"))["traces"]) == 4
    # What the service is asked for now is done already, and the other way round.
    again = await service.post_index(asset)
    assert (again["job_id"], again["status"]) == (a.job_id, "succeeded")
    second = Bulk(service, finalizer, films, LocalPipeline())
    assert (await second.run()).counts == {"skipped": 2, "duplicate": 1, "failed": 2}
    assert second.pipeline.granted == []


async def test_it_finds_what_the_service_finds(service: IndexService, finalizer: LocalFinalizer, films: Path) -> None:
    (films / "a.mp4").write_bytes(film())
    await Bulk(service, finalizer, films, LocalPipeline(shuffled=True)).run()
    asset = asset_id(films / "a.mp4")
    context = service.context
    ours = await context.shots.get_analysis(asset), await context.people.list_traces(asset)
    await context.jobs.forget(asset)
    await service.indexed()
    theirs = await context.shots.get_analysis(asset), await context.people.list_traces(asset)
    assert ours[0] is not None
    assert theirs[0] is not None
    assert ours[0].models == theirs[0].models
    assert [(s.start_frame, s.end_frame, s.keyframe_frame, s.auto_tags) for s in ours[0].shots] == [
        (s.start_frame, s.end_frame, s.keyframe_frame, s.auto_tags) for s in theirs[0].shots
    ]
    assert [(t.first_frame, t.last_frame, t.face_count, t.identity_uuid) for t in ours[1]] == [
        (t.first_frame, t.last_frame, t.face_count, t.identity_uuid) for t in theirs[1]
    ]


async def test_a_pipeline_that_breaks_resumes_from_the_checkpoint(
    service: IndexService, finalizer: LocalFinalizer, films: Path
) -> None:
    (films / "a.mp4").write_bytes(long_film(30))
    bulk = Bulk(service, finalizer, films, LocalPipeline(break_after=4))  # what it is, and 150 of 300 frames
    (file,) = (await bulk.run()).files
    assert [grant.start for grant in bulk.pipeline.granted] == [0, 100]
    assert (file.state, file.attempts, file.frames, file.decoded, file.traces) == ("indexed", 2, 300, 350, 1)


async def test_a_pipeline_that_always_breaks_ends_the_run(
    service: IndexService, finalizer: LocalFinalizer, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (films / "a.mp4").write_bytes(film())

    async def broken(_numbers: object, _answer: object) -> AsyncIterator[None]:
        raise PipelineBroken("No GPU is left.")
        yield

    pipeline = LocalPipeline()
    monkeypatch.setattr(pipeline, "rows", broken)
    bulk = Bulk(service, finalizer, films, pipeline)
    with pytest.raises(PipelineBroken, match="No GPU"):
        await bulk.run()
    assert await service.context.jobs.list() == []


async def test_a_transient_failure_is_retried(service: IndexService, finalizer: LocalFinalizer, films: Path) -> None:
    (films / "a.mp4").write_bytes(film())
    finalizer.failing = [StageUnavailable("It is away.")]
    (file,) = (await Bulk(service, finalizer, films, LocalPipeline()).run()).files
    assert (file.state, file.attempts, file.traces, file.decoded) == ("indexed", 2, 4, 130)


async def test_a_decoder_that_dies_again_and_again_costs_its_file_alone(
    service: IndexService, finalizer: LocalFinalizer, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (films / "a.mp4").write_bytes(film())
    (films / "b.mp4").write_bytes(long_film(12))
    pipeline = LocalPipeline()
    rows, asked = pipeline.rows, []

    async def deadly(numbers, answer):  # type: ignore[no-untyped-def]
        for _ in range(4):
            asked.append(await answer(0))
        async for message in rows(numbers[1:], answer):
            yield message

    monkeypatch.setattr(pipeline, "rows", deadly)
    report = await Bulk(service, finalizer, films, pipeline).run()
    assert asked[0] is not None
    assert asked == [asked[0], asked[0], asked[0], None]
    assert [file.state for file in report.files] == ["failed", "indexed"]
    assert "crashed" in str(report.files[0].reason)


async def test_a_stopped_run_gives_its_jobs_back(
    service: IndexService, finalizer: LocalFinalizer, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (films / "a.mp4").write_bytes(long_film(30))
    (films / "b.mp4").write_bytes(film())
    pipeline = LocalPipeline()
    bulk = Bulk(service, finalizer, films, pipeline)
    monkeypatch.setattr(bulk.log, "frame", lambda item, reached, frames: bulk.stopping.set() if reached > 100 else None)
    report = await bulk.run()
    assert [file.state for file in report.files] == ["unfinished", "unfinished"]
    assert report.exit_code == 3
    (job,) = await service.context.jobs.list(kind=INDEX_VIDEO)
    assert (job.status, job.attempts, job.checkpoint["parts"]) == ("queued", 0, 1)
    second = Bulk(service, finalizer, films, LocalPipeline())
    report = await second.run()
    assert [(file.state, file.attempts) for file in report.files] == [("indexed", 1), ("indexed", 1)]
    assert report.files[0].decoded == 200


async def test_a_job_that_somebody_holds_is_left_to_them_and_waited_for(
    service: IndexService, finalizer: LocalFinalizer, films: Path
) -> None:
    (films / "a.mp4").write_bytes(film())
    (films / "b.mp4").write_bytes(long_film(12))
    held = await service.add(film())
    job = await submit_index(service.context, held)
    jobs = service.context.jobs
    assert await jobs.claim_job(job.job_id, "somebody", 60) is not None
    bulk = Bulk(service, finalizer, films, LocalPipeline())
    running = asyncio.create_task(bulk.run())
    while not bulk.log.texts:
        assert await jobs.heartbeat(job.job_id, "somebody", 0.5, "", 60)
        await asyncio.sleep(0.02)
    assert bulk.log.texts == ["Waiting for 1 files that are retried or with another worker."]
    assert [file.state for file in bulk.log.files] == ["indexed"]
    assert await jobs.succeed(job.job_id, "somebody", {"frames": 130, "shots": 3, "traces": 4})
    report = await running
    assert [(file.state, file.traces) for file in report.files] == [("indexed", 4), ("indexed", 1)]
    assert len(bulk.pipeline.granted) == 1


async def test_a_lease_that_a_killed_run_left_is_waited_for(
    service: IndexService, finalizer: LocalFinalizer, films: Path
) -> None:
    (films / "a.mp4").write_bytes(film())
    job = await submit_index(service.context, await service.add(film()))
    assert await service.context.jobs.claim_job(job.job_id, "killed", 0.3) is not None
    bulk = Bulk(service, finalizer, films, LocalPipeline())
    (file,) = (await bulk.run()).files
    assert (file.state, file.attempts, bulk.log.texts) == ("indexed", 2, [])
    assert len(bulk.pipeline.rounds) == 1


async def test_a_cancelled_job_is_let_go(
    service: IndexService, finalizer: LocalFinalizer, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (films / "a.mp4").write_bytes(long_film(30))
    bulk = Bulk(service, finalizer, films, LocalPipeline())
    waiting: list[asyncio.Task[object]] = []

    async def cancel() -> None:
        (job,) = await service.context.jobs.list(kind=INDEX_VIDEO)
        await service.context.jobs.cancel(job.job_id)

    def frame(_item: object, reached: int, _frames: int) -> None:
        if reached == 100:
            waiting.append(asyncio.create_task(cancel()))

    monkeypatch.setattr(bulk.log, "frame", frame)
    draft = finalizer.finalizer.draft

    async def slowly(request):  # type: ignore[no-untyped-def]
        await asyncio.sleep(5)
        return await draft(request)

    monkeypatch.setattr(finalizer.finalizer, "draft", slowly)
    (file,) = (await bulk.run()).files
    assert (file.state, file.reason) == ("cancelled", "The job was cancelled.")
    assert [report.name for report in bulk.log.files] == [file.name]
    assert await service.derived_objects(await service.add(long_film(30))) == []


async def test_a_file_that_cannot_be_read_now_is_retried_later(
    service: IndexService, finalizer: LocalFinalizer, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (films / "a.mp4").write_bytes(film())
    (films / "b.mp4").write_bytes(long_film(12))
    spool, taken = sources.spool_file, []

    def away_once(source, filename, *rest):  # type: ignore[no-untyped-def]
        taken.append(filename)
        if taken.count("a.mp4") == 1 and filename == "a.mp4":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return spool(source, filename, *rest)

    monkeypatch.setattr(sources, "spool_file", away_once)
    bulk = Bulk(service, finalizer, films, LocalPipeline())
    report = await bulk.run()
    assert [file.state for file in report.files] == ["indexed", "indexed"]
    assert [len(numbers) for numbers in bulk.pipeline.rounds] == [2, 1]
    name = films / "a.mp4"
    assert bulk.log.texts == [f"{name} is retried later: {name} cannot be read: Stale file handle."]


async def test_the_run_has_a_record_that_a_second_one_resumes(
    service: IndexService, finalizer: LocalFinalizer, films: Path
) -> None:
    (films / "a.mp4").write_bytes(film())
    jobs, sources = service.context.jobs, [str(films)]
    killed, _, _ = await driver._claimed(service.context, sources, Timing(lease_s=0.5))
    timing = Timing(heartbeat_s=0.05, progress_s=0.02)  # a lease that a busy machine does not lose
    bulk = Bulk(service, finalizer, films, LocalPipeline())
    report = await recorded(service.context, sources, bulk.run_, bulk.stopping, timing)
    assert report.counts == {"indexed": 1}
    (record,) = await jobs.list(kind=BULK_INDEX)
    assert (record.job_id, record.status, record.attempts) == (killed.job_id, "succeeded", 2)
    assert record.result is not None
    assert record.result["counts"] == {"indexed": 1}
    assert str(films) not in str(record)

    second = Bulk(service, finalizer, films, LocalPipeline())
    await recorded(service.context, sources, second.run_, second.stopping, timing)
    assert [record.status for record in await jobs.list(kind=BULK_INDEX)] == ["succeeded", "succeeded"]


async def ended_record(service: IndexService) -> Job:
    """The record of the only run, once a worker of the service, which does nothing else here, has ended it."""
    kind = find_job_kinds()[BULK_INDEX]
    runner = JobRunner(service.context.jobs, {kind.name: partial(kind.function, service.context)}, poll_s=(0.01, 0.05))
    runner.start()
    try:
        (record,) = await service.context.jobs.list(kind=BULK_INDEX)
        return await service.ended(record.job_id)
    finally:
        await runner.stop()


async def test_the_record_of_a_run_that_is_killed_fails_and_the_next_one_resumes(
    service: IndexService, finalizer: LocalFinalizer, films: Path
) -> None:
    (films / "a.mp4").write_bytes(long_film(30))
    environment = os.environ | {"VISION_HOME": str(service.context.settings.home)}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.graphs.bulk_child", str(films)),
        **{"stdin": PIPE, "stdout": PIPE, "env": environment},
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"stored\n"
    child.kill()
    await child.wait()
    record = await ended_record(service)
    assert (record.status, record.result) == ("failed", None)
    assert record.error == "The process that ran it has died; run the same command again, and it resumes."

    bulk = Bulk(service, finalizer, films, LocalPipeline())
    report = await recorded(service.context, [str(films)], bulk.run_, bulk.stopping)
    assert report.counts == {"indexed": 1}
    (now, before) = await service.context.jobs.list(kind=BULK_INDEX)
    assert (now.status, before) == ("succeeded", record)
    assert report.totals["decoded_frames"] == 200


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (PipelineBroken("No worker can be started."), "No worker can be started."),
        (StageUnavailable("It does not answer."), "It does not answer."),
        (StoreFull("no room"), StoreFull("no room").message),
        (ZeroDivisionError("/internal/path"), "It failed unexpectedly (ZeroDivisionError)."),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_the_record_of_a_run_that_breaks_says_why(
    service: IndexService,
    finalizer: LocalFinalizer,
    films: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    error: str,
) -> None:
    (films / "a.mp4").write_bytes(film())
    bulk = Bulk(service, finalizer, films, LocalPipeline())

    async def broken(_stopping: asyncio.Event) -> Report:
        raise failure

    monkeypatch.setattr(bulk.run_, "run", broken)
    with pytest.raises(type(failure)):
        await recorded(service.context, [str(films)], bulk.run_, bulk.stopping)
    (record,) = await service.context.jobs.list(kind=BULK_INDEX)
    assert (record.status, record.error) == ("failed", error)


async def test_the_record_of_a_stopped_run_is_cancelled(
    service: IndexService, finalizer: LocalFinalizer, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (films / "a.mp4").write_bytes(long_film(30))
    bulk = Bulk(service, finalizer, films, LocalPipeline())
    monkeypatch.setattr(bulk.log, "frame", lambda item, reached, frames: bulk.stopping.set() if reached > 100 else None)
    report = await recorded(service.context, [str(films)], bulk.run_, bulk.stopping)
    assert report.counts == {"unfinished": 1}
    (record,) = await service.context.jobs.list(kind=BULK_INDEX)
    assert (record.status, record.error) == ("cancelled", None)
    assert [job.status for job in await service.context.jobs.list(kind=INDEX_VIDEO)] == ["queued"]


async def test_a_run_is_stopped_while_its_workers_start() -> None:
    log, stopping = Log(), asyncio.Event()

    class Starting:
        async def infos(self) -> Any:
            await asyncio.Event().wait()

    asyncio.get_running_loop().call_later(0.05, stopping.set)
    with pytest.raises(Stopped, match="before its workers had started"):
        await driver._started(cast(Any, Starting()), stopping, log)


async def test_two_runs_of_one_source_at_a_time_are_refused(service: IndexService, films: Path) -> None:
    jobs, timing = service.context.jobs, Timing(lease_s=0.5, heartbeat_s=0.05)
    job, worker, _ = await driver._claimed(service.context, ["films"], timing)

    async def alive() -> None:
        while True:
            await jobs.heartbeat(job.job_id, worker, 0, "", 0.5)
            await asyncio.sleep(0.02)

    beating = asyncio.create_task(alive())
    with pytest.raises(AlreadyRunning, match=job.job_id):
        await driver._claimed(service.context, ["films"], timing)
    beating.cancel()
