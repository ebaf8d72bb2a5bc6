"""Made-up requests to one operation of an OpenAPI document, the same ones each time."""

from collections.abc import Callable

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode, SerializationContext
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

DOCUMENTED = [status_code_conformance, content_type_conformance, response_schema_conformance]
CHECKS = [*DOCUMENTED, not_a_server_error]


@schemathesis.serializer("application/offset+octet-stream")
def as_they_are(_: SerializationContext, value: object) -> bytes:
    """Bytes that are the body themselves."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def send(operation: APIOperation, mode: GenerationMode, most: int, ask: Callable[[Case, int], None]) -> int:
    """Call ``ask`` with up to ``most`` requests and their numbers from 1, and return how many there were.

    There are none where nothing can be malformed.
    """
    number = 0

    @seed(62)
    @settings(
        max_examples=most,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def made_up(case: Case) -> None:
        nonlocal number
        number += 1
        ask(case, number)

    try:
        made_up()
    except Unsatisfiable:
        if mode is GenerationMode.POSITIVE:
            raise
    return number
