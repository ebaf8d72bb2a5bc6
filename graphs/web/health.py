"""Health of the whole service: one body that the clients of every API can read."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from graphs.web.context import Clock, Context, Timer
from stores.errors import StoreError
from vision.errors import StageError

PATIENCE_S = 5.0
ALIASES = ("/api/v1/health", "/v1/health")
HEALTH_PATHS = frozenset({"/health", *ALIASES, "/livez", "/readyz"})
"""Answered without a key, and however much there is to do."""


class Gpu(BaseModel):
    """GPU of the embedding stage; memory in bytes, None without one."""

    available: bool
    device_name: str | None
    memory_total: int | None
    memory_used: int | None
    memory_free: int | None


class ModelState(BaseModel):
    """The embedding model."""

    loaded: bool
    name: str | None
    device: str | None


class StoreState(BaseModel):
    """Whether a store answers."""

    connected: bool
    type: str


class StageState(BaseModel):
    """One stage of the graph; one that is ``on_demand`` and not loaded starts with its first request."""

    name: str
    loaded: bool
    on_demand: bool
    load_time_ms: float | None
    error: str | None


class Detectors(BaseModel):
    """Whether the models of the authenticity API are loaded, or would be by the first request."""

    visual_detector: bool
    forensic_analyzer: bool
    audio_detector: bool


class ServiceHealth(BaseModel):
    """``ok``: everything answers; ``degraded``: something does not; ``unhealthy``: the documents or objects do not."""

    status: Literal["ok", "healthy", "degraded", "unhealthy"]
    timestamp: datetime
    version: str
    environment: str
    uptime_seconds: float
    gpu: Gpu
    model: ModelState
    database: StoreState
    storage: StoreState
    cache: StoreState
    models: list[StageState]
    processing_time: float


class Health(ServiceHealth):
    """As the asset, photo and muzzle APIs have it."""

    models_loaded: list[int] = Field(description="ids of the muzzle models that are loaded; of 60, 62 and 64")


class ApiHealth(ServiceHealth):
    """As the asset and authenticity APIs have it under /api/v1: ``ok`` is ``healthy`` where the latter is served."""

    models_loaded: Detectors | None


async def stage_infos(context: Context, keys: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """What stages say of themselves; one that does not answer in time is not loaded, with that as its error."""

    async def ask(key: str) -> dict[str, Any]:
        try:
            return await context.stages[key].info(PATIENCE_S)
        except StageError as error:
            # Health tells what is wrong rather than failing with it; the class is enough, its text may be internal.
            return {"stage": key, "loaded": False, "error": f"no answer ({type(error.__cause__ or error).__name__})"}

    keys = list(context.stages if keys is None else keys)
    return dict(zip(keys, await asyncio.gather(*(ask(key) for key in keys)), strict=True))


async def answers(store: Any) -> bool:
    """Whether a store's ping comes back in time."""
    try:
        # The cache, which nothing depends on, answers with a bool; the others raise.
        return await asyncio.wait_for(store.ping(), PATIENCE_S) is not False
    except (StoreError, TimeoutError):
        return False


def _detectors(infos: Mapping[str, dict[str, Any]]) -> Detectors | None:
    def ready(*keys: str) -> bool:
        return all(infos[key].get("loaded") or infos[key].get("on_demand") for key in keys)

    if "forensics/visual" not in infos:
        return None
    return Detectors(
        visual_detector=ready("forensics/visual"),
        forensic_analyzer=ready("forensics/signal"),
        audio_detector=ready("forensics/speech", "forensics/voice"),
    )


def health_router(context: Context) -> APIRouter:
    """/health for people and clients, /livez and /readyz for schedulers."""
    router = APIRouter(tags=["service"])

    async def state(clock: Clock) -> tuple[ServiceHealth, dict[str, dict[str, Any]]]:
        infos, documents, objects, cache = await asyncio.gather(
            stage_infos(context), answers(context.documents), answers(context.objects), answers(context.cache)
        )
        embed = infos.get("embed/dinov3", {})
        everything = documents and objects and (cache or context.cache.type == "none")
        muzzle = infos.get("muzzle/ensemble", {})
        loaded = all(info.get("loaded") or info.get("on_demand") for info in infos.values())
        loaded = loaded and not muzzle.get("missing")
        found = ServiceHealth(
            status="unhealthy" if not (documents and objects) else "ok" if everything and loaded else "degraded",
            timestamp=datetime.now(UTC),
            version=version("visiongraph"),
            environment=context.settings.environment,
            uptime_seconds=round(time.monotonic() - context.started_at, 1),
            gpu=Gpu.model_validate(
                embed.get("gpu")
                or {
                    "available": False,
                    "device_name": None,
                    "memory_total": None,
                    "memory_used": None,
                    "memory_free": None,
                }
            ),
            model=ModelState(
                loaded=bool(embed.get("loaded")), name=embed.get("model_version"), device=embed.get("device")
            ),
            database=StoreState(connected=documents, type=context.documents.type),
            storage=StoreState(connected=objects, type=context.objects.type),
            cache=StoreState(connected=cache, type=context.cache.type),
            models=[
                StageState(
                    name=key,
                    loaded=bool(info.get("loaded")),
                    on_demand=bool(info.get("on_demand")),
                    load_time_ms=None if info.get("load_s") is None else info["load_s"] * 1000,
                    error=info.get("error"),
                )
                for key, info in infos.items()
            ],
            processing_time=clock.seconds,
        )
        return found, infos

    async def health(clock: Timer) -> Health:
        """State of the models, the stores and the device."""
        found, infos = await state(clock)
        loaded = infos.get("muzzle/ensemble", {}).get("models_loaded", [])
        return Health(**dict(found), models_loaded=loaded)

    async def api_health(clock: Timer) -> ApiHealth:
        """State of the models, the stores and the device."""
        found, infos = await state(clock)
        detectors = _detectors(infos)
        if found.status == "ok" and detectors is not None:
            found = found.model_copy(update={"status": "healthy"})
        return ApiHealth(**dict(found), models_loaded=detectors)

    for path in ("/health", "/v1/health"):
        router.add_api_route(path, health, methods=["GET"], include_in_schema=path == "/health")
    router.add_api_route("/api/v1/health", api_health, methods=["GET"], include_in_schema=False)

    @router.get("/livez", response_class=JSONResponse)
    async def livez() -> Response:
        """200 while this process answers."""
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", response_class=JSONResponse)
    async def readyz() -> Response:
        """200 when requests can be served: documents and objects answer and the embedding model is loaded."""
        documents, objects, infos = await asyncio.gather(
            answers(context.documents), answers(context.objects), stage_infos(context, ["embed/dinov3"])
        )
        waiting = [
            name
            for name, ready in [
                ("documents", documents),
                ("objects", objects),
                ("embed/dinov3", bool(infos.get("embed/dinov3", {}).get("loaded"))),
            ]
            if not ready
        ]
        if waiting:
            return JSONResponse({"status": "waiting", "for": waiting}, status_code=503, headers={"retry-after": "2"})
        return JSONResponse({"status": "ready"})

    return router
