"""Clusters of embeddings that the client brings."""

from typing import Any

import numpy as np
import pytest

from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.photos import data_of, photo_error
from tests.graphs.samples import picture


def groups(*sizes: int, dimensions: int = 512) -> tuple[list[list[float]], list[str]]:
    """Embeddings around so many directions, and their ids: a0, a1, …, b0, …"""
    rng = np.random.default_rng(1)
    rows, ids = [], []
    for name, size in zip("abcdef", sizes, strict=False):
        centre = rng.normal(size=dimensions)
        rows += [(centre + rng.normal(0, 0.05, dimensions)).tolist() for _ in range(size)]
        ids += [f"{name}{number}" for number in range(size)]
    return rows, ids


async def test_groups_and_a_stranger(service: Service) -> None:
    embeddings, ids = groups(3, 2, 1)
    order = [0, 3, 5, 1, 4, 2]
    answer = await service.photo(
        "cluster", embeddings=[embeddings[i] for i in order], image_ids=[ids[i] for i in order]
    )
    assert (answer["api_version"], answer["algorithm"]) == ("1.0", "DBSCAN")
    assert (answer["eps_used"], answer["min_samples_used"], answer["total_images"]) == (0.35, 2, 6)
    assert (answer["num_clusters"], answer["num_noise"]) == (2, 1)
    assert {frozenset(cluster["image_ids"]) for cluster in answer["clusters"]} == {
        frozenset({"a0", "a1", "a2"}),
        frozenset({"b0", "b1"}),
    }
    assert [cluster["cluster_id"] for cluster in answer["clusters"]] == [0, 1]
    assert [cluster["size"] for cluster in answer["clusters"]] == [3, 2]
    assert [assigned["image_id"] for assigned in answer["assignments"]] == [ids[i] for i in order]
    for assigned in answer["assignments"]:
        assert assigned["is_noise"] == (assigned["image_id"] == "c0") == (assigned["cluster_id"] == -1)
        if not assigned["is_noise"]:
            assert assigned["image_id"] in answer["clusters"][assigned["cluster_id"]]["image_ids"]
    assert answer["processing_time_ms"] > 0


@pytest.mark.parametrize(("angle", "together"), [(0.30, True), (0.34, True), (0.36, False), (0.5, False)])
async def test_eps_is_a_cosine_distance(service: Service, angle: float, together: bool) -> None:
    cosine = 1 - angle
    embeddings = [[7.0, 0.0], [3 * cosine, 3 * (1 - cosine**2) ** 0.5]]  # lengths do not matter
    answer = await service.photo("cluster", embeddings=embeddings, image_ids=["p1", "p2"], eps=0.35)
    assert answer["num_clusters"] == int(together)
    assert answer["num_noise"] == (0 if together else 2)


async def test_defaults_are_settings(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(dbscan_eps_default=0.05, dbscan_min_samples_default=3)) as service:
        embeddings, ids = groups(3, 2)
        answer = await service.photo("cluster", embeddings=embeddings, image_ids=ids)
        assert (answer["eps_used"], answer["min_samples_used"]) == (0.05, 3)
        assert (answer["num_clusters"], answer["num_noise"]) == (1, 2)
        answer = await service.photo("cluster", embeddings=embeddings, image_ids=ids, eps=0.2, min_samples=2)
        assert (answer["eps_used"], answer["min_samples_used"], answer["num_clusters"]) == (0.2, 2, 2)


async def test_embeddings_of_analyze_can_be_clustered(service: Service) -> None:
    vectors = []
    for data in (picture(1), picture(1, noise=0.02), picture(2), picture(2, noise=0.02)):
        flags = {"run_blur": False, "run_quality": False, "run_emotion": False}
        answer = await service.photo("analyze", image=data_of(data), **flags)
        vectors.append(answer["result"]["embedding"]["vector"])
    answer = await service.photo("cluster", embeddings=vectors, image_ids=["1", "1x", "2", "2x"], eps=0.05)
    assert [cluster["image_ids"] for cluster in answer["clusters"]] == [["1", "1x"], ["2", "2x"]]


async def test_a_large_request(service: Service) -> None:
    embeddings, ids = groups(200, 150, 50)  # 4 MB of text
    answer = await service.photo("cluster", embeddings=embeddings, image_ids=ids)
    assert (answer["total_images"], answer["num_clusters"]) == (400, 3)


async def test_vectors_have_a_limit(service: Service) -> None:
    vectors = [[1.0, 0.0]] * 5001
    answer = await service.try_photo("cluster", embeddings=vectors, image_ids=["a"] * 5001)
    assert "5000" in photo_error(answer, 422, "validation_error")["message"]
    alike = await service.photo("cluster", embeddings=vectors[1:], image_ids=["a"] * 5000)
    assert (alike["num_clusters"], alike["clusters"][0]["size"]) == (1, 5000)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"embeddings": [[1, 2]], "image_ids": ["a"]}, "embeddings"),
        ({"embeddings": [], "image_ids": []}, "embeddings"),
        ({"embeddings": "abc"}, "embeddings"),
        ({"image_ids": ["a"]}, "image_ids"),
        ({"image_ids": ["a", "b", "c"]}, "3 image_ids"),
        ({"image_ids": ["a", 2]}, "image_ids"),
        ({"eps": 0.009}, "eps"),
        ({"eps": 2.01}, "eps"),
        ({"eps": "wide"}, "eps"),
        ({"min_samples": 0}, "min_samples"),
        ({"min_samples": 51}, "min_samples"),
        ({"min_samples": 2.5}, "min_samples"),
    ],
)
async def test_a_field_out_of_range_is_named(refusing: Service, changed: dict[str, Any], words: str) -> None:
    body = {"embeddings": [[1.0, 0.0], [0.0, 1.0]], "image_ids": ["a", "b"]} | changed
    assert words in photo_error(await refusing.try_photo("cluster", **body), 422, "validation_error")["message"]


@pytest.mark.parametrize("second", [[1.0], [1.0, None], ["1", "2"], [], 5, [[1], [2]]])
async def test_embeddings_that_cannot_be_compared(refusing: Service, second: Any) -> None:
    answer = await refusing.try_photo("cluster", embeddings=[[1.0, 0.0], second], image_ids=["a", "b"])
    assert "embeddings[1]" in photo_error(answer, 422, "clustering_error")["message"]


async def test_an_embedding_without_a_direction(refusing: Service) -> None:
    answer = await refusing.try_photo("cluster", embeddings=[[1.0, 0.0], [0.0, 0.0]], image_ids=["a", "b"])
    assert "Vector 1 " in photo_error(answer, 422, "clustering_error")["message"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
async def test_numbers_are_finite(refusing: Service, number: str) -> None:
    text = f'{{"embeddings": [[1.0, 0.0], [{number}, 1.0]], "image_ids": ["a", "b"]}}'
    headers = {"content-type": "application/json"}
    answer = await refusing.client.post("/v1/cluster", content=text.encode(), headers=headers)
    assert answer.json()["error"] in ("validation_error", "clustering_error")
    photo_error(answer, 422, answer.json()["error"])
