"""What clients build on: the OpenAPI document, the fields of the specification, and the error codes.

After an intended change of the API: ``UPDATE_SNAPSHOTS=1 pytest tests/contract``, then read the diff of
openapi.json like any other change.
"""

import difflib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphs.web.api import find_apis
from tests.contract.fields import CONTRACT as ASSET_CONTRACT
from tests.contract.fields import DEFAULTS, SHOT_CONTRACT
from tests.graphs.harness import document_of, settings_in

CONTRACT = ASSET_CONTRACT | SHOT_CONTRACT
SNAPSHOT = Path(__file__).with_name("openapi.json")
GENERATE = Path(__file__).parents[2] / "clients" / "python" / "generate.py"


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document of a gateway with every API."""
    with settings_in(tmp_path_factory.mktemp("schema")) as config:
        return document_of(config, list(find_apis()))


def test_the_api_is_what_it_was(schema: dict[str, Any]) -> None:
    now = json.dumps({**schema, "info": {}}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        SNAPSHOT.write_text(now, encoding="utf-8")
        subprocess.run([sys.executable, GENERATE], check=True)  # the client is made of it
    before = SNAPSHOT.read_text(encoding="utf-8")
    changes = difflib.unified_diff(before.splitlines(), now.splitlines(), "openapi.json", "now", lineterm="", n=4)
    shown = "\n".join(changes)
    assert not shown, f"The API changed. If it should have: UPDATE_SNAPSHOTS=1 pytest {Path(__file__).parent}\n{shown}"


def resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The object schema behind references, lists and ``or null``."""
    while "properties" not in part:
        if "$ref" in part:
            part = schema["components"]["schemas"][part["$ref"].rpartition("/")[2]]
        elif "anyOf" in part:
            part = next(choice for choice in part["anyOf"] if choice.get("type") != "null")
        else:
            part = part["items"]
    return part


@pytest.mark.parametrize(("method", "path"), CONTRACT)
def test_every_field_that_clients_know_is_there(schema: dict[str, Any], method: str, path: str) -> None:
    fields = CONTRACT[method, path]
    route = "/health" if path == "health" else f"/api/v1/{path}"
    operation = schema["paths"][route][method.lower()]
    answer = resolved(schema, operation["responses"]["200"]["content"]["application/json"]["schema"])
    assert set(fields.response) <= set(answer["properties"])
    for name, parts in fields.parts.items():
        assert set(parts) <= set(resolved(schema, answer["properties"][name])["properties"])
    if fields.request:
        (body,) = operation["requestBody"]["content"].values()
        properties = resolved(schema, body["schema"])["properties"]
        assert set(fields.request) <= set(properties)
        for (owner, name), default in DEFAULTS.items():
            if owner == path:
                assert properties[name]["default"] == default
    if path in ("extract-features", "preprocess-image"):
        assert [(p["in"], p["name"], p["required"]) for p in operation["parameters"]] == [("query", "asset_id", False)]


@pytest.mark.parametrize(("method", "path"), [route for route in CONTRACT if route[1] != "health"])
def test_every_route_documents_its_errors(schema: dict[str, Any], method: str, path: str) -> None:
    answers = schema["paths"][f"/api/v1/{path}"][method.lower()]["responses"]
    for status in ("400", "404", "413", "422", "429", "503"):
        body = resolved(schema, answers[status]["content"]["application/json"]["schema"])
        assert set(resolved(schema, body["properties"]["error"])["properties"]) == {
            *("code", "message", "details", "timestamp"),
        }


def test_every_name_says_what_it_is(schema: dict[str, Any]) -> None:
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), (method, path)
