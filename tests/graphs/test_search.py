"""Search among given assets and in the whole library."""

import pytest

from stores.open import Stores
from tests.dummies import digest
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import audio, error_of, picture, plain, video
from tests.tolerances import decimals


async def featured(service: Service, *seeds: int) -> list[str]:
    """Upload pictures and compute their features."""
    ids = [await service.upload(picture(seed), f"{seed}.png") for seed in seeds]
    await service.post("batch-similarity", asset_ids=ids)
    return ids


def hits(answer: dict) -> list[str]:
    return [hit["asset_id"] for hit in answer["search_results"]]


async def test_the_near_duplicate_is_first_in_the_whole_library(service: Service) -> None:
    await featured(service, *range(2, 32))
    copy = await service.upload(picture(1, noise=0.05), "copy.png")
    await service.post("extract-features", asset_id=copy)
    query = await service.upload(picture(1), "query.png")
    answer = await service.post("semantic-search", query_asset_id=query)
    assert (answer["query_asset_id"], answer["query_filename"]) == (query, "query.png")
    assert (answer["dataset_size"], answer["results_found"], answer["top_k"]) == (31, 10, 10)
    assert hits(answer)[0] == copy
    assert query not in hits(answer)
    first, second = answer["search_results"][:2]
    assert (first["filename"], second["filename"] != "copy.png") == ("copy.png", True)
    film = await service.upload(video(1), "named.jpg")
    among = await service.post("semantic-search", query_asset_id=query, dataset_asset_ids=[film, copy])
    assert {hit["asset_id"]: hit["kind"] for hit in among["search_results"]} == {film: "video", copy: "image"}
    assert first["similarity_score"] > 95 > second["similarity_score"]
    scores = [hit["similarity_score"] for hit in answer["search_results"]]
    assert scores == sorted(scores, reverse=True)


async def test_the_library_and_a_list_of_all_of_it_give_the_same(service: Service) -> None:
    query, *others = await featured(service, *range(12))
    whole = await service.post("semantic-search", query_asset_id=query, top_k=5)
    listed = await service.post("semantic-search", query_asset_id=query, dataset_asset_ids=others, top_k=5)
    assert len(hits(whole)) == 5
    assert hits(whole) == hits(listed)
    assert whole["dataset_size"] == listed["dataset_size"] == 11
    for one, other in zip(whole["search_results"], listed["search_results"], strict=True):
        assert one["similarity_score"] == pytest.approx(other["similarity_score"], abs=decimals(3))
    empty = await service.post("semantic-search", query_asset_id=query, dataset_asset_ids=[], top_k=5)
    assert hits(empty) == hits(whole)


async def test_a_list_is_searched_whether_or_not_it_has_features(service: Service) -> None:
    query, one, two = [await service.upload(picture(seed)) for seed in (1, 2, 3)]
    dark = await service.upload(plain("black"))
    answer = await service.post(
        "semantic-search", query_asset_id=query, dataset_asset_ids=[one, query, dark, two, one], top_k=1
    )
    assert (answer["dataset_size"], answer["results_found"], answer["top_k"]) == (3, 1, 1)
    assert [failed["asset_id"] for failed in answer["failed_assets"]] == [dark]
    alone = await service.post("semantic-search", query_asset_id=query, dataset_asset_ids=[query])
    assert (hits(alone), alone["dataset_size"]) == ([], 0)


async def test_a_search_sees_the_features_of_the_moment_before(service: Service) -> None:
    (query,) = await featured(service, 1)
    for seed in (2, 3, 4):
        (new,) = await featured(service, seed)
        answer = await service.post("semantic-search", query_asset_id=query)
        assert new in hits(answer)
        assert answer["dataset_size"] == seed - 1


async def test_a_deleted_asset_is_not_found_any_more(service: Service) -> None:
    query, gone, *kept = await featured(service, 1, 2, 3, 4)
    assert gone in hits(await service.post("semantic-search", query_asset_id=query))
    await service.delete(gone)
    answer = await service.post("semantic-search", query_asset_id=query)
    assert sorted(hits(answer)) == sorted(kept)
    assert answer["dataset_size"] == 2
    refused = await service.try_post("semantic-search", query_asset_id=gone)
    error_of(refused, 404, "ASSET_NOT_FOUND")


async def test_what_the_index_still_holds_of_a_deleted_asset_is_dropped(service: Service) -> None:
    query, gone, *kept = await featured(service, 1, 2, 3)
    await service.post("semantic-search", query_asset_id=query)
    # The delete of a gateway that was killed before it removed the asset from the index.
    await service.context.documents.delete_asset(gone)
    answer = await service.post("semantic-search", query_asset_id=query)
    assert (hits(answer), answer["dataset_size"]) == (kept, 1)
    stores = Stores.open(service.context.settings)
    assert await stores.vectors.count("dummy@00000000") == 2
    await stores.close()


async def test_a_lost_index_is_built_anew(settings_for: MakeSettings, serve: Serve) -> None:
    config = settings_for()
    async with serve(config) as service:
        query, *others = await featured(service, 1, 2, 3)
        before = hits(await service.post("semantic-search", query_asset_id=query))
        assert sorted(before) == sorted(others)
    config = settings_for(vectors_url=f"file://{config.home}/elsewhere")
    async with serve(config) as service:
        assert hits(await service.post("semantic-search", query_asset_id=query)) == before


async def test_videos_are_found_by_pictures(service: Service) -> None:
    query, clip = await service.upload(picture(1)), await service.upload(video(1))
    await featured(service, 2, 3)
    await service.post("extract-features", asset_id=clip)
    assert hits(await service.post("semantic-search", query_asset_id=query))[0] == clip


async def test_a_query_without_a_picture(service: Service) -> None:
    sound = await service.upload(audio())
    error = error_of(await service.try_post("semantic-search", query_asset_id=sound), 400, "INVALID_INPUT")
    assert "audio" in error["message"]


async def test_an_empty_library_has_no_results(service: Service) -> None:
    answer = await service.post("semantic-search", query_asset_id=await service.upload(picture(1)))
    assert (hits(answer), answer["dataset_size"], answer["results_found"]) == ([], 0, 0)
    assert answer["query_asset_id"] == digest(picture(1))
