"""health, model-info, livez and readyz: what they say when all is well, and when something is not."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

import pytest

from configs.settings import Settings
from deployments.serving.handle import AnyHandle, StageHandle
from deployments.serving.runner import StageRunner
from graphs.web.api import find_apis
from graphs.web.gateway import GatewayArgs, gateway
from stores.errors import StoreError, StoreFull
from tests.dummies import PREPROCESS, DummyEmbed
from tests.graphs import harness
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.harness import handles, serving
from tests.graphs.samples import error_of, picture
from vision.errors import ModelNotLoaded

STAGES = {key for name in ("assets", "photos") for key in find_apis()[name].stage_keys}
"""Of the APIs that the test service serves."""


async def test_all_is_well(service: Service) -> None:
    health = await service.get("health")
    # Under /api/v1 it is of the detectors of fakes, elsewhere of the muzzle models; neither is served here.
    assert health["models_loaded"] is None
    plain = (await service.client.get("/health")).json()
    assert plain["models_loaded"] == (await service.client.get("/v1/health")).json()["models_loaded"] == []
    assert health == {**plain, **_moving(health), "models_loaded": None}
    assert (health["status"], health["version"]) == ("ok", version("visiongraph"))
    assert health["model"] == {"loaded": True, "name": "dummy@00000000", "device": "cpu"}
    assert health["database"] == {"connected": True, "type": "sqlite"}
    assert health["storage"] == {"connected": True, "type": "file"}
    assert health["cache"] == {"connected": True, "type": "redis"}
    assert health["gpu"]["available"] is False
    stages = {stage["name"]: (stage["loaded"], stage["error"]) for stage in health["models"]}
    assert stages == dict.fromkeys(STAGES, (True, None))
    assert (await service.client.get("/livez")).json() == {"status": "ok"}
    assert (await service.client.get("/readyz")).json() == {"status": "ready"}


def _moving(health: dict[str, Any]) -> dict[str, Any]:
    return {name: health[name] for name in ("timestamp", "uptime_seconds", "processing_time")}


async def test_the_model_says_what_it_is(service: Service) -> None:
    info = await service.get("model-info")
    config = info["model_config"]
    assert (config["model_name"], config["model_version"]) == ("dummy", "dummy@00000000")
    assert (config["embedding_dim"], config["device"], config["centred"]) == (384, "cpu", True)
    assert (config["architecture"], config["engine"]) == ("thumbnail", "numpy")
    assert [name for name, there in info["capabilities"].items() if not there] == ["text_search"]
    assert "visiongraph models pull" in info["unavailable"]["text_search"]
    assert info["limits"]["max_batch_assets"] == 100
    assert info["status"] == "ready"
    assert info["stages"]["embed/dinov3"]["preprocess"] == PREPROCESS
    assert info["stages"]["analysis/clusters"]["methods"] == ["kmeans", "dbscan", "agglomerative", "hdbscan"]
    assert info["stages"]["analysis/anomalies"]["min_reference_assets"] == 2
    assert info["stages"]["analysis/nearest"]["store"] == "lance"
    assert set(info["stages"]) == set(service.context.stages)  # of all APIs


async def test_nothing_tells_where_things_are(service: Service) -> None:
    place = str(service.context.settings.home)
    for route in ("health", "model-info", "config"):
        answer = await service.client.get(f"/{route}")
        for secret in (place, "/tmp", "unix://", "sqlite://", "file://", "@/"):
            assert secret not in answer.text


class Unloaded(DummyEmbed):
    def load(self) -> None:
        raise ModelNotLoaded("no verified weights for dummy\n- dummy, folder here: not there")


async def test_without_weights_there_is_no_answer(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings_for()
    monkeypatch.setattr(DummyEmbed, "load", Unloaded.load)
    DummyEmbed.running = DummyEmbed(DummyEmbed.config_class())
    async with serve(config) as service:
        health = await service.get("health")
        assert (health["status"], health["model"]["loaded"]) == ("degraded", False)
        (embed,) = [stage for stage in health["models"] if stage["name"] == "embed/dinov3"]
        assert (embed["loaded"], "no verified weights" in embed["error"]) == (False, True)
        waiting = await service.client.get("/readyz")
        assert (waiting.status_code, waiting.json()["for"]) == (503, ["embed/dinov3"])
        assert waiting.headers["retry-after"] == "2"
        assert (await service.client.get("/livez")).status_code == 200
        info = await service.get("model-info")
        assert (info["status"], info["model_config"]["model_name"]) == ("not_loaded", None)
        there = [name for name, is_there in info["capabilities"].items() if is_there]
        assert there == ["composition_analysis", "maps", "object_detection"]
        assert "no verified weights" in info["unavailable"]["semantic_search"]

        asset_id = await service.upload(picture(1))
        assert (await service.get(f"media/{asset_id}"))["processing_status"] == "uploaded"
        for route in ("extract-features", "preprocess-image"):
            refused = await service.try_post(route, asset_id=asset_id)
            assert "no verified weights" in error_of(refused, 503, "MODEL_NOT_LOADED")["message"]
        refused = await service.try_post("batch-similarity", asset_ids=[asset_id])
        error_of(refused, 503, "MODEL_NOT_LOADED")
        await service.delete(asset_id)


async def test_a_stage_that_serves_without_a_part_of_its_models_is_degraded(service: Service) -> None:
    assert (await service.get("health"))["status"] == "ok"
    handle = service.context.stages["quality/nima"]
    ask = handle._info

    async def info() -> dict[str, Any]:
        return {**await ask(), "missing": ["no verified weights for one head", "nor for another"]}

    handle._info = info
    await asyncio.sleep(1.1)  # for so long a good answer is passed on
    health = await service.get("health")
    (nima,) = [stage for stage in health["models"] if stage["name"] == "quality/nima"]
    assert (health["status"], nima["loaded"]) == ("degraded", True)
    assert nima["error"] == "no verified weights for one head; nor for another"


WAITED_FOR = {
    "assets": ["embed/dinov3"],
    "photos": ["quality/blur"],
    "media": ["media/clips", "media/frames"],
    "shots": ["media/frames"],
    "muzzle": ["muzzle/ensemble"],
    "authenticity": ["forensics/signal"],
    "jobs": [],
}


@pytest.mark.parametrize("api", WAITED_FOR)
async def test_a_gateway_waits_for_what_its_own_apis_need(settings_for: MakeSettings, api: str) -> None:
    infos = {key: {"loaded": key not in WAITED_FOR[api]} for key in find_apis()[api].stage_keys}

    def handle(key: str) -> AnyHandle:
        async def info() -> dict[str, Any]:
            return infos[key]

        async def unused(*_: object) -> Any:
            raise NotImplementedError

        return StageHandle(key, unused, info)

    async with serving(harness.Service, settings_for(), [api], {key: handle(key) for key in infos}) as service:
        waiting = WAITED_FOR[api]
        for key, instead in zip(waiting, ({"loaded": True}, {"loaded": False, "on_demand": True}), strict=False):
            answer = await service.client.get("/readyz")
            assert (answer.status_code, answer.json()["for"]) == (503, waiting)
            infos[key], waiting = instead, waiting[1:]
        assert (await service.client.get("/readyz")).json() == {"status": "ready"}


ASLEEP: dict[str, Any] = {"loaded": False, "on_demand": True}


@pytest.mark.parametrize(
    ("info", "status", "fields"),
    [
        ({"loaded": False, "error": "Not configured: …", "configured": False}, "ok", {"configured": False}),
        (ASLEEP, "ok", {"configured": True, "on_demand": True}),
        (ASLEEP | {"error": "Not configured: …", "configured": False}, "ok", {"configured": False}),
        (ASLEEP | {"loaded": True}, "ok", {"loaded": True}),
        (ASLEEP | {"error": "no weights"}, "degraded", {"configured": True, "error": "no weights"}),
        ({"loaded": False, "error": "no weights"}, "degraded", {"loaded": False}),
    ],
)
async def test_what_is_optional_and_not_configured_is_no_fault(
    service: Service, monkeypatch: pytest.MonkeyPatch, info: dict[str, Any], status: str, fields: dict[str, Any]
) -> None:
    async def says() -> dict[str, Any]:
        return info

    monkeypatch.setattr(service.context.stages["language/describe"], "_info", says)
    for path in ("/health", "/v1/health", "/api/v1/health"):
        health = (await service.client.get(path)).json()
        (stage,) = [each for each in health["models"] if each["name"] == "language/describe"]
        assert (health["status"], {name: stage[name] for name in fields}) == (status, fields)
        assert ("since" in stage) == (status != "ok")
    assert (await service.client.get("/readyz")).status_code == 200
    stages = (await service.get("model-info"))["stages"]
    assert ("since" in stages["language/describe"]) == (status != "ok")


async def test_a_reviewer_without_any_key_is_not_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    async with handles("language/describe") as stages:
        info = await stages["language/describe"].info()
    assert (info["loaded"], info["configured"]) == (False, False)
    assert info["error"].startswith("Not configured: no provider has a key; set one of ANTHROPIC_API_KEY, ")


async def test_a_store_without_room_degrades_and_stays_ready(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full() -> None:
        raise StoreFull("/srv/vision: no space left")

    monkeypatch.setattr(service.context.objects, "check_room", full)
    health = (await service.client.get("/health")).json()
    storage = health["storage"]
    assert (health["status"], storage["connected"], storage["error"]) == ("degraded", True, "is full")
    assert "srv" not in str(health)
    ready = await service.client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "degraded": {"objects": "is full"}})
    assert (await service.client.get("/health")).json()["storage"]["since"] == storage["since"]
    monkeypatch.undo()
    assert (await service.client.get("/health")).json()["storage"] == {"connected": True, "type": "file"}


async def _unreachable(*_: Any) -> None:
    raise StoreError("mongodb db.internal.example:27017: refused")


@pytest.mark.parametrize(("store", "name"), [("documents", "database"), ("objects", "storage")])
async def test_a_store_that_is_away_makes_it_unhealthy(service: Service, store: str, name: str) -> None:
    getattr(service.context, store).ping = _unreachable
    answer = await service.client.get("/health")
    assert "internal" not in answer.text
    assert (answer.json()["status"], answer.json()[name]["connected"]) == ("unhealthy", False)
    ready = await service.client.get("/readyz")
    assert (ready.status_code, ready.json()["for"]) == (503, [store])


async def test_a_cache_that_is_away_degrades_and_fails_nothing(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(cache_url="unix:///nowhere/valkey.sock")) as service:
        health = await service.get("health")
        assert (health["status"], health["cache"]["connected"]) == ("degraded", False)
        assert (await service.client.get("/readyz")).status_code == 200
        asset_id = await service.upload(picture(1))
        for cached in (False, True):
            assert (await service.post("extract-features", asset_id=asset_id))["cached"] is cached
        await service.delete(asset_id)


async def test_no_cache_is_no_fault(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(cache_url="")) as service:
        health = await service.get("health")
        assert (health["status"], health["cache"]) == ("ok", {"connected": True, "type": "none"})


def test_a_gateway_refuses_apis_and_settings_that_do_not_exist(
    settings_for: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert GatewayArgs(apis=["assets"]).needed()[0] == "embed/dinov3"
    with pytest.raises(ValueError, match="no such API: asssets"):
        gateway({"apis": ["asssets"]})
    with pytest.raises(ValueError, match="Extra inputs"):
        gateway({"api": []})
    monkeypatch.setenv("VISION_MAX_IMAGE_BITES", "1")
    with pytest.raises(ValueError, match="VISION_MAX_IMAGE_BITES"):
        Settings()


async def test_a_health_answer_is_no_error_body(service: Service) -> None:
    error_of(await service.client.post("/health"), 405, "METHOD_NOT_ALLOWED")


async def test_it_says_what_it_runs_for_under_every_name(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(environment="staging")) as service:
        for path in ("/health", "/api/v1/health", "/v1/health"):
            assert (await service.client.get(path)).json()["environment"] == "staging"


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[threading.Event]:
    """Opens for the embedding stage of services that are made from now on, which is loading until then."""
    opened, load, made = threading.Event(), DummyEmbed.load, harness.local_handle
    runner = StageRunner(DummyEmbed)

    def slowly(stage: DummyEmbed) -> None:
        assert opened.wait(20)
        load(stage)

    async def handle(stage_class: Any, config: dict[str, Any] | None = None) -> AnyHandle:
        if stage_class is not DummyEmbed:
            return await made(stage_class, config)

        async def info() -> dict[str, Any]:
            return runner.info()

        await runner.accept({})
        return StageHandle(DummyEmbed.key, runner.run, info)

    monkeypatch.setattr(DummyEmbed, "load", slowly)
    monkeypatch.setattr(harness, "local_handle", handle)
    DummyEmbed.running = DummyEmbed(DummyEmbed.config_class())
    yield opened
    opened.set()
    await runner.close()


async def test_a_stage_that_loads_is_no_fault_and_its_requests_wait(
    settings_for: MakeSettings, serve: Serve, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings_for()
    with caplog.at_level(logging.INFO, "ray.serve"):
        async with serve(config) as service:
            assert (await service.client.get("/livez")).status_code == 200
            answer = await service.client.get("/readyz")
            assert (answer.status_code, answer.json()["for"]) == (503, ["embed/dinov3"])
            health = await service.get("health")
            assert health["status"] == "degraded"
            states = {stage["name"]: (stage["loaded"], stage["loading"]) for stage in health["models"]}
            assert states == {key: (key != "embed/dinov3", key == "embed/dinov3") for key in STAGES}
            first, second = await service.upload(picture(1)), await service.upload(picture(2))
            await service.delete(second)  # neither uploads nor deletes need a model
            features = asyncio.create_task(service.post("extract-features", asset_id=first))
            preprocessed = asyncio.create_task(service.post("preprocess-image", asset_id=first))
            await asyncio.sleep(0.05)
            assert not features.done()
            assert not preprocessed.done()
            gate.set()
            assert len((await features)["features"]) == 384
            assert (await preprocessed)["preprocessed"] is True
            assert (await service.client.get("/readyz")).status_code == 200
            assert (await service.get("health"))["status"] == "ok"
    assert [record.message for record in caplog.records if "does not work" in record.message] == []


async def test_a_request_that_ends_before_its_stage_is_loaded_says_so(
    settings_for: MakeSettings, serve: Serve, gate: threading.Event
) -> None:
    async with serve(settings_for(request_timeout_s=1)) as service:
        asset_id = await service.upload(picture(1))
        for route in ("extract-features", "preprocess-image"):
            answer = await service.try_post(route, asset_id=asset_id)
            error = error_of(answer, 503, "STAGE_UNAVAILABLE")
            assert error["message"] == "embed/dinov3 is still loading; try again in a few seconds."
            assert answer.headers["retry-after"] == "2"
        assert not gate.is_set()
