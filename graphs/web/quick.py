"""Routes that take one small JSON body and are called most: answered past FastAPI's routing and dependencies.

Those take longer than such a route itself: a third of what a gateway spends on stored features. A request of any other
form goes on to the route as FastAPI has it, which says what is wrong with it, and which documents both.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from fastapi.routing import RouteContext
from pydantic import BaseModel, ValidationError
from starlette._utils import get_route_path
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ModelT = TypeVar("ModelT", bound=BaseModel)

_JSON: Final = b"application/json"
_SMALL: Final = 64 * 1024
"""Bytes of a body that are parsed here."""


class QuickRoute(NamedTuple, Generic[ModelT]):
    """``answer`` gives what the route gives for a body of this model, and raises what it raises."""

    model: type[ModelT]
    answer: Callable[[ModelT], Awaitable[Response]]


class QuickRoutes:
    """The quick routes of an application: each is added beside the function of its route, and mounted where that is."""

    def __init__(self) -> None:
        self._added: dict[Callable[..., Any], QuickRoute[Any]] = {}
        self._mounted: dict[str, QuickRoute[Any]] = {}

    def add(
        self, route: Callable[..., Any], model: type[ModelT], answer: Callable[[ModelT], Awaitable[Response]]
    ) -> None:
        """Answer POSTs to a route, by its function, that have nothing but a JSON body of this model."""
        self._added[route] = QuickRoute(model, answer)

    def mount(self, routes: Iterable[RouteContext]) -> None:
        """Take over the paths of those routes that have been added."""
        for route in routes:
            quick = self._added.get(route.endpoint) if route.endpoint else None
            if quick is not None and route.methods == {"POST"} and route.path:
                self._mounted[route.path] = quick

    def before(self, app: ASGIApp) -> ASGIApp:
        """Return an application that answers what it can, and leaves the rest to another."""

        async def quick_app(scope: Scope, receive: Receive, send: Send) -> None:
            quick = self._of(scope)
            if quick is None:
                await app(scope, receive, send)
                return
            message = await receive()
            data = message.get("body", b"")
            if message["type"] == "http.request" and not message.get("more_body", False) and len(data) <= _SMALL:
                try:
                    body = quick.model.model_validate_json(data)
                except ValidationError:
                    pass
                else:
                    await (await quick.answer(body))(scope, receive, send)
                    return
            await app(scope, _again(message, receive), send)

        return quick_app

    def _of(self, scope: Scope) -> QuickRoute[Any] | None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["query_string"]:
            return None
        quick = self._mounted.get(get_route_path(scope))
        if quick is None:
            return None
        types = [value for name, value in scope["headers"] if name == b"content-type"]
        return quick if types == [_JSON] else None


def _again(first: Message, receive: Receive) -> Receive:
    """Return a ``receive`` that begins with a message that was received already."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return first

    return receive_again
