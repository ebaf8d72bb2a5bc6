"""Comparisons: a pair, a reference and its candidates, all pairs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import audio, error_of, picture, plain
from tests.tolerances import decimals
from vision.embed.backbones import unrelated


async def unit(service: Service, asset_id: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the unit vector that the dummy model must have made of an asset."""
    raw = np.array((await service.post("extract-features", asset_id=asset_id))["features"]) - 0.5
    return raw / np.linalg.norm(raw)


async def test_a_pair_is_compared_by_cosine(service: Service) -> None:
    a, b = await service.upload(picture(1)), await service.upload(picture(2))
    answer = await service.post("calculate-similarity", asset_id_1=a, asset_id_2=b)
    cosine = float(await unit(service, a) @ await unit(service, b))
    assert answer["cosine_similarity"] == pytest.approx(cosine, abs=2 * decimals(6))
    assert answer["similarity_percentage"] == pytest.approx((answer["cosine_similarity"] + 1) * 50, abs=decimals(4))
    assert answer["euclidean_distance"] == pytest.approx(np.sqrt(2 - 2 * cosine), abs=2 * decimals(6))
    assert (answer["asset_id_1"], answer["asset_id_2"]) == (a, b)
    swapped = await service.post("calculate-similarity", asset_id_1=b, asset_id_2=a)
    assert swapped["similarity_percentage"] == answer["similarity_percentage"]


async def test_opposite_pictures_are_0_and_a_picture_is_100_to_itself(service: Service) -> None:
    dark, light = await service.upload(plain("#404040")), await service.upload(plain("#bfbfbf"))
    opposite = await service.post("calculate-similarity", asset_id_1=dark, asset_id_2=light)
    assert (opposite["similarity_percentage"], opposite["cosine_similarity"]) == (0, -1)
    assert opposite["euclidean_distance"] == 2
    for data in (picture(1), picture(2), picture(3, noise=0.1)):
        asset_id = await service.upload(data)
        same = await service.post("calculate-similarity", asset_id_1=asset_id, asset_id_2=asset_id)
        assert (same["similarity_percentage"], same["cosine_similarity"]) == (100, 1)
        assert same["euclidean_distance"] == 0


async def test_confidence_is_the_distance_to_the_configured_threshold(service: Service) -> None:
    dark, light = await service.upload(plain("#404040")), await service.upload(plain("#bfbfbf"))
    await service.client.put("/config/similarity-threshold", json={"threshold": 80})
    for other, confidence in ((dark, 1.0), (light, 1.0)):
        answer = await service.post("calculate-similarity", asset_id_1=dark, asset_id_2=other)
        assert answer["confidence"] == confidence
    a, b = await service.upload(picture(1)), await service.upload(picture(2))
    answer = await service.post("calculate-similarity", asset_id_1=a, asset_id_2=b)
    assert answer["similarity_percentage"] < 80
    assert answer["confidence"] == pytest.approx(1 - answer["similarity_percentage"] / 80, abs=decimals(4))


async def test_the_best_match_is_the_near_duplicate(service: Service) -> None:
    reference, copy = (
        await service.upload(picture(1)),
        await service.upload(picture(1, noise=0.05), "copy.png"),
    )
    others = [await service.upload(picture(seed)) for seed in (2, 3, 4)]
    wanted = [*others, copy, others[0]]  # one twice
    answer = await service.post("find-best-match", reference_asset_id=reference, candidate_asset_ids=wanted)
    assert (answer["reference_asset_id"], answer["candidates_processed"]) == (reference, 4)
    ranked = answer["ranked_results"]
    assert (ranked[0]["asset_id"], ranked[0]["filename"]) == (copy, "copy.png")
    assert answer["best_match"] == ranked[0]
    assert ranked[0]["similarity_percentage"] > 95
    cosines = [match["cosine_similarity"] for match in ranked]
    assert cosines == sorted(cosines, reverse=True)
    assert {match["asset_id"] for match in ranked} == set(wanted)
    pair = await service.post("calculate-similarity", asset_id_1=reference, asset_id_2=ranked[2]["asset_id"])
    assert {name: pair[name] for name in ranked[2] if name in pair} == {
        name: ranked[2][name] for name in ranked[2] if name in pair
    }


async def test_a_candidate_that_fails_is_named_and_the_others_ranked(service: Service) -> None:
    reference, good = await service.upload(picture(1)), await service.upload(picture(2))
    dark, bug, sound = [await service.upload(data) for data in (plain("black"), plain("white"), audio())]
    answer = await service.post(
        "find-best-match", reference_asset_id=reference, candidate_asset_ids=[dark, good, bug, sound]
    )
    assert [match["asset_id"] for match in answer["ranked_results"]] == [good]
    assert answer["candidates_processed"] == 1
    reasons = {failed["asset_id"]: failed["error"] for failed in answer["failed_assets"]}
    assert set(reasons) == {dark, bug, sound}
    assert reasons[dark] == "This dummy cannot see in the dark."
    assert "audio" in reasons[sound]
    assert "secret" not in reasons[bug]
    nothing = await service.post("find-best-match", reference_asset_id=reference, candidate_asset_ids=[dark])
    assert (nothing["best_match"], nothing["ranked_results"], nothing["candidates_processed"]) == (
        None,
        [],
        0,
    )


async def test_a_reference_or_pair_that_fails_is_an_error(service: Service) -> None:
    good, dark = await service.upload(picture(1)), await service.upload(plain("black"))
    refused = await service.try_post("find-best-match", reference_asset_id=dark, candidate_asset_ids=[good])
    error_of(refused, 400, "INVALID_FILE_FORMAT")
    refused = await service.try_post("calculate-similarity", asset_id_1=good, asset_id_2=dark)
    error_of(refused, 400, "INVALID_FILE_FORMAT")


async def test_the_matrix_has_every_pair(service: Service) -> None:
    ids = [await service.upload(picture(seed)) for seed in (3, 1, 2)]
    dark = await service.upload(plain("black"))
    answer = await service.post("batch-similarity", asset_ids=[*ids, dark, ids[0]])
    assert (answer["assets_processed"], answer["matrix_shape"]) == (3, [3, 3])
    assert [failed["asset_id"] for failed in answer["failed_assets"]] == [dark]
    rows = answer["similarity_matrix"]
    assert [row["asset_id"] for row in rows] == ids
    assert all([cell["asset_id"] for cell in row["similarities"]] == ids for row in rows)
    matrix = np.array([[cell["similarity_percentage"] for cell in row["similarities"]] for row in rows])
    assert (np.diag(matrix) == 100).all()
    assert (matrix == matrix.T).all()
    units = np.stack([await unit(service, asset_id) for asset_id in ids])
    np.testing.assert_allclose(matrix, (units @ units.T + 1) * 50, atol=2 * decimals(4))


async def test_a_batch_is_computed_in_one_go_per_asset(service: Service) -> None:
    ids = [await service.upload(picture(seed)) for seed in range(10)]
    await service.post("batch-similarity", asset_ids=ids)
    await service.post("batch-similarity", asset_ids=ids)
    assert service.embed.calls == 10


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("batch-similarity", lambda ids: {"asset_ids": ids}),
        ("find-best-match", lambda ids: {"reference_asset_id": ids[0], "candidate_asset_ids": ids}),
        ("semantic-search", lambda ids: {"query_asset_id": ids[0], "dataset_asset_ids": ids}),
        ("anomaly-detection", lambda ids: {"reference_asset_ids": ids[:2], "test_asset_ids": ids}),
        ("feature-clustering", lambda ids: {"asset_ids": ids}),
    ],
)
async def test_more_assets_than_the_limit(
    settings_for: MakeSettings, serve: Serve, route: str, body: Callable[[list[str]], dict[str, Any]]
) -> None:
    async with serve(settings_for(max_batch_assets=4)) as service:
        ids = [await service.upload(picture(seed)) for seed in range(5)]
        error = error_of(await service.try_post(route, **body(ids)), 400, "BATCH_TOO_LARGE")
        assert error["details"] == {"given": 5, "limit": 4}
        assert "the limit is 4" in error["message"]
        assert service.embed.calls == 0
        await service.post(route, **body(ids[:4]))


async def test_each_similarity_says_how_sure_it_is(service: Service) -> None:
    """The threshold is 75: 50 is a third below it, 100 is at the end."""
    ids = [await service.upload(picture(seed)) for seed in (1, 2, 3)]
    match = await service.post("find-best-match", reference_asset_id=ids[0], candidate_asset_ids=ids)
    found = await service.post("semantic-search", query_asset_id=ids[0], dataset_asset_ids=ids)
    matrix = await service.post("batch-similarity", asset_ids=ids)
    cells = [cell for row in matrix["similarity_matrix"] for cell in row["similarities"]]
    hits = found["search_results"]
    assert len(cells) == 9
    assert len(hits) == 2
    for each in (*match["ranked_results"], *hits, *cells):
        percentage = each["similarity_percentage"]
        sure = (percentage - 75) / 25 if percentage >= 75 else (75 - percentage) / 75
        assert each["confidence"] == pytest.approx(sure, abs=decimals(3))
    assert match["best_match"]["confidence"] == 1
    assert [hit["similarity_score"] for hit in hits] == [hit["similarity_percentage"] for hit in hits]
    # Nobody has measured the dummy model.
    assert [answer["unrelated"] for answer in (match, found, matrix)] == [None, None, None]


def test_what_unrelated_pictures_have_is_of_the_model_that_serves() -> None:
    known = unrelated("dinov2-vits14-lineage@c1325d0c")
    assert known is not None
    assert 40 < known.median < known.p95 < 75
    assert unrelated("dinov3-vits16@00000000") is None
