"""The state of the whole service for whoever runs it: stages and their places, models, jobs, stores, recent faults."""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final, TypeVar

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from pydantic import BaseModel, Field

from deployments.serving.catalog import DeploymentState
from deployments.serving.metrics import models_in
from graphs.web.api import Api, RateLimit
from graphs.web.context import Context
from graphs.web.recent import Fault
from graphs.web.scraping import scraped
from graphs.web.states import StoreName, configured
from stores.errors import StoreError
from vision.errors import StageUnavailable

ANSWER_WITHIN_S: Final = 5.0
STORES: Final[tuple[StoreName, ...]] = ("documents", "objects", "cache")
PAGE: Final[dict[str, Any]] = {
    "content": {"text/plain": {"schema": {"type": "string"}}},
    "description": "metrics of all processes of all nodes",
}
UNKNOWN: Final = "Ray does not say which nodes there are; try again soon."
T = TypeVar("T")


class GraphState(BaseModel):
    """One API, and the stages that it calls."""

    name: str
    title: str
    stages: list[str]


class Replicas(BaseModel):
    """What Serve says of the deployment of a stage; shares are those of one replica."""

    running: int
    wanted: int
    cpus: float
    gpus: float


class StageModel(BaseModel):
    """A model of a stage."""

    model: str | None
    version: str
    licence: str | None
    weights: str | None = Field(description="where they came from")
    engine: str | None
    device: str | None


class StageStatus(BaseModel):
    """One stage; ``queue`` are the items that wait in this gateway, ``refused`` those that found it full."""

    name: str
    place: str = Field(description="application.deployment, or `here` in the process of the gateway")
    replicas: Replicas | None = Field(description="null where Serve does not say")
    loaded: bool
    loading: bool
    on_demand: bool
    configured: bool
    error: str | None
    since: datetime | None
    queue: int
    refused: int
    models: list[StageModel]


class StoreStatus(BaseModel):
    """One store; ``latency_ms`` is the time of a small call just now."""

    name: str
    type: str
    connected: bool
    error: str | None
    since: datetime | None
    latency_ms: float


class JobNumber(BaseModel):
    """Jobs of one kind and status."""

    kind: str
    status: str
    number: int
    oldest_waits_s: float | None = Field(description="of queued ones: how long the first that is due waits already")


class Status(BaseModel):
    """The state of the service, as the gateway sees it that answers.

    What cannot be asked within 5 s is named in ``unknown``, with the reason.
    """

    at: datetime
    version: str
    environment: str
    uptime_seconds: float
    graph: list[GraphState]
    stages: list[StageStatus]
    jobs: list[JobNumber]
    stores: list[StoreStatus]
    recent_errors: list[Fault] = Field(description="of this gateway, the latest first")
    unknown: dict[str, str]


def status_api(context: Context, served: Sequence[Api]) -> Api:
    """Return the routes of whoever runs the service, which need the scope ``admin``."""
    router = APIRouter(tags=["service"])

    @router.get("/status")
    async def status() -> Status:
        """Return the state of everything. Needs the scope `admin`."""
        return await _status(context, served)

    @router.get("/metrics", response_class=Response, responses={200: PAGE, 503: {"description": UNKNOWN}})
    async def metrics() -> Response:
        """Return the metrics of all nodes in the text format of Prometheus. Needs the scope `admin`."""
        try:
            pages = (
                [] if context.serve is None else await asyncio.wait_for(context.serve.metrics_pages(), ANSWER_WITHIN_S)
            )
        except Exception as error:  # Ray's, whatever they are; their texts may be internal
            raise StageUnavailable(UNKNOWN) from error
        return Response(await scraped(pages), headers={"content-type": CONTENT_TYPE})

    return Api(
        title="Service",
        name="service",
        router=lambda _: router,
        rate=lambda _: RateLimit("service", 60),
        administration=frozenset({"status", "metrics"}),
    )


async def _status(context: Context, served: Sequence[Api]) -> Status:
    unknown: dict[str, str] = {}

    async def asked(name: str, question: Awaitable[T], otherwise: T) -> T:
        try:
            return await asyncio.wait_for(question, ANSWER_WITHIN_S)
        except TimeoutError:
            unknown[name] = f"no answer within {ANSWER_WITHIN_S:g} s"
        except StoreError as error:
            unknown[name] = error.reason
        except Exception as error:  # Serve's, whatever they are; their texts may be internal
            unknown[name] = f"no answer ({type(error).__name__})"
        return otherwise

    nobody: Mapping[str, DeploymentState] = {}
    infos, places, jobs, stores = await asyncio.gather(
        context.states.stages(),
        asked("replicas", context.deployments(), nobody),
        asked("jobs", _jobs(context), []),
        asyncio.gather(*(_store(context, name) for name in STORES)),
    )
    return Status(
        at=datetime.now(UTC),
        version=version("visiongraph"),
        environment=context.settings.environment,
        uptime_seconds=round(time.monotonic() - context.started_at, 1),
        graph=[GraphState(name=api.name, title=api.title, stages=list(api.stage_keys)) for api in served],
        stages=[_stage(context, key, info, places) for key, info in infos.items()],
        jobs=jobs,
        stores=stores,
        recent_errors=context.recent.faults,
        unknown=unknown,
    )


def _stage(context: Context, key: str, info: Mapping[str, Any], places: Mapping[str, DeploymentState]) -> StageStatus:
    handle = context.stages[key]
    state = places.get(handle.place)
    return StageStatus(
        name=key,
        place=handle.place,
        replicas=None if state is None else Replicas(**state._asdict()),
        loaded=bool(info.get("loaded")),
        loading=bool(info.get("loading")),
        on_demand=bool(info.get("on_demand")),
        configured=configured(info),
        error=info.get("error") or "; ".join(info.get("missing") or ()) or None,
        since=info.get("since"),
        queue=handle.waiting,
        refused=handle.refused,
        models=[
            StageModel(
                model=model.get("model"),
                version=str(model["model_version"]),
                licence=model.get("licence"),
                weights=model.get("weights"),
                engine=model.get("engine") or info.get("engine"),
                device=model.get("device") or info.get("device"),
            )
            for model in models_in(info)
        ],
    )


async def _jobs(context: Context) -> list[JobNumber]:
    now = datetime.now(UTC)
    return [
        JobNumber(
            kind=each.kind,
            status=each.status,
            number=each.number,
            oldest_waits_s=round(max(0.0, (now - each.due_at).total_seconds()), 1) if each.status == "queued" else None,
        )
        for each in await context.jobs.count()
    ]


async def _store(context: Context, name: StoreName) -> StoreStatus:
    started = time.perf_counter()
    state = await context.states.store(name)
    took = (time.perf_counter() - started) * 1000
    return StoreStatus(
        name=name,
        type=state["type"],
        connected=state["connected"],
        error=state["error"],
        since=state.get("since"),
        latency_ms=round(took, 2),
    )
