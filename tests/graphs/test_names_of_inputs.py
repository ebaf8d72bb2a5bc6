"""What the log calls the input over which a replica was lost, on routes of every API."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from ray.exceptions import ActorUnavailableError

from configs import settings as settings_module
from deployments.serving.handle import MAX_NAME, subject, work_on
from graphs.jobs.runner import JobRun, Timing
from stores.jobs import Json, new_job
from tests.graphs.authenticity import saved, scene, serving_authenticity
from tests.graphs.conftest import Service as PhotoService
from tests.graphs.harness import Service, configured
from tests.graphs.media import film, serving_media, url
from tests.graphs.muzzle import muzzle, serving_muzzle, text
from tests.graphs.photos import data_of, textured

Lose = Callable[..., None]


def stream_of_a_lost_replica(*_: object) -> object:
    raise ActorUnavailableError("gone", None)


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Lose:
    """Has stages of a service lose a replica at every call and stream: ``lose(service, "media/frames")``."""

    async def call(*_: object) -> list[object]:
        raise ActorUnavailableError("gone", None)

    def patch(service: Service, *keys: str) -> None:
        for key in keys:
            monkeypatch.setattr(service.context.stages[key], "_call", call)
            monkeypatch.setattr(service.context.stages[key], "_open_stream", stream_of_a_lost_replica)

    return patch


@pytest.fixture
def lost(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if "was lost" in record.getMessage()]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_streams_and_thumbnails_name_their_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lose: Lose, lost: Callable[[], list[str]]
) -> None:
    async with serving_media(configured(monkeypatch, tmp_path)) as service:
        asset = await service.add(film("b-frames"))
        lose(service, "media/frames")
        assert (await service.get(asset, "thumbnail", frame=3)).status_code == 503
        assert len(lost()) == 2
        monkeypatch.setattr(service.context.stages["media/clips"], "_open_stream", stream_of_a_lost_replica)
        query = {"start_frame": 0, "end_frame": 5}
        assert (await service.client.get(url(asset, "clip"), params=query)).status_code == 503
    assert len(lost()) >= 3
    assert all(asset.asset_id in message for message in lost())
    settings_module.settings.cache_clear()


async def test_photos_are_named_by_hash_and_id(
    service: PhotoService, lose: Lose, lost: Callable[[], list[str]]
) -> None:
    lose(service, "quality/blur")
    picture = textured(120)
    flags = {"run_quality": False, "run_emotion": False, "run_embedding": False}
    assert (await service.try_photo("analyze", image=data_of(picture, "beach"), **flags)).status_code == 503
    await service.try_photo("analyze/batch", images=[data_of(picture, "hut"), data_of(textured(90))], **flags)
    messages = lost()
    assert any(f"photo {sha256(picture)}, beach" in message for message in messages)
    assert any(f"photo {sha256(picture)}, hut" in message for message in messages)
    assert any(sha256(textured(90)) in message for message in messages)


async def test_analyzed_files_and_muzzle_photos_are_named_by_their_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lose: Lose, lost: Callable[[], list[str]]
) -> None:
    config = configured(monkeypatch, tmp_path)
    async with serving_authenticity(config) as judging:
        lose(judging, *judging.context.stages)
        picture = saved(scene("ada"))
        await judging.send("image", picture)
    async with serving_muzzle(config) as animals:
        lose(animals, "muzzle/ensemble")
        photos = [muzzle(1, place) for place in range(3)]
        answer: httpx.Response = await animals.client.post(
            "/animals", json={"animal_id": "cow", "photos": [text(photo) for photo in photos]}
        )
        assert answer.status_code == 503
    messages = " ".join(lost())
    assert all(sha256(data) in messages for data in (picture, *photos))
    assert "unnamed" not in messages
    settings_module.settings.cache_clear()


async def test_a_job_names_its_subject() -> None:
    names: list[str] = []

    async def work(_: object) -> Json:
        names.append(subject.get())
        return {}

    run = JobRun(None, new_job("index", "film 7", "f", {}), work, "me", 0.0, Timing())  # type: ignore[arg-type]
    await run._work()
    assert names == ["film 7"]


def test_names_of_strangers_stay_on_one_short_line() -> None:
    work_on("a\nERROR forged", "x" * 1000, *map(str, range(9)))
    assert subject.get() == f"'a\\nERROR forged', {ascii('x' * 1000)[:MAX_NAME]}, 0, 1, 2 and 6 more"
    work_on()
