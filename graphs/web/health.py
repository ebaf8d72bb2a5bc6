"""Health of the whole service, in one body that the clients of every API can read, and whether it is ready."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from deployments.embed.dinov3 import DINOV3
from graphs.web.api import Api
from graphs.web.context import Clock, Context, Timer
from graphs.web.states import configured, usable

HEALTH_PATHS: Final = frozenset({"/health", "/api/v1/health", "/v1/health", "/livez", "/readyz"})
"""Answered without a key, and whatever the load."""


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


ERROR: Final = Field(default=None, description="why it cannot be used", exclude_if=lambda error: error is None)
SINCE: Final = Field(
    default=None,
    description="when the gateway that answers first saw the error",
    exclude_if=lambda since: since is None,
)


class StoreState(BaseModel):
    """Whether a store answers; ``error`` is also why nothing can be stored in one that does."""

    connected: bool
    type: str
    error: str | None = ERROR
    since: datetime | None = SINCE


class StageState(BaseModel):
    """One stage of the graph; one that is ``on_demand`` and not loaded starts with its first request.

    One that is loaded has an ``error`` where it serves without a part of its models.

    One that is ``loading`` answers when it is loaded; a request for it makes it the next to be. One that is not
    ``configured`` lacks what is optional, such as a provider's key; that is no fault.
    """

    name: str
    loaded: bool
    on_demand: bool
    loading: bool = False
    configured: bool = True
    load_time_ms: float | None
    error: str | None
    since: datetime | None = SINCE


class ServiceHealth(BaseModel):
    """``ok``: all that is configured works; ``degraded``: something does not; ``unhealthy``: documents or objects."""

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

    models_loaded: dict[str, bool] | None


NO_GPU: Final = Gpu(available=False, device_name=None, memory_total=None, memory_used=None, memory_free=None)


def health_router(context: Context, served: Sequence[Api]) -> APIRouter:
    """Serve /health for people and clients, /livez and /readyz for schedulers, for a gateway with these APIs."""
    router = APIRouter(tags=["service"])
    ready_keys = list(dict.fromkeys(ref.key for api in served for ref in api.ready_stages))

    async def state(clock: Clock) -> tuple[ServiceHealth, dict[str, Any]]:
        states = context.states
        infos, documents, objects, cache = await asyncio.gather(
            states.stages(), states.store("documents"), states.store("objects"), states.store("cache")
        )
        embed = infos.get(DINOV3.key, {})
        own: dict[str, Any] = {}
        for api in served:
            own |= api.health(infos)
        complete = (
            (cache["error"] is None or context.cache.type == "none")
            and documents["error"] is None
            and objects["error"] is None
            and all(usable(info) and not info.get("missing") for info in infos.values() if configured(info))
        )
        health = ServiceHealth(
            status="unhealthy"
            if not (documents["connected"] and objects["connected"])
            else "ok"
            if complete
            else "degraded",
            timestamp=datetime.now(UTC),
            version=version("visiongraph"),
            environment=context.settings.environment,
            uptime_seconds=round(time.monotonic() - context.started_at, 1),
            gpu=Gpu.model_validate(embed.get("gpu") or NO_GPU),
            model=ModelState(
                loaded=bool(embed.get("loaded")), name=embed.get("model_version"), device=embed.get("device")
            ),
            database=StoreState.model_validate(documents),
            storage=StoreState.model_validate(objects),
            cache=StoreState.model_validate(cache),
            models=[
                StageState(
                    name=key,
                    loaded=bool(info.get("loaded")),
                    on_demand=bool(info.get("on_demand")),
                    loading=bool(info.get("loading")),
                    configured=configured(info),
                    load_time_ms=None if info.get("load_s") is None else info["load_s"] * 1000,
                    error=info.get("error") or "; ".join(info.get("missing") or ()) or None,
                    since=info.get("since"),
                )
                for key, info in infos.items()
            ],
            processing_time=clock.seconds,
        )
        return health, own

    async def health(clock: Timer) -> Health:
        """State of the models, the stores and the device."""
        service, own = await state(clock)
        return Health(**dict(service), models_loaded=own.get("muzzle_models", []))

    async def api_health(clock: Timer) -> ApiHealth:
        """State of the models, the stores and the device."""
        service, own = await state(clock)
        detectors = own.get("detectors")
        if service.status == "ok" and detectors is not None:
            service = service.model_copy(update={"status": "healthy"})
        return ApiHealth(**dict(service), models_loaded=detectors)

    for path in ("/health", "/v1/health"):
        router.add_api_route(path, health, methods=["GET"], include_in_schema=path == "/health")
    router.add_api_route("/api/v1/health", api_health, methods=["GET"], include_in_schema=False)

    @router.get("/livez", response_class=JSONResponse)
    async def livez() -> Response:
        """200 while this process answers."""
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", response_class=JSONResponse)
    async def readyz() -> Response:
        """200 when requests can be served: documents and objects answer, and what its APIs need most is loaded.

        Where nothing can be stored it is ready all the same, for reads and deletes, and ``degraded`` says why.
        """
        states = context.states
        documents, objects, infos = await asyncio.gather(
            states.store("documents"), states.store("objects"), states.stages(ready_keys)
        )
        ready = {"documents": documents["connected"], "objects": objects["connected"]}
        ready |= {key: usable(info) for key, info in infos.items()}
        waiting = [name for name, is_ready in ready.items() if not is_ready]
        if waiting:
            return JSONResponse({"status": "waiting", "for": waiting}, status_code=503, headers={"retry-after": "2"})
        stores = {"documents": documents["error"], "objects": objects["error"]}
        trouble = {name: error for name, error in stores.items() if error is not None}
        return JSONResponse({"status": "ready", "degraded": trouble} if trouble else {"status": "ready"})

    return router
