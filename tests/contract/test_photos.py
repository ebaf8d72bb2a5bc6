"""What clients of the photo API build on: fields, defaults and error codes."""

from typing import Any

import pytest

from graphs.photos.errors import ClusteringError, PhotoBatchTooLarge, code_of
from graphs.photos.schemas import ImageInput
from graphs.web.fetch import ImageFetchError
from tests.contract.photo_fields import ERRORS, PARTS, REQUESTS, RESPONSES
from tests.contract.test_openapi import resolved, schema
from vision import errors

__all__ = ["schema"]  # the fixture

RAISED = {
    "image_fetch_error": ImageFetchError("why"),
    "image_decode_error": errors.InvalidMedia("why"),
    "image_too_large": errors.MediaTooLarge("why"),
    "model_not_ready": errors.ModelNotLoaded("why"),
    "batch_too_large": PhotoBatchTooLarge(21, 20),
    "clustering_error": ClusteringError("why"),
    "validation_error": errors.InvalidInput("why"),
    "internal_error": errors.ProcessingFailed("why"),
}


def operation(schema: dict[str, Any], route: str) -> dict[str, Any]:
    return schema["paths"][f"/v1/{route}"]["post"]  # type: ignore[no-any-return]


def answer_of(schema: dict[str, Any], route: str) -> dict[str, Any]:
    return resolved(schema, operation(schema, route)["responses"]["200"]["content"]["application/json"]["schema"])


def body_of(schema: dict[str, Any], route: str) -> dict[str, Any]:
    return resolved(schema, operation(schema, route)["requestBody"]["content"]["application/json"]["schema"])


@pytest.mark.parametrize("route", REQUESTS)
def test_requests_and_answers_have_their_fields(schema: dict[str, Any], route: str) -> None:
    assert set(body_of(schema, route)["properties"]) == set(REQUESTS[route].split())
    assert set(answer_of(schema, route)["properties"]) == set(RESPONSES[route].split())
    assert body_of(schema, route)["examples"]


@pytest.mark.parametrize(("route", "place"), PARTS)
def test_parts_have_their_fields(schema: dict[str, Any], route: str, place: str) -> None:
    part = answer_of(schema, route)
    for name in place.split("."):
        part = resolved(schema, part["properties"][name])
    assert set(part["properties"]) == set(PARTS[route, place].split())


def test_a_batch_has_the_results_of_single_requests(schema: dict[str, Any]) -> None:
    single = resolved(schema, answer_of(schema, "analyze")["properties"]["result"])
    assert resolved(schema, answer_of(schema, "analyze/batch")["properties"]["results"]) == single


def test_an_image_is_one_of_two(schema: dict[str, Any]) -> None:
    image = resolved(schema, body_of(schema, "analyze")["properties"]["image"])
    assert set(image["properties"]) == {"url", "data", "image_id"} == set(ImageInput.model_fields)
    assert "required" not in image


def test_defaults_and_ranges(schema: dict[str, Any]) -> None:
    for route in ("analyze", "analyze/batch"):
        properties = body_of(schema, route)["properties"]
        assert all(properties[name]["default"] is True for name in properties if name.startswith("run_"))
    cluster, review = body_of(schema, "cluster")["properties"], body_of(schema, "analyze/llm")["properties"]
    assert cluster["embeddings"]["minItems"] == 2
    fields = (cluster["eps"], cluster["min_samples"], review["max_tokens"])
    ranges = [(field["anyOf"][0]["minimum"], field["anyOf"][0]["maximum"]) for field in fields]
    assert ranges == [(0.01, 2), (1, 50), (100, 2000)]


@pytest.mark.parametrize("route", REQUESTS)
def test_every_route_documents_its_errors(schema: dict[str, Any], route: str) -> None:
    answers = operation(schema, route)["responses"]
    assert set(answers) == {*("200", "401", "404", "408", "413", "422", "429", "500", "502", "503", "504", "507")}
    for status in set(answers) - {"200"}:
        body = resolved(schema, answers[status]["content"]["application/json"]["schema"])
        assert set(body["properties"]) == {"error", "message", "detail"}
        assert body["required"] == ["error", "message"]


@pytest.mark.parametrize("code", ERRORS)
def test_errors_have_the_codes_of_the_contract(code: str) -> None:
    assert code_of(RAISED[code]) == (ERRORS[code], code)


def test_an_error_without_a_word_of_its_own_keeps_its_code() -> None:
    assert code_of(errors.DeadlineExceeded("why")) == (504, "deadline_exceeded")
    assert code_of(errors.StageOverloaded("why")) == (429, "overloaded")
    assert code_of(errors.StageUnavailable("why")) == (503, "model_not_ready")
