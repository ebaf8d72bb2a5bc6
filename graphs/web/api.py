"""An API: its routes, the stages that they call, and its contract; how APIs are found, and the contract of a path."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from operator import itemgetter
from types import ModuleType
from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import RouteContext
from starlette._utils import get_route_path
from starlette.convertors import StringConvertor
from starlette.routing import compile_path
from starlette.types import Scope

import graphs
from configs.settings import Settings
from deployments.serving.stage import StageRef
from graphs.web.access import ADMIN, ANY_KEY
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

    ``max_body`` gives the most bytes of its body, else it is ``max_body_bytes``. A route with ``reads`` takes its body
    from ``request.stream()``; any other one is called when the whole body is here.
    """

    rate: RateLimit | None = None
    max_body: Callable[[Settings], int] | None = None
    reads: bool = False


def _no_health(_: StageInfos) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Api:
    """One API; its package exports it as ``API`` from its module ``api``, which is all that it takes to be served.

    ``stages`` are those that its routes call, and ``ready_stages`` those of them that a gateway waits for before it is
    ready. A stage whose weights may be missing for good is among these only where the API is of no use without it.
    ``routes`` has limits by the name of a route's function. ``health`` gives the API's own fields of ``/health``.

    A key needs the scope to read for GET and HEAD and the scope to write for every other method, see ``access``;
    ``reading`` names the functions of other routes that store nothing of what they are sent, ``writing`` those of GETs
    that belong to writing, ``administration`` those that need the scope ``admin``, ``labelling`` those that label what
    they store.
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
    reading: frozenset[str] = frozenset()
    writing: frozenset[str] = frozenset()
    administration: frozenset[str] = frozenset()
    labelling: frozenset[str] = frozenset()
    scoped: bool = True
    """Whether keys need scopes for it; without, any key may call it, but for ``administration``."""
    keyless: bool = False
    """Whether its routes hold nothing of anybody, so that they need no key."""
    name: str = ""
    """Of its package; filled in when it is found."""

    def __post_init__(self) -> None:
        if not set(self.ready_stages) <= set(self.stages):
            raise ValueError(f"{self.title}: ready_stages has stages that are not among its stages")

    @property
    def stage_keys(self) -> tuple[str, ...]:
        """Return the keys of ``stages``."""
        return tuple(ref.key for ref in self.stages)

    def scope(self, function: str, methods: Collection[str]) -> str:
        """Return which scope a key needs for the route of a function; empty where none is needed."""
        if self.keyless:
            return ""
        if function in self.administration:
            return ADMIN
        if not self.scoped:
            return ANY_KEY
        reads = function in self.reading or ("GET" in methods and function not in self.writing)
        return f"{self.name}:{'read' if reads else 'write'}"


def graph_modules(name: str) -> dict[str, ModuleType]:
    """Return the modules of this name by the packages of graphs that have one."""
    return {
        package.name: importlib.import_module(f"graphs.{package.name}.{name}")
        for package in pkgutil.iter_modules(graphs.__path__)
        if package.ispkg and find_spec(f"graphs.{package.name}.{name}")
    }


def scopes() -> list[str]:
    """Return every scope that a key can have, see ``access``."""
    scoped = [name for name, api in find_apis().items() if api.scoped]
    return ["read", "write", ADMIN, *(f"{name}:{kind}" for name in scoped for kind in ("read", "write"))]


@cache
def find_apis() -> Mapping[str, Api]:
    """Return every API by the name of its package."""
    modules = graph_modules("api").items()
    return {name: replace(module.API, name=name) for name, module in modules if hasattr(module, "API")}


@dataclass(frozen=True, slots=True)
class Contract:
    """What a gateway promises of one route: error style, rate limit, most bytes of a body, and whether it ``reads`` it.

    ``api``: the name of its API, ``route``: the template of its path, both for metrics and logs. ``scope``: what a key
    needs for it. ``asset_at``: which segment of its path is the id of an asset. ``endpoint``: its function.

    Where there is no route, nobody reads the body, however long it is, and ``max_body`` is 0.
    """

    errors: ErrorStyle
    rate: RateLimit
    max_body: int = 0
    reads: bool = False
    is_route: bool = False
    api: str = ""
    route: str = ""
    scope: str = ""
    asset_at: int | None = None
    takes_labels: bool = False
    endpoint: Callable[..., Any] | None = None

    def asset_id(self, path: str) -> str | None:
        """Return the id of an asset in the path of a request, None for a route without one."""
        return None if self.asset_at is None else path.split("/")[1 + self.asset_at]


ASSET_SEGMENTS: Final = ("{file_uuid}", "{asset_id}")
"""Parameters of paths that are the id of an asset."""


class _Segment:
    """A place in the tree of paths: the routes that end here, and the contract of paths that begin so and are none.

    ``methods`` has a route's number, in the order in which the router tries them, and its contract.
    """

    __slots__ = ("literal", "methods", "patterns", "unknown")

    def __init__(self, unknown: Contract) -> None:
        self.unknown = unknown
        self.literal: dict[str, _Segment] = {}
        self.patterns: dict[str, tuple[re.Pattern[str], _Segment]] = {}
        self.methods: dict[str, tuple[int, Contract]] = {}

    def add(self, name: str, unknown: Contract) -> "_Segment":
        """Return the place below for one segment of a route's path, which may have parameters."""
        if "{" not in name:
            return self.literal.setdefault(name, _Segment(unknown))
        pattern, _, parameters = compile_path(f"/{name}")
        if any(not isinstance(parameter, StringConvertor) for parameter in parameters.values()):
            raise ValueError(f"{name} is no parameter of one segment of a path")
        shape = pattern.pattern
        for parameter in parameters:
            shape = shape.replace(f"?P<{parameter}>", "")  # routes share a place, whatever they call its parameter
        return self.patterns.setdefault(shape, (re.compile(shape), _Segment(unknown)))[1]

    def matching(self, name: str) -> Iterator["_Segment"]:
        """Yield the places below that a segment of a request's path leads to."""
        if literal := self.literal.get(name):
            yield literal
        for pattern, place in self.patterns.values():
            if pattern.match(f"/{name}"):
                yield place


class Contracts:
    """The contracts of all paths of one gateway, found segment by segment as the router finds its routes.

    A path that is no route belongs to the API whose first segment it begins with, so that its 404 has the right style.
    """

    _KEY: Final = "visiongraph.contract"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._no_api = Contract(CODED, ASSETS_RATE)
        self._root = _Segment(self._no_api)
        self._routes = 0

    def add(self, api: Api, prefix: str, routes: Iterable[RouteContext]) -> None:
        """Add routes of an API that are mounted at this prefix, in the order in which the router tries them.

        Raises ValueError for limits of a route that does not exist, and for a path that begins as those of another API.
        """
        settings = self._settings
        unknown_here = Contract(api.errors, api.rate(settings), api=api.name)
        missing = {*api.routes, *api.reading, *api.writing, *api.administration, *api.labelling}
        for route in routes:
            limits = api.routes.get(route.name or "", RouteLimits())
            function, path, methods = route.name or "", route.path or "", route.methods or set()
            missing.discard(function)
            max_body = limits.max_body(settings) if limits.max_body else settings.max_body_bytes
            rate = limits.rate or unknown_here.rate
            names = path.split("/")[1:]
            contract = Contract(
                errors=api.errors,
                rate=rate,
                max_body=max_body,
                reads=limits.reads,
                is_route=True,
                api=api.name,
                route=path,
                scope=api.scope(function, methods),
                asset_at=next((place for place, name in enumerate(names) if name in ASSET_SEGMENTS), None),
                takes_labels=function in api.labelling,
                endpoint=route.endpoint,
            )
            at, shared = self._root, prefix.count("/")
            for number, name in enumerate(names):
                unknown = self._no_api if number < shared else unknown_here
                at = at.add(name, unknown)
                if at.unknown != unknown:
                    raise ValueError(f"{api.title}: another API has paths that begin as {path}")
            for method in (*methods, "HEAD") if "GET" in methods else methods:
                at.methods.setdefault(method, (self._routes, contract))
            self._routes += 1
        if missing:
            raise ValueError(f"{api.title}: limits of routes that do not exist: {', '.join(sorted(missing))}")

    def of(self, scope: Scope) -> Contract:
        """Return the contract of a request; found once, then kept in its scope."""
        contract: Contract | None = scope.get(self._KEY)
        if contract is None:
            contract = scope[self._KEY] = self._find(scope["method"], get_route_path(scope))
        return contract

    def at(self, method: str, path: str) -> Contract:
        """Return the contract of a route by the template of its path."""
        return self._find(method, path)

    def errors(self, scope: Scope) -> ErrorStyle:
        """Return the error style of a request."""
        return self.of(scope).errors

    def _find(self, method: str, path: str) -> Contract:
        routes, unknown = self._walk(path)
        found = [route.methods[method] for route in routes if method in route.methods]
        if found:
            return min(found, key=itemgetter(0))[1]
        return routes[0].unknown if routes else unknown

    def _walk(self, path: str) -> tuple[list[_Segment], Contract]:
        """Return the places of all routes with this path, and the contract of the path if there are none."""
        names = path.split("/")[1:]
        routes: list[_Segment] = []
        unknown, deepest = self._no_api, 0
        places = [(self._root, 0)]
        while places:
            at, depth = places.pop()
            if depth == len(names):
                if at.methods:
                    routes.append(at)
                continue
            if depth > deepest:
                unknown, deepest = at.unknown, depth
            places.extend((below, depth + 1) for below in at.matching(names[depth]))
        return routes, unknown
