"""Every route of the service is a method of both clients, typed, and sends what the service takes."""

import ast
import filecmp
import importlib.util
import inspect
import json
import re
import sys
import types
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import httpx
import pytest
from pydantic import BaseModel

from tests.clients.conftest import Served
from tests.contract.test_openapi import SNAPSHOT
from visiongraph_client import AsyncClient, Client, Retries, VisiongraphError, async_api, sync_api

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "python" / "visiongraph_client"
DOCUMENT = json.loads(SNAPSHOT.read_text())
ROUTES = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}


def methods_of(client: object) -> Iterator[Any]:
    """Every method of a route."""
    for group in vars(client).values():
        if isinstance(group, (sync_api.Group, async_api.Group)):
            for name, method in inspect.getmembers(group, inspect.ismethod):
                if not name.startswith("_"):
                    yield method


def made_up(kind: Any) -> Any:
    """A value of a type."""
    if kind is type(None):
        return None
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        choices = get_args(kind)
        return made_up(bytes if bytes in choices else choices[0])
    if get_origin(kind) is not None:
        name = get_origin(kind).__name__
        return [made_up(get_args(kind)[0])] if name == "Sequence" else {}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {}
    values = {str: "x", int: 1, float: 0.5, bool: True, bytes: b"bytes", datetime: datetime(2026, 1, 1), Any: {}}
    return values[kind]


def arguments_of(method: Any) -> dict[str, Any]:
    hints = get_type_hints(method)
    return {name: made_up(hints[name]) for name in inspect.signature(method).parameters}


def template_of(request: httpx.Request) -> tuple[str, str]:
    """The route of a request: its method and the template of its path."""
    path = request.url.path
    for method, template in sorted(ROUTES, key=lambda route: route[1].count("{")):
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        if method == request.method and re.fullmatch(pattern, path):
            return method, template
    raise AssertionError(f"{request.method} {path} is no route")


async def test_both_clients_reach_every_route() -> None:
    asked: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(template_of(request))
        return httpx.Response(418, json={"error": "none"})

    sync = Client("http://test", transport=httpx.MockTransport(answer))
    for method in methods_of(sync):
        with pytest.raises(VisiongraphError):
            method(**arguments_of(method))
    assert set(asked) == ROUTES
    assert len(asked) == len(ROUTES)
    asked.clear()
    client = AsyncClient("http://test", transport=httpx.MockTransport(answer))
    for method in methods_of(client):
        with pytest.raises(VisiongraphError):
            await method(**arguments_of(method))
    assert set(asked) == ROUTES


async def test_the_service_knows_every_request(served: Served) -> None:
    refused: dict[str, VisiongraphError] = {}
    async with AsyncClient(served.url, retries=Retries(attempts=1)) as client:
        for method in methods_of(client):
            try:
                await method(**arguments_of(method))
            except VisiongraphError as error:
                refused[method.__name__] = error
    assert [name for name, error in refused.items() if "There is no route" in str(error)] == []
    assert [name for name, error in refused.items() if getattr(error, "status", 0) == 405] == []


def test_what_is_generated_is_what_the_document_says(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate", PACKAGE.parent / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = generate
    spec.loader.exec_module(generate)
    generate.generate(tmp_path)
    names = ["models.py", "sync_api.py", "async_api.py", "async_client.py"]
    _, stale, missing = filecmp.cmpfiles(tmp_path, PACKAGE, names, shallow=False)
    assert (stale, missing) == ([], []), "run `make client`"


def test_the_package_needs_httpx_and_pydantic_alone() -> None:
    allowed = {"httpx", "pydantic", "pydantic_core", "visiongraph_client", "numpy", *sys.stdlib_module_names}
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {name.name.partition(".")[0] for name in node.names} <= allowed, path.name
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] in allowed, path.name
