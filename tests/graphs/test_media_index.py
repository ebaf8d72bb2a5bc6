"""Indexing a video over HTTP: the job, what it finds, and what becomes of it when something goes wrong."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import settings as settings_module
from graphs.indexing import checkpoint, inference
from graphs.web.uploads.library import Library
from tests.graphs.harness import ROOT, configured
from tests.graphs.indexing import IndexService, film, index_service, long_film, without_weights
from tests.graphs.media import media_error
from tests.graphs.samples import audio, picture
from vision.errors import InvalidInput, ModelNotLoaded, StageError, StageUnavailable


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IndexService]:
    async with index_service(configured(monkeypatch, tmp_path)) as made:
        yield made
        spool = made.context.settings.spool
        assert not spool.exists() or list(spool.iterdir()) == []
    settings_module.settings.cache_clear()


async def test_a_video_is_indexed_once(service: IndexService) -> None:
    asset = await service.add(film())
    details = await _details(service, asset.asset_id)
    assert details["index"]["status"] == "not_indexed"
    assert (details["width"], details["height"], details["fps"], details["frame_count"]) == (192, 108, 25.0, 130)
    assert (details["filename"], details["file_size"], details["has_audio"]) == ("film.mp4", len(film()), False)

    asked = await service.post_index(asset)
    assert asked == {
        "success": True,
        "file_uuid": asset.asset_id,
        "job_id": asked["job_id"],
        "status": "queued",
        "status_url": f"/api/v1/jobs/{asked['job_id']}",
    }
    assert await service.post_index(asset) == asked
    state = (await _details(service, asset.asset_id))["index"]
    assert (state["status"], state["job"]["job_id"], state["trace_count"]) == ("queued", asked["job_id"], 0)

    async with service.working():
        job = await service.ended(asked["job_id"])
    assert (job.status, job.error, job.progress) == ("succeeded", None, 1)
    assert job.result is not None
    assert {name: job.result[name] for name in ("traces", "identities", "new_identities", "cuts", "frames")} == {
        "traces": 4,
        "identities": 3,
        "new_identities": 3,
        "cuts": 2,
        "frames": 130,
    }
    # Every second frame and the last of each shot: Ada in 31 and 21 of them, Bob in 20, Cyd in 16.
    assert (service.faces.frames_seen, job.result["detections"]) == (68, 88)
    state = (await _details(service, asset.asset_id))["index"]
    assert (state["status"], state["cuts"], state["frames_apart"]) == ("succeeded", [60, 90], 2)
    assert (state["trace_count"], state["identity_count"]) == (4, 3)
    assert state["models"] == "dummy@00000001:0.7+dummy@00000002"
    assert await service.derived_objects(asset) == []

    again = await service.post_index(asset)
    assert (again["job_id"], again["status"]) == (asked["job_id"], "succeeded")
    answer = await service.client.get(asked["status_url"])
    assert answer.json()["result"] == job.result


async def test_progress_counts_frames(service: IndexService) -> None:
    asset = await service.add(film())
    service.faces.hold_after = 20
    job_id = (await service.post_index(asset))["job_id"]
    async with service.working():
        job = await service.until(job_id, lambda job: job.progress > 0)
        assert job.status == "running"
        state = (await _details(service, asset.asset_id))["index"]
        assert (state["status"], state["job"]["job_id"]) == ("running", job_id)
        frame = int(job.message.split()[1])
        assert job.message == f"Frame {frame} of 130"
        assert 1 <= frame < 130  # every third sample of a chunk is looked at before those between them
        assert job.progress == pytest.approx(0.95 * frame / 130)
        service.faces.released.set()
        assert (await service.ended(job_id)).status == "succeeded"


async def test_a_video_without_people_has_no_traces(service: IndexService) -> None:
    asset = await service.indexed(film(((30, {}), (30, {}))))
    assert (await service.ok(asset, "traces"))["traces"] == []
    assert (await service.ok(asset, "identities"))["identities"] == []
    state = (await _details(service, asset.asset_id))["index"]
    assert (state["status"], state["trace_count"], state["cuts"]) == ("succeeded", 0, [30])


@pytest.mark.parametrize("name", ["picture", "sound"])
async def test_only_videos_are_indexed(service: IndexService, name: str) -> None:
    asset = await service.add(picture(1) if name == "picture" else audio(), name)
    media_error(await service.client.post(f"/api/v1/file/{asset.asset_id}/index"), 400, "INVALID_INPUT")
    media_error(await service.client.get(f"/api/v1/file/{asset.asset_id}"), 400, "INVALID_INPUT")
    assert await service.context.jobs.list() == []


async def test_an_unknown_file_is_not_indexed(service: IndexService) -> None:
    media_error(await service.client.post(f"/api/v1/file/{'0' * 32}/index"), 404, "ASSET_NOT_FOUND")
    media_error(await service.client.get(f"/api/v1/file/{'0' * 32}"), 404, "ASSET_NOT_FOUND")


@pytest.mark.parametrize("key", ["people/identity", "people/video_faces"])
async def test_without_models_for_people_and_objects_the_shots_are_found(service: IndexService, key: str) -> None:
    reason = {"people": "It has no weights here.", "objects": "It has none either."}
    mend_people = without_weights(service, key, ModelNotLoaded("It has no weights here.\n- it, folder: not set"))
    mend_objects = without_weights(service, "objects/detector", ModelNotLoaded("It has none either."))
    asset = await service.add(film())
    assert (await service.post_index(asset))["unavailable"] == reason
    job = await service.index(asset)
    assert (job.status, job.result and job.result["unavailable"]) == ("succeeded", reason)
    stored = await service.context.shots.get_analysis(asset.asset_id)
    assert stored is not None
    assert [shot.start_frame for shot in stored.shots] == [0, 60, 90]
    state = (await _details(service, asset.asset_id))["index"]
    assert (state["status"], state["unavailable"], state["trace_count"]) == ("succeeded", reason, 0)
    for route in ("traces", "identities", "video/bbox", "trace/1/thumbnail", "trace/1/video"):
        assert media_error(await service.get(asset, route), 503, "MODEL_NOT_LOADED") == reason["people"]
    assert media_error(await service.get(asset, "objects"), 503, "MODEL_NOT_LOADED")
    assert (await service.post_index(asset))["job_id"] == job.job_id

    mend_people()
    mend_objects()
    again = await service.post_index(asset)
    assert (again["job_id"] != job.job_id, "unavailable" in again) == (True, False)
    assert (await service.index(asset)).status == "succeeded"
    state = (await _details(service, asset.asset_id))["index"]
    assert (state["trace_count"] > 0, "unavailable" in state) == (True, False)


@pytest.mark.parametrize(
    ("key", "error", "code"),
    [
        ("shots/cuts", ModelNotLoaded("No weights."), "MODEL_NOT_LOADED"),
        ("people/identity", StageUnavailable("It restarts."), "STAGE_UNAVAILABLE"),
        ("embed/dinov3", StageUnavailable("It restarts."), "STAGE_UNAVAILABLE"),
    ],
)
async def test_without_shots_or_while_a_model_starts_there_is_no_job(
    service: IndexService, key: str, error: StageError, code: str
) -> None:
    without_weights(service, key, error)
    asset = await service.add(film())
    answer = await service.client.post(f"/api/v1/file/{asset.asset_id}/index")
    assert media_error(answer, 503, code) == error.message
    assert await service.context.jobs.list() == []


async def test_a_killed_worker_is_taken_over_from_its_checkpoint(service: IndexService, tmp_path: Path) -> None:
    asset = await service.add(long_film(40))
    job_id = (await service.post_index(asset))["job_id"]
    child = _worker_process(tmp_path)
    try:
        await service.until(job_id, lambda job: job.checkpoint.get("parts", 0) == 2)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    killed = await service.context.jobs.get(job_id)
    assert killed is not None
    assert (killed.status, killed.attempts) == ("running", 1)
    parts = killed.checkpoint["parts"]
    assert killed.checkpoint == {"parts": parts, "next_frame": 100 * parts, "format": checkpoint.FORMAT}
    assert len(await service.derived_objects(asset)) >= parts
    assert await service.context.people.get_index(asset.asset_id) is None

    async with service.working():
        job = await service.ended(job_id)
    assert (job.status, job.attempts) == ("succeeded", 2)
    assert service.faces.frames_seen == 400 - 100 * parts
    assert job.result is not None
    assert (job.result["detections"], job.result["traces"], job.result["new_identities"]) == (400, 1, 1)
    (trace,) = (await service.ok(asset, "traces"))["traces"]
    assert (trace["first_frame"], trace["last_frame"], trace["face_count"]) == (0, 399, 400)
    assert len((await service.people("GET"))["identities"]) == 1
    assert await service.derived_objects(asset) == []


async def test_a_job_that_stops_in_mid_index_finds_what_one_run_finds(service: IndexService) -> None:
    asset = await service.add(long_film(25))
    service.faces.hold_after = 130
    job_id = (await service.post_index(asset))["job_id"]
    async with service.working() as runner:
        await service.until(job_id, lambda job: job.checkpoint.get("parts") == 1)
        stopping = asyncio.create_task(runner.stop())
        await asyncio.sleep(0.05)
        service.faces.released.set()
        await stopping
    stopped = await service.context.jobs.get(job_id)
    assert stopped is not None
    assert (stopped.status, stopped.attempts) == ("queued", 0)
    async with service.working():
        assert (await service.ended(job_id)).status == "succeeded"
    resumed = await service.context.people.get_trace(asset.asset_id, 1)
    await service.context.people.delete_index(asset.asset_id)
    await service.context.jobs.forget(asset.asset_id)
    assert (await service.index(asset)).status == "succeeded"
    whole = await service.context.people.get_trace(asset.asset_id, 1)
    assert resumed is not None
    assert whole is not None
    assert resumed[0].identity_uuid == whole[0].identity_uuid
    np.testing.assert_array_equal(resumed[1].boxes, whole[1].boxes)
    np.testing.assert_array_equal(resumed[0].vector, whole[0].vector)


async def test_a_lost_part_is_made_again(service: IndexService, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = await service.add(long_film(25))
    job_id = (await service.post_index(asset))["job_id"]
    delete = service.context.objects.delete

    async def lose(count: int, _: Any) -> None:
        await delete(f"{asset.asset_id}/index/{job_id}/{1:06d}")
        monkeypatch.undo()

    original = checkpoint.Parts.read

    async def lost(self: Any, count: int) -> Any:
        await lose(count, None)
        return await original(self, count)

    monkeypatch.setattr(checkpoint.Parts, "read", lost)
    async with service.working():
        job = await service.ended(job_id)
    assert (job.status, job.attempts) == ("succeeded", 2)
    assert service.faces.frames_seen == 250 + 150


async def test_a_cancelled_job_leaves_nothing_and_can_be_asked_for_again(service: IndexService) -> None:
    asset = await service.add(long_film(25))
    service.faces.hold_after = 150
    job_id = (await service.post_index(asset))["job_id"]
    async with service.working():
        await service.until(job_id, lambda job: job.checkpoint.get("parts") == 1)
        answer = await service.client.delete(f"/api/v1/jobs/{job_id}")
        assert answer.status_code == 202
        await asyncio.sleep(0.2)
        service.faces.released.set()
        assert (await service.ended(job_id)).status == "cancelled"
    assert await service.derived_objects(asset) == []
    assert (await _details(service, asset.asset_id))["index"]["status"] == "not_indexed"
    media_error(await service.get(asset, "traces"), 409, "NOT_INDEXED")
    assert service.faces.frames_seen < 250
    assert (await service.post_index(asset))["status"] == "queued"
    assert (await service.index(asset)).status == "succeeded"


async def test_an_index_that_was_removed_is_made_again_however_often(service: IndexService) -> None:
    asset = await service.add(film())
    jobs = []
    for _ in range(3):
        jobs.append((await service.index(asset)).job_id)
        assert (await service.post_index(asset))["job_id"] == jobs[-1]
        await service.context.people.delete_index(asset.asset_id)
        assert (await _details(service, asset.asset_id))["index"]["status"] == "not_indexed"
    assert len(set(jobs)) == 3


async def test_a_file_that_cannot_be_read_fails_with_the_reason(service: IndexService, tmp_path: Path) -> None:
    asset = await service.add(film())
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0" * 5000)
    await service.context.objects.put_file(asset.asset_id, broken, "video/mp4")
    job = await service.index(asset)
    assert (job.status, job.attempts) == ("failed", 1)
    assert job.error is not None
    assert "damaged" in job.error
    state = (await _details(service, asset.asset_id))["index"]
    assert (state["status"], state["job"]["error"]) == ("failed", job.error)
    media_error(await service.get(asset, "traces"), 409, "NOT_INDEXED")


async def test_a_file_that_is_gone_fails_with_the_reason(service: IndexService) -> None:
    asset = await service.add(film())
    await service.context.objects.delete(asset.asset_id)
    job = await service.index(asset)
    assert (job.status, job.error) == ("failed", "The file of this video is gone; upload it again.")


async def test_a_stage_that_fails_on_everything_fails_the_job(service: IndexService) -> None:
    asset = await service.add(long_film(25))
    service.faces.failing = [RuntimeError("a bug in /srv/secret.py")] * 1000
    job = await service.index(asset)
    assert (job.status, job.attempts) == ("failed", 1)
    assert job.error == "people/video_faces failed on this input."
    assert service.faces.frames_seen < 60
    assert await service.derived_objects(asset) == []


async def test_a_frame_on_which_a_stage_fails_is_left_out(service: IndexService) -> None:
    asset = await service.add(film())
    service.faces.failing = [InvalidInput("a strange frame"), RuntimeError("a bug")]
    job = await service.index(asset)
    assert job.status == "succeeded"
    assert job.result is not None
    assert job.result["detections"] == 86
    first = (await service.ok(asset, "traces"))["traces"][0]
    assert (first["first_frame"], first["last_frame"], first["face_count"]) == (2, 59, 29)


async def test_a_stage_that_is_away_is_waited_for(service: IndexService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "RETRY_PAUSES_S", (0.01,) * 3)
    asset = await service.add(film())
    service.faces.failing = [StageUnavailable("restarting")] * 10
    job = await service.index(asset)
    assert (job.status, job.attempts) == ("succeeded", 1)
    assert job.result is not None
    assert job.result["detections"] == 88


async def test_a_stage_that_stays_away_fails_the_job_after_its_retries(
    service: IndexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "RETRY_PAUSES_S", (0.01,))
    asset = await service.add(film())
    service.faces.failing = [StageUnavailable("It is restarting.")] * 1000
    job = await service.index(asset)
    assert (job.status, job.attempts) == ("failed", 3)
    assert job.error == "Gave up after 3 attempts. It is restarting."


async def test_deleting_a_file_ends_its_job_and_takes_all_away(service: IndexService) -> None:
    asset = await service.add(long_film(25))
    service.faces.hold_after = 150
    job_id = (await service.post_index(asset))["job_id"]
    async with service.working():
        await service.until(job_id, lambda job: job.checkpoint.get("parts") == 1)
        await Library(service.context).delete(asset.asset_id)
        await asyncio.sleep(0.3)
        service.faces.released.set()
    assert (await service.client.get(f"/api/v1/jobs/{job_id}")).status_code == 404
    assert [info.key async for info in service.context.objects.list()] == []
    assert await service.context.people.get_index(asset.asset_id) is None
    assert await service.context.people.list_identities() == []


async def test_a_file_that_is_being_deleted_is_not_indexed_on(service: IndexService) -> None:
    asset = await service.add(long_film(25))
    service.faces.hold_after = 50
    job_id = (await service.post_index(asset))["job_id"]
    async with service.working():
        await service.until(job_id, lambda _: service.faces.frames_seen == 50)
        await service.context.documents.mark_deleting(asset.asset_id)
        service.faces.released.set()
        job = await service.ended(job_id)
    assert (job.status, job.error) == ("failed", "The file was deleted while it was being indexed.")
    assert service.faces.frames_seen < 250
    assert await service.derived_objects(asset) == []


async def test_a_file_deleted_at_the_very_end_has_no_index(
    service: IndexService, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = await service.add(film())
    put = service.context.people.put_index

    async def late(*arguments: Any) -> None:
        await service.context.documents.mark_deleting(asset.asset_id)
        await put(*arguments)

    monkeypatch.setattr(service.context.people, "put_index", late)
    job = await service.index(asset)
    assert (job.status, job.error) == ("failed", "The file was deleted while it was being indexed.")
    assert await service.context.people.get_index(asset.asset_id) is None
    assert await service.context.people.list_identities() == []


async def test_an_indexed_file_takes_its_index_with_it_and_comes_back_without(service: IndexService) -> None:
    data = film()  # once: an encoder need not give the same bytes twice
    asset = await service.indexed(data)
    assert (await service.get(asset, "trace/1/thumbnail")).status_code == 200
    assert len(await service.derived_objects(asset)) == 2
    await Library(service.context).delete(asset.asset_id)
    assert await service.context.people.get_index(asset.asset_id) is None
    assert await service.derived_objects(asset) == []
    media_error(await service.get(asset, "traces"), 404, "ASSET_NOT_FOUND")
    await service.add(data)
    media_error(await service.get(asset, "traces"), 409, "NOT_INDEXED")
    assert (await service.post_index(asset))["status"] == "queued"
    assert (await service.index(asset)).status == "succeeded"


async def test_other_models_are_another_job(service: IndexService) -> None:
    asset = await service.add(film())
    old = await service.post_index(asset)
    service.faces.version = "dummy@00000009"
    new = await service.post_index(asset)
    assert new["job_id"] != old["job_id"]
    async with service.working():
        outdated, current = await service.ended(old["job_id"]), await service.ended(new["job_id"])
    assert current.status == "succeeded"
    assert outdated.status == "failed"
    assert outdated.error is not None
    assert "models changed after this job was submitted" in outdated.error


async def test_indexing_again_keeps_identities(service: IndexService) -> None:
    asset = await service.indexed()
    before = {person["identity_uuid"] for person in (await service.ok(asset, "identities"))["identities"]}
    await service.ok(asset, "trace/1/representative-face")
    assert len(await service.derived_objects(asset)) == 2
    service.faces.version = "dummy@00000009"
    job = await service.index(asset)
    assert job.result is not None
    assert job.result["new_identities"] == 0
    after = (await service.ok(asset, "identities"))["identities"]
    assert {person["identity_uuid"] for person in after} == before
    assert len((await service.people("GET"))["identities"]) == 3
    assert await service.derived_objects(asset) == []


async def test_a_state_of_an_index_while_it_is_renewed(service: IndexService) -> None:
    asset = await service.indexed()
    service.faces.version = "dummy@00000009"
    await service.post_index(asset)
    state = (await _details(service, asset.asset_id))["index"]
    assert (state["status"], state["trace_count"]) == ("queued", 4)
    assert len((await service.ok(asset, "traces"))["traces"]) == 4


async def _details(service: IndexService, file_uuid: str) -> Any:
    answer = await service.client.get(f"/api/v1/file/{file_uuid}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def _worker_process(home: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.graphs.indexing"], cwd=ROOT, env=os.environ | {"VISION_HOME": str(home)}
    )
