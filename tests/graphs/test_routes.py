"""Every route once, under /api/v1 and without it, with every field that its clients read."""

from typing import Any

import pytest

from tests.contract.fields import CONTRACT
from tests.graphs.conftest import Service
from tests.graphs.samples import picture, video


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_every_route_answers_with_its_fields(service: Service, prefix: str) -> None:
    a, b, c = [await service.upload(picture(seed)) for seed in (1, 2, 3)]
    clip = await service.upload(video(1))
    bodies: dict[str, dict[str, Any]] = {
        "extract-features": {"asset_id": a},
        "preprocess-image": {"asset_id": a},
        "calculate-similarity": {"asset_id_1": a, "asset_id_2": b},
        "find-best-match": {"reference_asset_id": a, "candidate_asset_ids": [b, c, clip]},
        "batch-similarity": {"asset_ids": [a, b, c, clip]},
        "semantic-search": {"query_asset_id": a, "dataset_asset_ids": [], "top_k": 3},
        "anomaly-detection": {"reference_asset_ids": [a, b], "test_asset_ids": [c], "anomaly_threshold": 1.5},
        "feature-clustering": {"asset_ids": [a, b, c], "n_clusters": 2, "cluster_method": "kmeans"},
        "analyze-quality": {"asset_id": a},
        "analyze-image-metrics": {"asset_id": a},
        "analyze-image-composition": {"asset_id": a, "extract_features": True},
        "batch-quality-check": {"asset_ids": [a, b, clip]},
        "validate-consistency": {"asset_id_1": a, "asset_id_2": clip},
        "character-matching": {"reference_asset_id": a, "test_asset_ids": [b, clip]},
        "group-by-character": {"asset_ids": [a, b, clip], "similarity_threshold": 80},
        "validate-shot-consistency": {"character_reference_asset_id": a, "shot_asset_ids": [b, clip]},
        "reference-enforcement": {
            "master_reference_asset_id": a,
            "generated_asset_ids": [b, clip],
            "compliance_threshold": 90,
        },
        "config/quality-threshold": {"threshold": 0.6},
        "config/similarity-threshold": {"threshold": 70},
    }
    last = ("DELETE", "media/{asset_id}")
    for method, path in [*(route for route in CONTRACT if route != last), last]:
        url = f"{prefix}/{path.format(asset_id=clip)}"
        if path == "upload-media":
            answer = await service.client.post(url, files={"file": ("a.png", picture(9))})
        else:
            answer = await service.client.request(method, url, json=bodies.get(path))
        assert answer.status_code == 200, (url, answer.text)
        body, fields = answer.json(), CONTRACT[method, path]
        assert set(fields.response) <= set(body), url
        assert isinstance(body["processing_time"], float)
        for name, parts in fields.parts.items():
            items = body[name] if isinstance(body[name], list) else [body[name]]
            assert items, url
            assert all(set(parts) <= set(item) for item in items), url
    for part in ("content", "poster"):
        assert (await service.client.get(f"{prefix}/media/{clip}/{part}")).status_code == 404
        assert (await service.client.get(f"{prefix}/media/{a}/content")).content == picture(1)


async def test_no_route_has_only_one_of_its_two_addresses(service: Service) -> None:
    paths = (await service.client.get("/openapi.json")).json()["paths"]
    for path, methods in paths.items():
        for method, route in methods.items():
            if path == "/health" or route["tags"][0].startswith("assets"):
                plain = path.removeprefix("/api/v1").replace("{asset_id}", "0" * 32)
                for url in (plain, f"/api/v1{plain}"):
                    answer = await service.client.request(method, url)
                    assert answer.status_code != 405, url
                    assert "There is no route" not in answer.text, url
