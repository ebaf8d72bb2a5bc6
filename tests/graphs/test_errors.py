"""Requests that are refused before any model sees them, and what their answers tell."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from graphs.web import transfers
from graphs.web.errors import AssetNotFound
from tests.dummies import digest
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import error_of, picture

KNOWN, UNKNOWN, OTHER = "known", "0" * 32, "f" * 32

ONE_UNKNOWN: dict[str, dict[str, Any]] = {
    "extract-features": {"asset_id": UNKNOWN},
    "preprocess-image": {"asset_id": UNKNOWN},
    "calculate-similarity": {"asset_id_1": KNOWN, "asset_id_2": UNKNOWN},
    "find-best-match": {"reference_asset_id": UNKNOWN, "candidate_asset_ids": [KNOWN, OTHER]},
    "semantic-search": {"query_asset_id": UNKNOWN},
    "analyze-quality": {"asset_id": UNKNOWN},
    "analyze-image-metrics": {"asset_id": UNKNOWN},
    "analyze-image-composition": {"asset_id": UNKNOWN},
}
BODIES: dict[str, dict[str, Any]] = ONE_UNKNOWN | {
    "batch-similarity": {"asset_ids": [KNOWN, UNKNOWN]},
    "anomaly-detection": {"reference_asset_ids": [KNOWN, UNKNOWN], "test_asset_ids": [KNOWN]},
    "feature-clustering": {"asset_ids": [KNOWN, UNKNOWN]},
}


def filled(body: Any, asset_id: str) -> Any:
    """The body with the id of an uploaded asset in it."""
    return json.loads(json.dumps(body).replace(KNOWN, asset_id))


@pytest.mark.parametrize("route", ONE_UNKNOWN)
async def test_an_unknown_asset_is_named(refusing: Service, route: str) -> None:
    known = digest(picture(1))
    answer = await refusing.try_post(route, **filled(ONE_UNKNOWN[route], known))
    error = error_of(answer, 404, "ASSET_NOT_FOUND")
    assert error["details"] == {"asset_ids": [UNKNOWN]}
    assert UNKNOWN in error["message"]
    assert known not in answer.text


async def test_both_unknown_assets_of_a_pair_are_named(refusing: Service) -> None:
    answer = await refusing.try_post("calculate-similarity", asset_id_1=UNKNOWN, asset_id_2=OTHER)
    error = error_of(answer, 404, "ASSET_NOT_FOUND")
    assert error["details"] == {"asset_ids": [UNKNOWN, OTHER]}
    assert f"{UNKNOWN}, {OTHER}" in error["message"]


def test_of_many_unknown_assets_the_first_are_named() -> None:
    ids = [f"{number:032x}" for number in range(8)]
    error = AssetNotFound(ids)
    assert error.details == {"asset_ids": ids}
    assert ids[4] in error.message
    assert "and 3 more" in error.message
    assert len(AssetNotFound(["x" * 10**6] * 9).message) < 500


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("asset_id", [UNKNOWN, "x", "' OR 1=1 --", "..%2f..%2fetc%2fpasswd", "%00", "ä"])
async def test_a_media_id_may_be_any_text(refusing: Service, method: str, asset_id: str) -> None:
    answer = await refusing.client.request(method, f"/media/{asset_id}")
    assert error_of(answer, 404, answer.json()["error"]["code"])["code"] in ("ASSET_NOT_FOUND", "NOT_FOUND")


@pytest.mark.parametrize("route", BODIES)
@pytest.mark.parametrize("body", [b"{", b"", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"asset_ids": [[[[', b"{}"])
async def test_a_body_that_is_no_such_object(refusing: Service, route: str, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = await refusing.client.post(f"/{route}", content=body, headers=headers)
    if route in ("extract-features", "preprocess-image") and body in (b"", b"null"):
        error_of(answer, 400, "INVALID_INPUT")  # the id might have been in the query
    else:
        details = error_of(answer, 422, "VALIDATION_ERROR")["details"]
        assert all(set(fault) == {"field", "problem"} for fault in details)
        assert details[0]["field"].startswith("body")


@pytest.mark.parametrize(
    ("route", "field", "value"),
    [
        ("extract-features", "asset_id", 5),
        ("extract-features", "asset_id", ""),
        ("preprocess-image", "asset_id", "x" * 129),
        ("calculate-similarity", "asset_id_2", None),
        ("find-best-match", "candidate_asset_ids", []),
        ("find-best-match", "candidate_asset_ids", "abc"),
        ("batch-similarity", "asset_ids", []),
        ("batch-similarity", "asset_ids", {"a": 1}),
        ("batch-similarity", "asset_ids", [1]),
        ("semantic-search", "top_k", 0),
        ("semantic-search", "top_k", 1001),
        ("semantic-search", "top_k", 2.5),
        ("semantic-search", "dataset_asset_ids", [None]),
        ("anomaly-detection", "reference_asset_ids", []),
        ("anomaly-detection", "test_asset_ids", []),
        ("anomaly-detection", "anomaly_threshold", -1),
        ("feature-clustering", "asset_ids", [KNOWN]),
        ("feature-clustering", "cluster_method", "magic"),
        ("feature-clustering", "n_clusters", 0),
        ("feature-clustering", "eps", 0),
        ("feature-clustering", "min_samples", 0),
    ],
)
async def test_a_field_out_of_range_is_named(refusing: Service, route: str, field: str, value: Any) -> None:
    good = BODIES[route]
    error = error_of(await refusing.try_post(route, **(good | {field: value})), 422, "VALIDATION_ERROR")
    fields = [fault["field"].removeprefix("body.").split(".")[0] for fault in error["details"]]
    assert set(fields) == {field}
    assert field in error["message"]


async def test_a_body_over_the_limit(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(max_body_bytes=1000)) as service:
        asset_id = await service.upload(picture(1))  # uploads have limits of their own
        headers = {"content-type": "application/json"}
        padding = f'{{"asset_id": "{asset_id}", "x": "%s"}}'

        async def chunked(size: int) -> AsyncIterator[bytes]:
            body = (padding % "").encode()
            yield body[:-2]
            for _ in range(size // 100):
                yield b"x" * 100
            yield body[-2:]

        for route in ("/extract-features", "/api/v1/extract-features"):
            large = (padding % ("x" * 1000)).encode()
            answer = await service.client.post(route, content=large, headers=headers)
            assert "at most 1,000" in error_of(answer, 413, "FILE_TOO_LARGE")["message"]
            answer = await service.client.post(route, content=chunked(2000), headers=headers)
            assert "at most 1,000" in error_of(answer, 413, "FILE_TOO_LARGE")["message"]
            answer = await service.client.post(route, content=chunked(500), headers=headers)
            assert answer.status_code == 200
        answer = await service.client.put("/config/quality-threshold", content=b"x" * 2000, headers=headers)
        error_of(answer, 413, "FILE_TOO_LARGE")


async def test_an_endless_body_is_not_read_to_its_end(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "MOST_DRAINED", 0)
    async with serve(settings_for(max_body_bytes=1000)) as service:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 100
                yield b"x" * 100

        answer = await service.client.post("/batch-similarity", content=endless())
        error_of(answer, 413, "FILE_TOO_LARGE")
        assert sent <= 1200


@pytest.mark.parametrize("length", ["-5", "abc", "1e9", "99999999999999999999", pytest.param("9" * 5000, id="digits")])
async def test_a_content_length_that_lies(refusing: Service, length: str) -> None:
    headers = {"content-type": "application/json", "content-length": length}
    answer = await refusing.client.post("/extract-features", content=b'{"asset_id": "x"}', headers=headers)
    assert answer.status_code in (404, 413)


async def test_a_route_that_does_not_exist(refusing: Service) -> None:
    for path in ("/", "/nothing", "/api/v1", "/api/v2/health"):
        assert path in error_of(await refusing.client.get(path), 404, "NOT_FOUND")["message"]
    answer = await refusing.client.get("/api/v1/extract-features")
    error_of(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST"


async def test_the_service_documents_itself(refusing: Service) -> None:
    assert (await refusing.client.get("/openapi.json")).json()["info"]["title"] == "visiongraph"
    assert (await refusing.client.get("/docs")).status_code == 200


async def test_of_a_flood_of_faults_only_the_first_are_reported(refusing: Service) -> None:
    answer = await refusing.try_post("batch-similarity", asset_ids=[0] * 100_000)
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["error"]["details"]] == ["body.asset_ids.0"]
