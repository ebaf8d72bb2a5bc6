"""No detector of objects, as it has no weights here or is not wanted: all else works, and what is missing is said."""

import io
import re
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import av
import pytest

from configs import settings as settings_module
from graphs.indexing.objects import NOT_WANTED
from stores.records import Asset
from tests.dummies.objects import DummyDetector
from tests.dummies.video import DummyVideoFaces
from tests.graphs.harness import LEAKS, configured, handles, serving
from tests.graphs.indexing import DUMMIES, REAL, IndexService, Shot, film
from tests.graphs.media import media_error
from vision.weights import SourceError
from vision.weights import store as weights

# Ada and Bob are together from frame 20 on, and a dog is with them.
SCENE: tuple[Shot, ...] = (
    (
        *(50,),
        {"ada": (0, 49, (10, 2), (60, 4)), "bob": (20, 49, (150, 2), (110, 4)), "dog": (0, 49, (10, 70), (100, 74))},
    ),
)
FILMS = [("mp4", 25), ("matroska", 25), ("mov", 50)]


@pytest.fixture
async def unwanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IndexService]:
    config = configured(monkeypatch, tmp_path, index_objects="false")
    async with (
        handles(*REAL, *DUMMIES) as stages,
        serving(IndexService, config, ["media", "shots", "jobs"], stages, faces=DummyVideoFaces.running) as made,
    ):
        yield made
    settings_module.settings.cache_clear()


@pytest.fixture
async def weightless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IndexService]:
    def unreachable(*_: Any, **__: Any) -> NoReturn:
        raise SourceError("the connection failed (ConnectError)")

    for source in ("fetch_url", "fetch_wheel"):
        monkeypatch.setattr(import_module("vision.weights.store"), source, unreachable)
    monkeypatch.setattr(import_module("vision.weights.store").Hub, "fetch", unreachable)
    config = configured(monkeypatch, tmp_path, models_dir=tmp_path / "none", models_cache=tmp_path / "cache")
    weights.cache_clear()
    others = [dummy for dummy in DUMMIES if dummy is not DummyDetector]
    async with (
        handles(*REAL, *others, "objects/detector") as stages,
        serving(IndexService, config, ["media", "shots", "jobs"], stages, faces=DummyVideoFaces.running) as made,
    ):
        yield made
    settings_module.settings.cache_clear()
    weights.cache_clear()


async def everything_else_works(service: IndexService, asset: Asset) -> str:
    """Why there are no objects, of a film that is indexed; its people and shots are there."""
    state = (await service.client.get(f"/api/v1/file/{asset.asset_id}")).json()["index"]
    assert (state["status"], state["trace_count"], state["object_models"]) == ("succeeded", 2, None)
    assert set(state["unavailable"]) == {"objects"}
    reason: str = state["unavailable"]["objects"]
    assert not any(leak in reason for leak in LEAKS)
    assert "\n" not in reason
    assert (await service.post_index(asset))["unavailable"] == {"objects": reason}
    for route in ("objects", "object/1", "object/1/thumbnail"):
        assert media_error(await service.get(asset, route), 503, "MODEL_NOT_LOADED") == reason
    answer = await service.get(asset, "co-occurrence", a="class:dog", b="trace:1")
    assert media_error(answer, 503, "MODEL_NOT_LOADED") == reason
    together = await service.ok(asset, "co-occurrence", a="trace:1", b="trace:2")
    assert (together["a"]["seen_by"], together["a"]["frames_without_face"]) == ("face", 0)
    assert together["total_cooccurrence_frames"] > 20
    overlay = await service.get(asset, "video/bbox", start_frame=0, end_frame=3, audio="off")
    with av.open(io.BytesIO(overlay.content)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4
    assert (await service.get(asset, "video/bbox.m3u8", classes="face")).status_code == 200
    assert (await service.get(asset, "trace/1/thumbnail")).status_code == 200
    stored = await service.context.shots.get_analysis(asset.asset_id)
    assert stored is not None
    assert len(stored.shots) == 1
    return reason


@pytest.mark.parametrize(("form", "fps"), FILMS)
async def test_objects_that_nobody_wants(unwanted: IndexService, form: str, fps: int) -> None:
    looked = DummyDetector.running.calls
    asset = await unwanted.indexed(film(SCENE, fps, form))
    assert await everything_else_works(unwanted, asset) == NOT_WANTED
    assert DummyDetector.running.calls == looked
    health = (await unwanted.client.get("/health")).json()
    assert health["status"] == "ok"


@pytest.mark.parametrize(("form", "fps"), FILMS)
async def test_objects_without_weights(weightless: IndexService, form: str, fps: int) -> None:
    asset = await weightless.indexed(film(SCENE, fps, form))
    reason = await everything_else_works(weightless, asset)
    assert re.search(r"`visiongraph models pull \S+`", reason)
    health = (await weightless.client.get("/health")).json()
    (detector,) = [each for each in health["models"] if each["name"] == "objects/detector"]
    assert (health["status"], detector["loaded"]) == ("degraded", False)
    assert "rtdetr" in detector["error"]
    assert (await weightless.client.get("/readyz")).status_code == 200
