"""The muzzle API against ``muzzle-openapi.json``: its document, and what a fuzzer gets for anything that it sends."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.schemas import BaseSchema

from graphs.web.auth import SCHEMES
from tests.contract.fuzzer import CHECKS, send
from tests.contract.test_openapi import schema
from tests.graphs.harness import settings_in
from tests.graphs.muzzle import CONTRACT, muzzle, muzzle_server, text

__all__ = ["schema"]  # the fixture

ADDED = {"PredictResponse": ["print"], "DomainCheckResponse": ["quality"]}
"""Fields of answers beyond the contract; what it promises is as it was."""
OPERATIONS = [(path, method) for path, methods in CONTRACT["paths"].items() for method in methods if path != "/health"]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_operations_are_those_of_the_contract(schema: dict[str, Any], path: str, method: str) -> None:
    served, promised = schema["paths"][path][method], CONTRACT["paths"][path][method]
    assert {key: served.get(key) for key in promised} == promised
    assert set(served) - set(promised) <= {"description", "parameters"}
    assert not any(parameter["required"] for parameter in served.get("parameters", []))


@pytest.mark.parametrize("name", [name for name in CONTRACT["components"]["schemas"] if name != "HealthResponse"])
def test_schemas_are_those_of_the_contract(schema: dict[str, Any], name: str) -> None:
    served, promised = dict(schema["components"]["schemas"][name]), CONTRACT["components"]["schemas"][name]
    served.pop("description", None)
    more = {field: served["properties"].pop(field) for field in ADDED.get(name, ())}
    served["required"] = [field for field in served["required"] if field not in more]
    assert served == promised


def test_health_has_what_the_contract_promises(schema: dict[str, Any]) -> None:
    served = schema["components"]["schemas"]["Health"]["properties"]
    for name, promised in CONTRACT["components"]["schemas"]["HealthResponse"]["properties"].items():
        assert served[name]["type"] == promised["type"]
        assert served[name].get("items") == promised.get("items")


def test_the_key_is_described_as_in_the_contract(schema: dict[str, Any]) -> None:
    schemes = schema["components"]["securitySchemes"]
    assert schemes["ApiKey"] == CONTRACT["components"]["securitySchemes"]["ApiKey"]
    assert not set(SCHEMES) & set(schemes)  # only where keys are needed for every route


FUZZED = [*OPERATIONS, ("/animals", "post"), ("/animals/{animal_id}", "get"), ("/identify", "post")]
FUZZED += [("/animals/{animal_id}", "delete")]
EXAMPLES = 12


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, BaseSchema]]:
    """(URL, document) of a server by dummies."""
    with settings_in(tmp_path_factory.mktemp("fuzzed")) as config, muzzle_server(config) as (url, service):
        yield url, schemathesis.openapi.from_dict(service.app.openapi())


def with_photos(body: Any, number: int) -> Any:
    """A generated body whose strings are real photos, every other time."""
    if number % 2 or not isinstance(body, dict):
        return body
    photo = text(muzzle(number % 5))
    return {
        name: photo
        if "photo" in name and isinstance(value, str)
        else [photo] * len(value)
        if "photos" in name and isinstance(value, list)
        else value
        for name, value in body.items()
    }


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize(("path", "method"), FUZZED)
def test_a_fuzzer_gets_documented_answers(
    fuzzed: tuple[str, BaseSchema], path: str, method: str, mode: GenerationMode
) -> None:
    url, document = fuzzed
    operation = document[path][method.upper()]

    def ask(case: Case, number: int) -> None:
        if mode is GenerationMode.POSITIVE and case.media_type == "application/json":
            case.body = with_photos(case.body, number)
        case.validate_response(case.call(base_url=url), checks=CHECKS)

    assert send(operation, mode, EXAMPLES, ask) >= 1
