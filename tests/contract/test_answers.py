"""What a fuzzer gets for anything that it sends to any route, with and without keys: documented answers, no failure.

``EXAMPLES`` is how many requests are made up for each route, beside those that cover its constraints. ``SCHEMA_URL``
names a running service without rate limits in place of one of our own, and ``SCHEMA_KEY`` a key of it with every scope.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import jwt
import pytest
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.schemas import BaseSchema

from graphs.web.api import find_apis
from tests.contract.fuzzer import DOCUMENTED, send
from tests.contract.test_openapi import SNAPSHOT
from tests.graphs.harness import ROOT
from tests.hostile.service import running

EXAMPLES = int(os.environ.get("EXAMPLES", "4"))
CONFIG = Path(__file__).with_name("schemathesis.toml")
OPERATIONS = schemathesis.openapi.from_path(SNAPSHOT)
ROUTES = [(path, method) for path in OPERATIONS for method in OPERATIONS[path]]
KEY = "the key of a test"
SECRET = "a secret that signs the tokens of a test"
KEYS = {
    "API_KEY": KEY,
    "VISION_JWT_SECRET": SECRET,
    "VISION_JWT_AUDIENCE": "visiongraph",
    "VISION_JWT_ISSUER": "https://login.example",
}
OPEN = ("/health", "/livez", "/readyz")


def fuzz(url: str, *options: str, key: str = "") -> None:
    """Let schemathesis attack a service, and fail with what it reports."""
    program = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command = [*program, "--config-file", str(CONFIG), "run", f"{url}/openapi.json", "--no-color", "--seed", "62"]
    command += ["--max-examples", str(EXAMPLES), *options]
    if key:
        command += ["--header", f"X-API-Key: {key}"]
    with TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.contract.fuzzer"}
        ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"Tested: {len(ROUTES)}" in ran.stdout, ran.stdout


@pytest.fixture(scope="module")
def with_keys() -> Iterator[tuple[str, BaseSchema]]:
    """(URL, document) of a service that has keys and takes tokens."""
    with running(KEYS) as (url, _):
        yield url, schemathesis.openapi.from_dict(httpx.get(f"{url}/openapi.json", timeout=60).json())


@pytest.mark.skipif("SCHEMA_URL" in os.environ, reason="another service is attacked")
def test_every_answer_of_a_service_without_keys_is_documented() -> None:
    with running() as (url, _):
        fuzz(url, "--phases", "examples,fuzzing,stateful")


def test_every_answer_of_a_service_with_keys_is_documented(request: pytest.FixtureRequest) -> None:
    if url := os.environ.get("SCHEMA_URL", "").rstrip("/"):
        fuzz(url, key=os.environ.get("SCHEMA_KEY", ""))
    else:
        fuzz(request.getfixturevalue("with_keys")[0], key=KEY)


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_those_without_the_scope_hear_so_in_documented_words(
    with_keys: tuple[str, BaseSchema], path: str, method: str
) -> None:
    url, document = with_keys
    operation = document[path][method.upper()]
    if path in OPEN:
        assert httpx.request(method, f"{url}{path}").status_code == 200
        return
    scope = next(iter(operation.definition.raw["security"][0]["key"]), "")
    # The kind alone is the scope for every API.
    others = {"read", "write"} - {scope.rpartition(":")[2]}
    others |= {f"{api}:{kind}" for api in find_apis() for kind in ("read", "write")} - {scope}

    def ask(case: Case, _: int) -> None:
        for headers in ({}, {"X-API-Key": "a guess"}, token(scope, key=SECRET[::-1])):
            answer = case.call(base_url=url, headers=headers)
            assert answer.status_code == 401, (headers, answer.text)
            case.validate_response(answer, checks=DOCUMENTED)
        answer = case.call(base_url=url, headers=token(*others))
        if scope:
            assert (answer.status_code, scope in answer.text) == (403, True), answer.text
        case.validate_response(answer, checks=DOCUMENTED)
        answer = case.call(base_url=url, headers=token(scope))
        assert answer.status_code not in (401, 403), answer.text

    assert send(operation, GenerationMode.POSITIVE, 1, ask) == 1


def token(*scopes: str, key: str = SECRET) -> dict[str, str]:
    """A header with a token that has these scopes."""
    usual: dict[str, Any] = {"sub": "ann", "aud": KEYS["VISION_JWT_AUDIENCE"], "iss": KEYS["VISION_JWT_ISSUER"]}
    text = jwt.encode(usual | {"exp": time.time() + 3600, "scope": " ".join(scopes)}, key, algorithm="HS256")
    return {"Authorization": f"Bearer {text}"}
