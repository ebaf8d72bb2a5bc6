"""What OpenAPI says of the streams of the media API."""

from typing import Any

import pytest

from tests.graphs.harness import document_of, settings_in

PART = {"start_frame", "end_frame", "start_time", "end_time", "fps", "mode", "audio"}
STREAMS: dict[str, tuple[str, set[str]]] = {
    "video": ("video/mp4", PART),
    "clip": ("video/mp2t", PART),
    "video/bbox": ("video/mp4", PART | {"classes", "min_confidence"}),
    "trace/{trace_id}/video": ("video/mp4", PART),
    "object/{track_id}/video": ("video/mp4", PART),
    "thumbnail": ("image/jpeg", {"frame", "x", "y", "w", "h"}),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The routes of a gateway with this API."""
    with settings_in(tmp_path_factory.mktemp("paths")) as config:
        paths: dict[str, Any] = document_of(config, ["media"])["paths"]
        return paths


@pytest.mark.parametrize("route", STREAMS)
def test_a_stream_says_what_it_takes_and_gives(paths: dict[str, Any], route: str) -> None:
    media_type, query = STREAMS[route]
    assert set(paths[f"/api/v1/file/{{file_uuid}}/{route}"]) == {"get"}
    operation = paths[f"/api/v1/file/{{file_uuid}}/{route}"]["get"]
    assert operation["description"]
    parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
    assert {name for name, each in parameters.items() if each["in"] == "query"} == query
    for name, parameter in parameters.items():
        if name not in ("mode", "audio", "trace_id", "track_id"):
            assert parameter["description"]
            assert parameter["schema"]["examples"]
    assert operation["responses"]["200"]["content"][media_type]["schema"] == {"type": "string", "format": "binary"}


@pytest.mark.parametrize("route", STREAMS)
def test_a_stream_says_how_it_fails(paths: dict[str, Any], route: str) -> None:
    answers = paths[f"/api/v1/file/{{file_uuid}}/{route}"]["get"]["responses"]
    assert {"400", "404", "409", "429", "500", "503", "504", "default"} <= set(answers)
    assert "422" not in answers
    for status in ("400", "404", "409", "429", "500", "503", "504", "default"):
        schema = answers[status]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/MediaError"}


def test_ranges_are_described(paths: dict[str, Any]) -> None:
    answers = paths["/api/v1/file/{file_uuid}/video"]["get"]["responses"]
    assert {"206", "304", "412", "416"} <= set(answers)
