"""What clients of the service that these contracts are from do in a row, as its own public tests do it.

Where that service answered otherwise, the reason stands beside the call.
"""

import pytest

from tests.contract.fields import CONTRACT
from tests.graphs.conftest import Service
from tests.graphs.samples import error_of, picture


async def test_a_client_goes_through_all_routes(service: Service) -> None:
    client = service.client

    async def call(method: str, path: str, **body: object) -> dict[str, object]:
        answer = await client.request(method, f"/api/v1/{path}", json=body or None)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()  # type: ignore[no-any-return]

    async def post(route: str, **body: object) -> dict[str, object]:
        answer = await call("POST", route, **body)
        assert set(CONTRACT["POST", route].response) <= set(answer), route
        return answer

    one = await service.upload(picture(1), "test_image.jpg")
    two = await service.upload(picture(2), "test_image_2.jpg")
    assert (await call("GET", "health"))["status"] == "ok"
    assert {"model_config", "capabilities", "limits", "status"} <= set(await call("GET", "model-info"))
    assert set(CONTRACT["GET", "media/{asset_id}"].response) - {"duration", "fps", "frame_count"} <= set(
        await call("GET", f"media/{one}")
    )
    for route in ("preprocess-image", "extract-features", "analyze-quality", "analyze-image-metrics"):
        assert (await post(route, asset_id=one))["asset_id"] == one
    for route in ("calculate-similarity", "validate-consistency"):
        await post(route, asset_id_1=one, asset_id_2=two)
    matched = await post("find-best-match", reference_asset_id=one, candidate_asset_ids=[two])
    assert matched["candidates_processed"] == 1
    for route in ("batch-similarity", "batch-quality-check", "group-by-character"):
        await post(route, asset_ids=[one, two])
    await post("character-matching", reference_asset_id=one, test_asset_ids=[two])
    await post("validate-shot-consistency", character_reference_asset_id=one, shot_asset_ids=[two])
    await post("reference-enforcement", master_reference_asset_id=one, generated_asset_ids=[two])
    assert (await post("semantic-search", query_asset_id=one, dataset_asset_ids=[two]))["results_found"] == 1
    assert (await post("feature-clustering", asset_ids=[one, two], n_clusters=2))["n_clusters"] == 2
    assert (await call("PUT", "config/quality-threshold", threshold=0.75))["updated"] is True
    assert (await call("PUT", "config/similarity-threshold", threshold=80.0))["previous_threshold"] == 75.0
    for asset_id in (one, two):
        assert (await call("DELETE", f"media/{asset_id}"))["deleted"] is True


async def test_one_reference_has_no_spread_there_as_here(service: Service) -> None:
    one, two = await service.upload(picture(1)), await service.upload(picture(2))
    answer = await service.try_post("anomaly-detection", reference_asset_ids=[one], test_asset_ids=[two])
    assert "at least 2 reference assets" in error_of(answer, 400, "INVALID_INPUT")["message"]


async def test_the_same_bytes_are_one_asset_and_were_two_there(service: Service) -> None:
    one, again = await service.upload(picture(1), "a.jpg"), await service.upload(picture(1), "b.jpg")
    assert one == again
    same = await service.post("calculate-similarity", asset_id_1=one, asset_id_2=again)
    assert same["similarity_percentage"] == 100
    refused = await service.try_post("feature-clustering", asset_ids=[one, again], n_clusters=2)
    assert "2 different assets" in error_of(refused, 400, "INVALID_INPUT")["message"]


@pytest.mark.parametrize(
    ("route", "name"),
    [
        ("validate-shot-consistency", "character_reference_id"),
        ("reference-enforcement", "master_reference_id"),
    ],
)
async def test_names_that_its_tests_use_and_its_code_does_not_are_told(service: Service, route: str, name: str) -> None:
    """Both refuse them; here the answer says which field is missing."""
    one = await service.upload(picture(1))
    answer = await service.try_post(route, **{name: one}, shot_asset_ids=[one], generated_asset_ids=[one])
    assert (
        f"{name.removesuffix('_id')}_asset_id: Field required" in error_of(answer, 422, "VALIDATION_ERROR")["message"]
    )
