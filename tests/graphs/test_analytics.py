"""Anomalies and clusters of uploaded pictures."""

from typing import Any

import numpy as np
import pytest

from tests.graphs.conftest import Service
from tests.graphs.samples import error_of, picture, plain
from tests.tolerances import FP32, decimals


async def family(service: Service, seed: int, count: int) -> list[str]:
    """Upload near-duplicates of one picture."""
    return [await service.upload(picture(seed, noise=0.01 * (n + 1)), f"{seed}-{n}.png") for n in range(count)]


async def test_a_stranger_is_an_anomaly_and_a_sibling_is_not(service: Service) -> None:
    siblings = await family(service, 1, 5)
    stranger = await service.upload(picture(2), "stranger.png")
    body = {"reference_asset_ids": siblings[:4], "test_asset_ids": [stranger, siblings[4]]}
    answer = await service.post("anomaly-detection", **body)
    assert (answer["reference_assets"], answer["test_assets"], answer["anomaly_threshold"]) == (4, 2, 2.0)
    assert (answer["anomalies_detected"], answer["anomaly_rate"]) == (1, 0.5)
    odd, usual = answer["anomaly_results"]
    assert (odd["asset_id"], odd["filename"], odd["is_anomaly"]) == (stranger, "stranger.png", True)
    assert (usual["asset_id"], usual["is_anomaly"]) == (siblings[4], False)
    assert odd["anomaly_score"] > 2 > usual["anomaly_score"]
    assert usual["centroid_similarity"] > 0.95 > odd["centroid_similarity"]
    for each in (odd, usual):
        percentage = (each["centroid_similarity"] + 1) * 50
        assert each["centroid_similarity_percentage"] == pytest.approx(percentage, abs=2 * decimals(4))
    mean = (odd["anomaly_score"] + usual["anomaly_score"]) / 2
    assert answer["average_anomaly_score"] == pytest.approx(mean, abs=decimals(4))
    assert odd["confidence"] == 1  # more than twice the threshold
    assert usual["confidence"] == pytest.approx(min(1, (2 - usual["anomaly_score"]) / 2), abs=decimals(3))


async def test_the_threshold_decides(service: Service) -> None:
    siblings, stranger = await family(service, 1, 4), await service.upload(picture(2))
    body: dict[str, Any] = {"reference_asset_ids": siblings, "test_asset_ids": [stranger]}
    score = (await service.post("anomaly-detection", **body))["anomaly_results"][0]["anomaly_score"]
    for threshold, anomaly in ((score - 0.01, True), (score + 0.01, False)):
        answer = await service.post("anomaly-detection", **body, anomaly_threshold=threshold)
        assert answer["anomaly_results"][0]["is_anomaly"] is anomaly
        assert answer["anomaly_results"][0]["confidence"] < 0.01
        assert answer["anomalies_detected"] == int(anomaly)


async def test_anomalies_without_the_assets_that_fail(service: Service) -> None:
    siblings = await family(service, 1, 3)
    dark, white = await service.upload(plain("black")), await service.upload(plain("white"))
    answer = await service.post(
        "anomaly-detection", reference_asset_ids=[*siblings[:2], dark], test_asset_ids=[white, siblings[2]]
    )
    assert (answer["reference_assets"], answer["test_assets"]) == (2, 1)
    assert [result["asset_id"] for result in answer["anomaly_results"]] == [siblings[2]]
    assert {failed["asset_id"] for failed in answer["failed_assets"]} == {dark, white}
    for references, tests, word in (
        ([siblings[0], dark], [siblings[2]], "at least 2 reference"),
        ([siblings[0], siblings[0]], [siblings[2]], "at least 2 reference"),
        ([siblings[0]], [siblings[2]], "at least 2 reference"),
        (siblings[:2], [dark], "None of the test assets could be read."),
    ):
        refused = await service.try_post("anomaly-detection", reference_asset_ids=references, test_asset_ids=tests)
        assert word in error_of(refused, 400, "INVALID_INPUT")["message"]


@pytest.mark.parametrize("method", ["kmeans", "agglomerative", "dbscan", "hdbscan"])
@pytest.mark.parametrize("given", [True, False])
async def test_families_are_clusters(service: Service, method: str, given: bool) -> None:
    families = [await family(service, seed, 4) for seed in (1, 2, 3)]
    ids = [asset_id for group in zip(*families, strict=True) for asset_id in group]
    body: dict[str, Any] = {"asset_ids": ids, "cluster_method": method} | ({"n_clusters": 3} if given else {})
    answer = await service.post("feature-clustering", **body)
    assert (answer["total_assets"], answer["assets_clustered"], answer["n_clusters"]) == (12, 12, 3)
    assert (answer["cluster_method"], answer["noise"], answer["failed_assets"]) == (method, [], [])
    groups = {frozenset(cluster["assets"]) for cluster in answer["clusters"]}
    assert groups == {frozenset(group) for group in families}
    assert [cluster["cluster_id"] for cluster in answer["clusters"]] == [0, 1, 2]
    assert [cluster["size"] for cluster in answer["clusters"]] == [4, 4, 4]
    assert answer["silhouette_score"] > 0.8
    assert answer["confidence"] == pytest.approx(answer["silhouette_score"], abs=decimals(4))
    parts = [cluster["confidence"] for cluster in answer["clusters"]]
    assert sum(parts) / 3 == pytest.approx(answer["confidence"], abs=2 * decimals(4))
    for cluster in answer["clusters"]:
        assert [each["asset_id"] for each in cluster["asset_details"]] == cluster["assets"]
        assert {each["filename"][-4:] for each in cluster["asset_details"]} == {".png"}
    total = sum(cluster["inertia"] for cluster in answer["clusters"])
    assert answer["total_inertia"] == pytest.approx(total, abs=decimals(5))


async def test_a_centroid_is_the_mean_of_its_members(service: Service) -> None:
    ids = await family(service, 1, 3)
    answer = await service.post("feature-clustering", asset_ids=ids, n_clusters=1)
    (cluster,) = answer["clusters"]
    raw = [(await service.post("extract-features", asset_id=asset_id))["features"] for asset_id in ids]
    centred = np.array(raw) - 0.5
    units = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(cluster["centroid"], units.mean(0), atol=FP32)
    inertia = ((units - units.mean(0)) ** 2).sum()
    assert cluster["inertia"] == pytest.approx(inertia, abs=decimals(5))
    assert cluster["assets"] == ids
    assert (answer["silhouette_score"], answer["confidence"]) == (None, None)


async def test_what_fits_nowhere_is_noise(service: Service) -> None:
    siblings, stranger = await family(service, 1, 4), await service.upload(plain("#402060"))
    body = {"asset_ids": [*siblings, stranger], "cluster_method": "dbscan", "eps": 0.1}
    answer = await service.post("feature-clustering", **body)
    assert (answer["total_assets"], answer["assets_clustered"], answer["noise"]) == (5, 4, [stranger])
    assert answer["clusters"][0]["assets"] == siblings
    every = await service.post("feature-clustering", **body | {"eps": 1e-9})
    assert (every["n_clusters"], every["clusters"], len(every["noise"])) == (0, [], 5)
    assert (every["total_inertia"], every["silhouette_score"]) == (0, None)


async def test_clusters_without_the_assets_that_fail(service: Service) -> None:
    ids = await family(service, 1, 2)
    dark = await service.upload(plain("black"))
    answer = await service.post("feature-clustering", asset_ids=[dark, *ids, ids[0]], n_clusters=2)
    assert (answer["total_assets"], answer["assets_clustered"]) == (3, 2)
    assert [failed["asset_id"] for failed in answer["failed_assets"]] == [dark]
    for asset_ids, k, word in (
        ([ids[0], ids[0]], 1, "at least 2 different"),
        ([ids[0], dark], 1, "at least 2 different"),
        (ids, 3, "between 1 and the number of vectors (2), got 3"),
    ):
        refused = await service.try_post("feature-clustering", asset_ids=asset_ids, n_clusters=k)
        assert word in error_of(refused, 400, "INVALID_INPUT")["message"]
