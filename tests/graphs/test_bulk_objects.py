"""Bulk runs look for objects as the service does: in the same pass, or alone for indexes that lack them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import settings as settings_module
from graphs.indexing.objects import NOT_SERVED
from ops.bulk.report import FileReport
from ops.bulk.run import BulkRun
from ops.bulk.sources import find_items
from stores.records import Asset
from tests.dummies.objects import OBJECTS, DummyDetector
from tests.dummies.video import DummyVideoFaces
from tests.graphs.bulk import LocalFinalizer, LocalPipeline, Log
from tests.graphs.harness import configured
from tests.graphs.indexing import QUICK, IndexService, Shot, film, index_service
from vision.errors import InvalidInput

SCENE: tuple[Shot, ...] = (
    (60, {"dog": (0, 59, (10, 30), (100, 34)), "bob": (21, 59, (150, 50), (110, 60))}),
    (
        50,
        {
            "car": (0, 49, (120, 70), (120, 70)),
            "person": (0, 49, (10, 20), (40, 20)),
            "ada": (0, 49, (16, 22), (46, 22)),
        },
    ),
)
LONG: tuple[Shot, ...] = ((300, {"dog": (0, 299, (5, 30), (150, 60)), "ada": (0, 299, (150, 2), (120, 2))}),)


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IndexService]:
    monkeypatch.setattr("ops.bulk.run.POLL_S", 0.05)
    monkeypatch.setitem(OBJECTS, (0, 128, 255), ("person", 0.8))  # enough to begin a track
    async with index_service(configured(monkeypatch, tmp_path / "home")) as made:
        yield made
        spool = made.context.settings.spool
        assert not spool.exists() or list(spool.iterdir()) == []
    settings_module.settings.cache_clear()


@pytest.fixture
async def finalizer() -> AsyncIterator[LocalFinalizer]:
    made = LocalFinalizer(objects=True)
    yield made
    await made.close()


async def run(service: IndexService, finalizer: LocalFinalizer, folder: Path, pipeline: LocalPipeline) -> FileReport:
    """The report of the only film of a folder."""
    bulk = BulkRun(service.context, find_items([str(folder)]), pipeline, finalizer, Log(), QUICK)
    async with asyncio.timeout(60):
        (file,) = (await bulk.run(asyncio.Event())).files
    return file


async def stored(service: IndexService, asset_id: str) -> Any:
    """All that is stored of the people and objects of a film, as can be compared."""
    people = service.context.people
    objects = [await people.get_object(asset_id, each.track_id) for each in await people.list_objects(asset_id)]
    traces = [(each.trace_id, each.first_frame, each.identity_uuid) for each in await people.list_traces(asset_id)]
    index = await people.get_index(asset_id)
    assert index is not None
    records = [(each[0], each[1].boxes.tolist()) for each in objects if each is not None]
    return records, traces, (index.models, index.objects, index.object_count, index.cuts)


def folder_with(tmp_path: Path, shots: tuple[Shot, ...], fps: int = 25) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(film(shots, fps))
    return folder


@pytest.mark.parametrize("shuffled", [False, True])
async def test_it_finds_the_objects_that_the_service_finds(
    service: IndexService, finalizer: LocalFinalizer, tmp_path: Path, shuffled: bool
) -> None:
    folder = folder_with(tmp_path, SCENE)
    file = await run(service, finalizer, folder, LocalPipeline(objects=True, shuffled=shuffled))
    assert (file.state, file.objects, file.traces, file.attempts) == ("indexed", 3, 2, 1)
    assert file.asset_id is not None
    ours = await stored(service, file.asset_id)
    asset = await service.add(film(SCENE))
    assert (await service.post_index(asset))["job_id"] == file.job_id  # the service has nothing left to do
    await service.context.people.delete_index(asset.asset_id)
    await service.context.jobs.forget(asset.asset_id)
    await service.index(asset)
    theirs = await stored(service, asset.asset_id)
    assert ours == theirs
    assert [record.label for record, _ in ours[0]] == ["dog", "car", "person"]


async def without_objects(service: IndexService, finalizer: LocalFinalizer, folder: Path) -> FileReport:
    """A run where the configuration has no detector."""
    detector = service.context.stages.pop("objects/detector")  # type: ignore[attr-defined]
    file = await run(service, finalizer, folder, LocalPipeline())
    service.context.stages["objects/detector"] = detector  # type: ignore[index]
    return file


async def test_an_archive_that_lacks_objects_is_completed_without_looking_for_faces(
    service: IndexService, finalizer: LocalFinalizer, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, SCENE)
    first = await without_objects(service, finalizer, folder)
    assert (first.state, first.objects, first.traces) == ("indexed", 0, 2)
    job = await service.context.jobs.get(str(first.job_id))
    assert job is not None
    assert job.payload["unavailable"] == {"objects": NOT_SERVED}
    asset_id = str(first.asset_id)
    _, traces, _ = await stored(service, asset_id)

    pipeline = LocalPipeline(objects=True)
    second = await run(service, finalizer, folder, pipeline)
    assert (second.state, second.objects, second.traces, second.decoded) == ("indexed", 3, 2, 110)
    assert DummyVideoFaces.running.frames_seen == 0  # that of the pipeline, the last one that was loaded
    records, after, index = await stored(service, asset_id)
    assert (after, index[1:]) == (traces, ("dummy@00000000:", 3, (60,)))
    assert [grant.cuts for grant in pipeline.granted] == [(60,)]
    assert records[2][0].trace_id is not None
    third = await run(service, finalizer, folder, LocalPipeline(objects=True))
    assert (third.state, third.objects) == ("skipped", 3)
    assert await service.derived_objects(await service.add(film(SCENE))) == []


@pytest.mark.parametrize("completes", [False, True])
async def test_a_run_that_breaks_resumes_and_loses_no_objects(
    service: IndexService, finalizer: LocalFinalizer, tmp_path: Path, completes: bool
) -> None:
    folder = folder_with(tmp_path, LONG, 10)
    if completes:
        await without_objects(service, finalizer, folder)
    pipeline = LocalPipeline(objects=True, break_after=4)  # what it is, and 150 of 300 frames
    file = await run(service, finalizer, folder, pipeline)
    assert (file.state, file.attempts, file.objects) == ("indexed", 2, 1)
    assert [grant.start for grant in pipeline.granted] == [0, 100]
    ((record, _),), _, _ = await stored(service, str(file.asset_id))
    assert (record.label, record.first_frame) == ("dog", 0)
    assert record.last_frame > 290
    assert record.sightings == pytest.approx(30 / 0.33, abs=2)  # one in each stretch of 0.33 s of 30 s


async def test_a_run_without_a_detector_takes_no_objects_away(
    service: IndexService, finalizer: LocalFinalizer, tmp_path: Path
) -> None:
    asset: Asset = await service.indexed(film(SCENE))
    before = await stored(service, asset.asset_id)
    await service.context.jobs.forget(asset.asset_id)
    file = await without_objects(service, finalizer, folder_with(tmp_path, SCENE))
    assert (file.state, file.objects) == ("indexed", 3)
    after = await stored(service, asset.asset_id)
    assert after == before


async def test_a_queued_job_of_the_service_is_done_by_the_run(
    service: IndexService, finalizer: LocalFinalizer, tmp_path: Path
) -> None:
    asset = await service.add(film(SCENE))
    job_id = (await service.post_index(asset))["job_id"]
    file = await run(service, finalizer, folder_with(tmp_path, SCENE), LocalPipeline(objects=True))
    assert (file.state, file.job_id, file.objects) == ("indexed", job_id, 3)
    looked = DummyDetector.running.calls
    async with service.working():
        assert (await service.ended(job_id)).status == "succeeded"
    assert DummyDetector.running.calls == looked


async def test_a_frame_on_which_the_detector_fails_is_counted_and_left_out(
    service: IndexService, finalizer: LocalFinalizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, calls = DummyDetector.predict, []

    def fails_once(self: DummyDetector, item: Any) -> Any:
        calls.append(item)
        if len(calls) == 3:
            raise InvalidInput("a strange frame")
        return predict(self, item)

    monkeypatch.setattr(DummyDetector, "predict", fails_once)
    file = await run(service, finalizer, folder_with(tmp_path, SCENE), LocalPipeline(objects=True))
    assert (file.state, file.objects) == ("indexed", 3)
    records, _, _ = await stored(service, str(file.asset_id))
    assert np.isfinite(records[0][1]).all()
