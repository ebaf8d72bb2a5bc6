"""The ingress: one FastAPI application over all graphs, built inside the replica."""

import asyncio
import gc
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Self

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve
from ray.serve import Application, Deployment
from starlette.types import ASGIApp

from configs.settings import Settings, settings
from deployments.serving.catalog import CallLimits, LocalStages, ServeStatus, find_stage, remote_handle
from deployments.serving.handle import AnyHandle, work_on
from deployments.serving.metrics import publish_regularly, record_store_call
from deployments.serving.nodes import check_stores, listens_to_others, start_on_node
from graphs.web.api import Api, Contracts, find_apis
from graphs.web.audit import AuditTrail
from graphs.web.auth import OPEN_PATHS, KeyCheck, document_keys
from graphs.web.connections import Expectations, HeadRequests, Methods, accept_many, keep_what_came
from graphs.web.context import Context
from graphs.web.errors import install_error_handlers
from graphs.web.fetch import AllowList, open_fetcher
from graphs.web.headers import with_headers
from graphs.web.health import health_router
from graphs.web.hosts import Hosts
from graphs.web.limits import RequestLimits
from graphs.web.metrics import GatewayMetrics, record_exchange
from graphs.web.quick import QuickRoutes
from graphs.web.rates import RateLimits
from graphs.web.requests import Observer, RequestIds, Requests, replace_serves_ids
from graphs.web.status import status_api
from graphs.web.transfers import Transfers
from stores.open import Stores
from vision.embed.clip import check_clip_model

DESCRIPTION = "Vision APIs over one graph of Ray Serve deployments: upload an asset once, then work on its id."


class CallerArgs(BaseModel, ABC):
    """``args`` of an application that calls stages: the gateway, or the worker of durable jobs."""

    model_config = ConfigDict(extra="forbid")

    here: list[str] = Field(
        default_factory=list,
        description="stages that run in the process of the application itself, in the order in which they are loaded",
    )
    stages: dict[str, str] = Field(
        default_factory=dict,
        description="stage key → application.deployment, where that is not room.name",
    )
    on_demand: list[str] = Field(
        default_factory=list, description="stage keys whose deployment may have no replica; health does not wake them"
    )
    calls: CallLimits = Field(default_factory=CallLimits, description="how many items and calls go to a stage at once")

    @model_validator(mode="after")
    def _in_one_place(self) -> Self:
        if len(self.here) != len(set(self.here)):
            raise ValueError("a stage is named twice")
        for key in self.here:
            if key in self.stages or key in self.on_demand:
                raise ValueError(f"{key} runs here, so it is not looked for elsewhere")
        return self

    @abstractmethod
    def needed(self) -> list[str]:
        """Return the key of every stage that is called."""

    def handles(self, local: LocalStages) -> dict[str, AnyHandle]:
        """Return a handle to each of them: to one of this process, or one that is found by name at its first call."""
        status, here = ServeStatus(), local.handles(self.calls)
        return {
            key: here.get(key) or remote_handle(key, self.stages, self.calls, status if key in self.on_demand else None)
            for key in self.needed()
        }


class GatewayArgs(CallerArgs):
    """``args`` of the gateway application."""

    apis: list[str] = Field(default_factory=lambda: list(find_apis()), description="which APIs this gateway serves")

    def needed(self) -> list[str]:
        """Return the key of every stage that the APIs call. Raises ValueError for an API that does not exist."""
        apis = find_apis()
        unknown = sorted(set(self.apis) - set(apis))
        if unknown:
            raise ValueError(f"no such API: {', '.join(unknown)}; there are {', '.join(apis)}")
        return list(dict.fromkeys(key for name in self.apis for key in apis[name].stage_keys))


def open_context(config: Settings, stages: Mapping[str, AnyHandle], serve: ServeStatus | None = None) -> Context:
    """Return a context with the stores of the settings and the given stage handles.

    Raises ValueError for a malformed store URL, StoreError for an embedded store that cannot be opened.
    """
    context = Context(config, stages, Stores.open(config, record_store_call), open_fetcher(config), serve=serve)
    # A wrong address must show at start and not with the first request.
    _ = context.objects, context.documents, context.cache, AllowList(config.webhook_allowed_hosts)
    return context


class _EnclosedApp(FastAPI):
    """An application with layers that no ``add_middleware`` makes.

    ``enclose`` puts one around Starlette's answer to a bug, ``quick`` are routes before those of the router, whose
    errors are answered as theirs.
    """

    enclose: Callable[[ASGIApp], ASGIApp]
    quick: QuickRoutes

    def build_middleware_stack(self) -> ASGIApp:
        router: Any = self.router
        self.router = self.quick.before(router)  # type: ignore[assignment]  # it is only called
        try:
            return self.enclose(super().build_middleware_stack())
        finally:
            self.router = router


def build_app(context: Context, apis: Iterable[str]) -> FastAPI:
    """Build the whole HTTP application over a context; needs no Ray."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        publishing = asyncio.create_task(publish_regularly(gauges.publish))
        yield
        publishing.cancel()
        await context.close()

    gauges = GatewayMetrics(context)
    app = _EnclosedApp(title="visiongraph", version=version("visiongraph"), description=DESCRIPTION, lifespan=lifespan)
    served = [find_apis()[name] for name in apis]
    app.include_router(health_router(context, served))
    contracts = mount(app, context, [*served, status_api(context, served)])
    _check_scopes(app, contracts)
    methods = Methods(iter_route_contexts(app.routes))
    install_error_handlers(app, contracts.errors, methods.of)
    _add_fences(app, context, contracts)
    app.quick = context.quick
    context.recent.attach()
    observers: list[Observer] = [context.recent.ended, record_exchange]
    if context.access_log is not None:
        observers.append(context.access_log.write)

    def enclose(inner: ASGIApp) -> ASGIApp:
        gauges.requests = Requests(with_headers(inner, context.settings, contracts, methods), contracts, observers)
        return RequestIds(gauges.requests)

    app.enclose = enclose
    return app


def mount(app: FastAPI, context: Context, apis: Iterable[Api]) -> Contracts:
    """Add the routes of these APIs to an application, and return the contracts of all paths."""
    contracts = Contracts(context.settings)
    first_of_all = [Depends(_judged_by(contracts))]
    for api in apis:
        router = api.router(context)
        for prefix in api.prefixes:
            first = len(app.routes)
            documented = prefix == api.prefixes[0]
            app.include_router(router, prefix=prefix, include_in_schema=documented, dependencies=first_of_all)
            contracts.add(api, prefix, iter_route_contexts(app.routes[first:]))
            context.quick.mount(iter_route_contexts(app.routes[first:]))
    return contracts


def _check_scopes(app: FastAPI, contracts: Contracts) -> None:
    """Raise ValueError for whatever answers and has no scope: a mount, a websocket, a route of no API."""
    for route in iter_route_contexts(app.routes):
        path, methods = route.path or "", route.methods or ()
        judged = [contracts.at(method, path).endpoint is route.endpoint for method in methods]
        if path not in OPEN_PATHS and not (judged and all(judged)):
            raise ValueError(f"nothing says which scope a key needs for {path}: it is no route of an API")


def _judged_by(contracts: Contracts) -> Callable[[Request], Coroutine[Any, Any, None]]:
    """Return what every route depends on: that it is the one by whose contract the request was let in.

    The router finds some routes by more than one spelling: its patterns end before a line feed, too.
    """

    async def judged(request: Request) -> None:
        if contracts.of(request.scope).endpoint is not request.scope["endpoint"]:
            raise HTTPException(404)
        # For the log; a look-up of assets names them more exactly.
        work_on(*(f"{name} {value}" for name, value in request.path_params.items()))

    return judged


def _add_fences(app: FastAPI, context: Context, contracts: Contracts) -> None:
    """Add what a request passes before any route sees it; the last one added is the first one met."""
    config = context.settings
    app.add_middleware(Hosts, settings=config, contracts=contracts)
    app.add_middleware(HeadRequests)
    app.add_middleware(RequestLimits, settings=config, contracts=contracts, spool=context.spool)
    if config.audit != "none":
        app.add_middleware(AuditTrail, settings=config, contracts=contracts, audit=context.audit)
    if config.rate_limit_enabled:
        app.add_middleware(RateLimits, settings=config, contracts=contracts, cache=context.cache)
    app.add_middleware(KeyCheck, access=context.access, contracts=contracts)
    document_keys(app, context.access, contracts)
    app.add_middleware(Expectations)
    app.add_middleware(Transfers, settings=config, contracts=contracts)


class Gateway(LocalStages):
    """Serve's ingress deployment class, and the process of the stages that run in it."""

    def __init__(self, args: dict[str, Any]) -> None:
        start_on_node()
        replace_serves_ids()
        self._args = GatewayArgs.model_validate(args)
        super().__init__(self._args.here)

    def __serve_build_asgi_app__(self) -> FastAPI:
        args = self._args
        accept_many()
        keep_what_came()
        context = open_context(settings(), args.handles(self), ServeStatus())
        context.access.refuses_everyone = not settings().open and listens_to_others()
        app = build_app(context, args.apis)
        # What stays for good need not be walked through again at every collection.
        gc.freeze()
        return app


def gateway(args: dict[str, Any]) -> Application:
    """Build the ingress application for Serve (``import_path: graphs.web.gateway:gateway``)."""
    gateway_args = GatewayArgs.model_validate(args)
    gateway_args.needed()
    check_stores()
    check_clip_model(settings().clip_model_name)
    return deployment_of(serve.ingress(None)(Gateway), "gateway", gateway_args).bind(args)


def deployment_of(host: type[LocalStages], name: str, args: CallerArgs) -> Deployment:
    """Return the deployment of an application that calls stages, whose own ones are loaded when it starts.

    Raises LookupError for a stage that does not exist.
    """
    for key in args.here:
        find_stage(key)
    return serve.deployment(host).options(name=name, user_config={} if args.here else None)
