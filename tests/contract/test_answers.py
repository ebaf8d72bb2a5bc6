"""What a fuzzer gets for anything that it sends to any route: documented answers, and no failure.

``EXAMPLES`` is how many requests each route gets, half of them malformed; ``SCHEMA_URL`` names a running service, which
must have no rate limits, in place of one of our own.
"""

import os
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import negative_data_rejection

from tests.contract.fuzzer import DOCUMENTED, send
from tests.contract.test_openapi import SNAPSHOT
from tests.hostile.service import running

EXAMPLES = int(os.environ.get("EXAMPLES", "4"))
UNAVAILABLE = (503, 504, 507)
OPERATIONS = schemathesis.openapi.from_path(SNAPSHOT)
ROUTES = [(path, method) for path in OPERATIONS for method in OPERATIONS[path]]


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, BaseSchema]]:
    """(URL, document) of a service."""
    if url := os.environ.get("SCHEMA_URL", "").rstrip("/"):
        yield url, schemathesis.openapi.from_url(f"{url}/openapi.json")
        return
    with running() as (url, _):
        yield url, schemathesis.openapi.from_dict(httpx.get(f"{url}/openapi.json", timeout=60).json())


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_every_answer_is_documented(
    service: tuple[str, BaseSchema], path: str, method: str, mode: GenerationMode
) -> None:
    url, document = service
    operation = document[path][method.upper()]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
        pytest.skip("nothing can be malformed")
    checks = [*DOCUMENTED, negative_data_rejection] if mode is GenerationMode.NEGATIVE else DOCUMENTED

    def ask(case: Case, _: int) -> None:
        answer = case.call(base_url=url)
        unavailable = (
            answer.status_code in UNAVAILABLE and str(answer.status_code) in operation.definition.raw["responses"]
        )
        case.validate_response(answer, checks=checks if unavailable else [*checks, not_a_server_error])

    if not send(operation, mode, max(1, EXAMPLES // 2), ask):
        pytest.skip("nothing can be malformed")
