"""An API: its routes, the stages that they call, and its contract; how APIs are found, and the contract of a path."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import RouteContext
from starlette.types import Scope

import graphs
from configs.settings import Settings
from deployments.serving.stage import StageRef
from graphs.web.context import Context
from graphs.web.errors import CODED, ErrorStyle

AnyStageRef = StageRef[Any, Any]
StageInfos = Mapping[str, Mapping[str, Any]]
"""What stages say about themselves, by key."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A bucket of each client for all routes with this limit: ``per_minute`` tokens fall in, it holds ``burst``.

    Without ``burst`` it holds as many as fall in per minute.
    """

    name: str
    per_minute: int
    burst: int | None = None


ASSETS_RATE: Final = RateLimit("assets", 100)
"""Of the asset API, of the shot routes, which are part of it, and of paths that no API has."""


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """Limits of one route where they differ from those of its API.

    ``max_body`` gives the most bytes of its body, else it is ``max_body_bytes``. The time of a request that is not
    ``timed`` begins only when its body has arrived.
    """

    rate: RateLimit | None = None
    max_body: Callable[[Settings], int] | None = None
    timed: bool = True


def _no_health(_: StageInfos) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Api:
    """One API; its package exports it as ``API`` from its module ``api``, which is all that it takes to be served.

    ``stages`` are those that its routes call, and ``ready_stages`` those of them that a gateway waits for before it is
    ready. A stage whose weights may be missing for good is among these only where the API is of no use without it.
    ``routes`` has limits by the name of a route's function. ``health`` gives the API's own fields of ``/health``.
    """

    title: str
    router: Callable[[Context], APIRouter]
    stages: tuple[AnyStageRef, ...] = ()
    ready_stages: tuple[AnyStageRef, ...] = ()
    prefixes: tuple[str, ...] = ("",)
    """Where the router is mounted; documented at the first one. Every first segment below is the API's own."""
    errors: ErrorStyle = CODED
    rate: Callable[[Settings], RateLimit] = lambda _: ASSETS_RATE
    routes: Mapping[str, RouteLimits] = field(default_factory=dict)
    health: Callable[[StageInfos], Mapping[str, Any]] = _no_health

    def __post_init__(self) -> None:
        if not set(self.ready_stages) <= set(self.stages):
            raise ValueError(f"{self.title}: ready_stages has stages that are not among its stages")

    @property
    def stage_keys(self) -> tuple[str, ...]:
        """Return the keys of ``stages``."""
        return tuple(ref.key for ref in self.stages)


def graph_modules(name: str) -> dict[str, ModuleType]:
    """Return the modules of this name by the packages of graphs that have one."""
    return {
        package.name: importlib.import_module(f"graphs.{package.name}.{name}")
        for package in pkgutil.iter_modules(graphs.__path__)
        if package.ispkg and find_spec(f"graphs.{package.name}.{name}")
    }


@cache
def find_apis() -> Mapping[str, Api]:
    """Return every API by the name of its package."""
    return {name: module.API for name, module in graph_modules("api").items() if hasattr(module, "API")}


@dataclass(frozen=True, slots=True)
class Contract:
    """What a gateway promises of one path: error style, rate limit, bytes of a body, when the request's time begins."""

    errors: ErrorStyle
    rate: RateLimit
    max_body: int
    timed: bool


class _Segment:
    """A place in the tree of paths: contracts of the routes that end here by method, and of paths that are no route."""

    __slots__ = ("below", "methods", "unknown")

    def __init__(self, unknown: Contract) -> None:
        self.unknown = unknown
        self.below: dict[str, _Segment] = {}
        self.methods: dict[str, Contract] = {}


class Contracts:
    """The contracts of all paths of one gateway, found segment by segment.

    A path that is no route belongs to the API whose first segment it begins with, so that its 404 has the right style.
    """

    _PARAMETER: Final = "{}"
    _KEY: Final = "visiongraph.contract"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._no_api = Contract(CODED, ASSETS_RATE, settings.max_body_bytes, timed=True)
        self._root = _Segment(self._no_api)

    def add(self, api: Api, prefix: str, routes: Iterable[RouteContext]) -> None:
        """Add routes of an API that are mounted at this prefix.

        Raises ValueError for limits of a route that does not exist, and for a path that begins as those of another API.
        """
        settings = self._settings
        usual = Contract(api.errors, api.rate(settings), settings.max_body_bytes, timed=True)
        missing = set(api.routes)
        for route in routes:
            limits = api.routes.get(route.name or "", RouteLimits())
            missing.discard(route.name or "")
            max_body = limits.max_body(settings) if limits.max_body else usual.max_body
            contract = Contract(usual.errors, limits.rate or usual.rate, max_body, limits.timed)
            at, shared = self._root, prefix.count("/")
            for number, name in enumerate((route.path or "").split("/")[1:]):
                unknown = self._no_api if number < shared else usual
                at = at.below.setdefault(self._PARAMETER if "{" in name else name, _Segment(unknown))
                if at.unknown != unknown:
                    raise ValueError(f"{api.title}: another API has paths that begin as {route.path}")
            methods = route.methods or set()
            for method in (*methods, "HEAD") if "GET" in methods else methods:
                at.methods.setdefault(method, contract)
        if missing:
            raise ValueError(f"{api.title}: limits of routes that do not exist: {', '.join(sorted(missing))}")

    def of(self, scope: Scope) -> Contract:
        """Return the contract of a request; found once, then kept in its scope."""
        contract: Contract | None = scope.get(self._KEY)
        if contract is None:
            contract = scope[self._KEY] = self._find(scope["method"], scope["path"])
        return contract

    def errors(self, scope: Scope) -> ErrorStyle:
        """Return the error style of a request."""
        return self.of(scope).errors

    def _find(self, method: str, path: str) -> Contract:
        at, unknown = self._root, self._no_api
        for name in path.split("/")[1:]:
            unknown = at.unknown
            below = at.below.get(name) or at.below.get(self._PARAMETER)
            if below is None:
                return unknown
            at = below
        if not at.methods:
            return unknown
        return at.methods.get(method, at.unknown)
