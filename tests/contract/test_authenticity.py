"""What OpenAPI says of the authenticity API, against ``authenticity-api.md``, and its limits."""

import asyncio
from typing import Any

import pytest

from graphs.web.api import Contracts
from tests.graphs.harness import contracts_of, document_of, settings_in

ANSWERS = {
    "image/": "analysis_id timestamp media_type filename classification confidence risk_score signals face_detections "
    "explanation processing_time_ms",
    "image/batch": "batch_id total_files results processing_time_ms",
    "video/": "analysis_id timestamp media_type filename video_info classification confidence risk_score "
    "average_risk_score frame_analysis temporal_consistency processing_time_ms",
    "audio/": "analysis_id timestamp media_type filename audio_info classification confidence risk_score prediction "
    "audio_features processing_time_ms",
}
PARTS = {
    ("image/", "signals.visual"): "score weight faces_detected analysis_type",
    ("image/", "signals.forensic"): "score weight features",
    ("image/", "signals.forensic.features"): "high_freq_ratio spectral_entropy noise_variance sharpness",
    ("image/", "face_detections"): "face_id bbox detection_confidence fake_probability",
    ("image/", "explanation"): "summary factors recommendation",
    ("image/batch", "results"): "filename classification risk_score confidence",
    ("video/", "video_info"): "duration_seconds total_frames fps frames_analyzed",
    ("video/", "frame_analysis"): "frame_index timestamp risk_score classification faces_detected",
    ("audio/", "audio_info"): "duration_seconds sample_rate",
    ("audio/", "prediction"): "synthetic_probability real_probability",
    ("audio/", "audio_features"): "rms_energy zero_crossing_rate",
}
LIMITS = {"image": 100, "image/batch": 10, "video": 10, "audio": 50}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with settings_in(tmp_path_factory.mktemp("schema")) as config:
        return document_of(config, ["authenticity"])


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


def operation(schema: dict[str, Any], route: str) -> dict[str, Any]:
    post: dict[str, Any] = schema["paths"][f"/api/v1/analyze/{route}"]["post"]
    return post


def answer_of(schema: dict[str, Any], route: str) -> dict[str, Any]:
    return resolved(schema, operation(schema, route)["responses"]["200"]["content"]["application/json"]["schema"])


@pytest.mark.parametrize("route", ANSWERS)
def test_answers_have_every_field_of_the_contract(schema: dict[str, Any], route: str) -> None:
    assert set(ANSWERS[route].split()) <= set(answer_of(schema, route)["properties"])
    assert operation(schema, route)["description"]
    form = operation(schema, route)["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == (["files"] if route.endswith("batch") else ["file"])


@pytest.mark.parametrize(("route", "place"), PARTS)
def test_parts_have_their_fields(schema: dict[str, Any], route: str, place: str) -> None:
    part = answer_of(schema, route)
    for name in place.split("."):
        part = resolved(schema, part["properties"][name])
    assert set(PARTS[route, place].split()) <= set(part["properties"])


def test_words_of_verdicts(schema: dict[str, Any]) -> None:
    properties = answer_of(schema, "image/")["properties"]
    assert properties["classification"]["enum"] == ["AUTHENTIC", "SUSPICIOUS", "MANIPULATED"]
    assert properties["confidence"]["enum"] == ["LOW", "MEDIUM", "HIGH"]


def test_the_number_of_frames(schema: dict[str, Any]) -> None:
    parameter, other = operation(schema, "video/")["parameters"]
    assert other["name"] == "max_false_alarms"
    assert (parameter["name"], parameter["required"]) == ("num_frames", False)
    assert {name: parameter["schema"][name] for name in ("default", "minimum", "maximum")} == {
        "default": 16,
        "minimum": 1,
        "maximum": 256,
    }


@pytest.mark.parametrize("route", ANSWERS)
def test_every_error_is_a_detail(schema: dict[str, Any], route: str) -> None:
    answers = operation(schema, route)["responses"]
    assert {"400", "413", "422", "429", "500", "503"} <= set(answers)
    for status in set(answers) - {"200"}:
        assert list(resolved(schema, answers[status]["content"]["application/json"]["schema"])["properties"]) == [
            "detail"
        ]


@pytest.fixture(scope="module")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> Contracts:
    with settings_in(tmp_path_factory.mktemp("contracts")) as config:
        return asyncio.run(contracts_of(config, "authenticity"))


@pytest.mark.parametrize("route", LIMITS)
@pytest.mark.parametrize("end", ["", "/"])
def test_rate_limits_of_the_contract(contracts: Contracts, route: str, end: str) -> None:
    contract = contracts.of({"method": "POST", "path": f"/api/v1/analyze/{route}{end}"})
    assert contract.rate.per_minute == LIMITS[route]


def test_bodies_may_have_a_hundred_megabytes(contracts: Contracts) -> None:
    def limit(route: str) -> int:
        return contracts.of({"method": "POST", "path": f"/api/v1/analyze/{route}"}).max_body

    for end in ("", "/"):
        for kind in ("image", "video", "audio"):
            assert limit(f"{kind}{end}") > 100 * 2**20
        assert limit(f"image/batch{end}") > 1000 * 2**20


def test_a_result_is_one_of_three(schema: dict[str, Any]) -> None:
    content = schema["paths"]["/api/v1/results/{analysis_id}"]["get"]["responses"]["200"]["content"]
    one_of = content["application/json"]["schema"]["oneOf"]
    assert [each["$ref"].rpartition("/")[2] for each in one_of] == ["ImageAnswer", "VideoAnswer", "AudioAnswer"]
