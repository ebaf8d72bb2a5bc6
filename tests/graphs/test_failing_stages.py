"""Stages that are dead, full, slow or broken: what clients get, and that nothing else fails."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.serving.handle import StageHandle
from graphs.assets import features
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import error_of, picture

BODIES: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "extract-features": lambda ids: {"asset_id": ids[0]},
    "calculate-similarity": lambda ids: {"asset_id_1": ids[0], "asset_id_2": ids[1]},
    "find-best-match": lambda ids: {"reference_asset_id": ids[0], "candidate_asset_ids": ids},
    "batch-similarity": lambda ids: {"asset_ids": ids},
    "semantic-search": lambda ids: {"query_asset_id": ids[0]},
    "anomaly-detection": lambda ids: {"reference_asset_ids": ids, "test_asset_ids": ids},
    "feature-clustering": lambda ids: {"asset_ids": ids},
    "analyze-quality": lambda ids: {"asset_id": ids[0]},
    "analyze-image-metrics": lambda ids: {"asset_id": ids[0]},
    "analyze-image-composition": lambda ids: {"asset_id": ids[0]},
}
DEAD = ActorUnavailableError("node 10.1.2.3 of host gpu-7.internal is gone", None)
AWAY = DeploymentUnavailableError(DeploymentID("dinov3", "embed"))
FULL = BackPressureError(num_queued_requests=64, max_queued_requests=64)
BROKEN = RayTaskError("run", "Traceback of /srv/app/secret.py", ValueError("secret"))

FAILURES = [
    (DEAD, 503, "STAGE_UNAVAILABLE"),
    (AWAY, 503, "STAGE_UNAVAILABLE"),
    (FULL, 429, "OVERLOADED"),
    (BROKEN, 500, "PROCESSING_FAILED"),
]


def failing(key: str, error: Exception) -> StageHandle:
    """Return a handle to a stage that cannot be called."""

    async def call(*_: Any) -> Any:
        raise error

    return StageHandle(key, call, call, attempts=1)


def break_stage(service: Service, key: str, error: Exception) -> None:
    """Make every call to a stage fail, also those that are waiting."""
    handle = service.context.stages[key]
    broken = failing(key, error)
    handle._call, handle._info, handle._attempts = broken._call, broken._info, broken._attempts


@pytest.fixture
async def ids(service: Service) -> list[str]:
    """Upload pictures; the first three have features already."""
    uploaded = [await service.upload(picture(seed)) for seed in range(4)]
    await service.post("batch-similarity", asset_ids=uploaded[:3])
    return uploaded


async def test_the_asset_over_which_a_replica_was_lost_is_named(
    service: Service, ids: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    break_stage(service, "embed/dinov3", ActorUnavailableError("gone", None))
    error_of(await service.try_post("extract-features", asset_id=ids[3]), 503, "STAGE_UNAVAILABLE")
    lost = [record.getMessage() for record in caplog.records if "was lost" in record.getMessage()]
    assert len(lost) == 2
    assert all(ids[3] in message for message in lost)


@pytest.mark.parametrize(("error", "status", "code"), FAILURES)
async def test_a_model_that_fails(service: Service, ids: list[str], error: Exception, status: int, code: str) -> None:
    break_stage(service, "embed/dinov3", error)
    for route, body in BODIES.items():
        answer = await service.try_post(route, **body([ids[3], ids[0], ids[1]]))
        if error is BROKEN and route in ("batch-similarity", "anomaly-detection", "feature-clustering"):
            failed = {"asset_id": ids[3], "error": "embed/dinov3 failed on this input."}
            assert (answer.status_code, answer.json()["failed_assets"]) == (200, [failed])
        else:
            error_of(answer, status, code)
        for secret in ("internal", "10.1.2.3", "secret"):
            assert secret not in answer.text
        await service.post(route, **body(ids[:3]))
    assert (await service.get(f"media/{ids[3]}"))["processing_status"] == "uploaded"


@pytest.mark.parametrize(
    ("route", "key"),
    [
        ("semantic-search", "analysis/nearest"),
        ("anomaly-detection", "analysis/anomalies"),
        ("feature-clustering", "analysis/clusters"),
        ("analyze-quality", "quality/nima"),
        ("analyze-image-metrics", "quality/exposure"),
        ("analyze-image-composition", "quality/composition"),
    ],
)
async def test_a_step_that_fails(service: Service, ids: list[str], route: str, key: str) -> None:
    handle = service.context.stages[key]
    for error, status, code in FAILURES:
        service.context.stages[key] = failing(key, error)
        error_of(await service.try_post(route, **BODIES[route](ids)), status, code)
        health = await service.get("health")
        (state,) = [stage for stage in health["models"] if stage["name"] == key]
        assert (state["loaded"], state["error"]) == (False, f"no answer ({type(error).__name__})")
        assert health["status"] == "degraded"
    service.context.stages[key] = handle
    await service.post(route, **BODIES[route](ids))


@pytest.mark.parametrize("error", [DEAD, FULL, BROKEN])
async def test_a_model_that_was_never_seen(settings_for: MakeSettings, serve: Serve, error: Exception) -> None:
    """A gateway that starts while the model is away."""
    async with serve(settings_for()) as service:
        break_stage(service, "embed/dinov3", error)
        asset_id = await service.upload(picture(1))
        assert (await service.uploaded(picture(1)))["duplicate"] is True
        assert (await service.get(f"media/{asset_id}"))["features_extracted"] is False
        for route, body in BODIES.items():
            error_of(await service.try_post(route, **body([asset_id] * 2)), 503, "STAGE_UNAVAILABLE")
        error_of(await service.try_post("preprocess-image", asset_id=asset_id), 503, "STAGE_UNAVAILABLE")
        assert (await service.get("health"))["model"]["loaded"] is False
        assert (await service.client.get("/readyz")).status_code == 503
        assert (await service.delete(asset_id))["deleted"] is True


async def test_a_delete_does_not_need_the_index(service: Service, ids: list[str]) -> None:
    handle = service.context.stages["analysis/nearest"]
    query, gone = ids[:2]
    await service.post("semantic-search", query_asset_id=query)
    service.context.stages["analysis/nearest"] = failing("analysis/nearest", DEAD)
    assert (await service.delete(gone))["deleted"] is True
    service.context.stages["analysis/nearest"] = handle
    answer = await service.post("semantic-search", query_asset_id=query)
    assert [hit["asset_id"] for hit in answer["search_results"]] == [ids[2]]


async def test_a_model_that_hangs_ends_with_the_request(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(request_timeout_s=0.3)) as service:
        asset_id = await service.upload(picture(1))
        handle = service.context.stages["embed/dinov3"]

        async def hang(*_: Any) -> Any:
            await asyncio.Event().wait()

        call, handle._call = handle._call, hang
        answer = await service.try_post("extract-features", asset_id=asset_id)
        assert "embed/dinov3" in error_of(answer, 504, "DEADLINE_EXCEEDED")["message"]
        handle._call = call
        assert len((await service.post("extract-features", asset_id=asset_id))["features"]) == 384


async def test_a_model_that_never_says_what_it_is_ends_with_the_request(
    settings_for: MakeSettings, serve: Serve
) -> None:
    async with serve(settings_for(request_timeout_s=0.3)) as service:
        asset_id = await service.upload(picture(1))

        async def hang() -> Any:
            await asyncio.Event().wait()

        service.context.stages["embed/dinov3"]._info = hang
        answer = await service.try_post("extract-features", asset_id=asset_id)
        error_of(answer, 503, "STAGE_UNAVAILABLE")


async def test_a_model_that_goes_away_is_still_known(
    service: Service, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "INFO_TTL_S", -1)
    break_stage(service, "embed/dinov3", DEAD)
    answer = await service.post("extract-features", asset_id=ids[0])
    assert (answer["cached"], answer["model_version"]) == (True, "dummy@00000000")


async def test_more_requests_than_the_gateway_takes(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(max_requests_at_once=2)) as service:
        asset_id = await service.upload(picture(1))
        handle, started, go = service.context.stages["embed/dinov3"], asyncio.Event(), asyncio.Event()
        call = handle._call

        async def slow(items: list[Any], deadline: float | None) -> list[Any]:
            started.set()
            await go.wait()
            return await call(items, deadline)

        handle._call = slow
        running = [asyncio.create_task(service.post("extract-features", asset_id=asset_id)) for _ in range(2)]
        await started.wait()
        error_of(await service.try_post("extract-features", asset_id=asset_id), 429, "OVERLOADED")
        error_of(await service.send(picture(2)), 429, "OVERLOADED")
        for path in ("/livez", "/readyz", "/health", "/api/v1/health"):
            assert (await service.client.get(path)).status_code == 200
        go.set()
        for answer in await asyncio.gather(*running):
            assert answer["asset_id"] == asset_id
        await service.post("extract-features", asset_id=asset_id)
