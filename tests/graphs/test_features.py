"""Features: on demand, once, of one model at a time; and what the model would see."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from stores.sqlite.documents import SqliteDocuments
from tests.dummies import digest
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import audio, error_of, picture, plain, video
from tests.tolerances import FP32


async def test_features_are_the_raw_numbers_of_the_model(service: Service) -> None:
    asset_id = await service.upload(plain("#ff8000"))
    answer = await service.post("extract-features", asset_id=asset_id)
    assert answer["asset_id"] == asset_id
    np.testing.assert_allclose(answer["features"], [1, 128 / 255, 0] * 128, atol=FP32)
    assert (answer["features_extracted"], answer["model_version"]) == (True, "dummy@00000000")
    moment = datetime.fromisoformat(answer["features_timestamp"])
    assert moment.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)


async def test_features_are_computed_once_and_kept(service: Service) -> None:
    asset_id = await service.upload(picture(1))
    assert (await service.get(f"media/{asset_id}"))["processing_status"] == "uploaded"
    answers = [await service.post("extract-features", asset_id=asset_id) for _ in range(3)]
    assert [answer["cached"] for answer in answers] == [False, True, True]
    assert len({(str(a["features"]), a["features_timestamp"]) for a in answers}) == 1
    assert service.embed.calls == 1
    shown = await service.get(f"media/{asset_id}")
    assert (shown["processing_status"], shown["features_extracted"]) == ("processed", True)
    np.testing.assert_array_equal(np.float32(shown["features"]), np.float32(answers[0]["features"]))
    assert shown["features_timestamp"] == answers[0]["features_timestamp"]
    assert (await service.uploaded(picture(1)))["processing_status"] == "processed"


async def test_twenty_requests_at_once_compute_features_once(service: Service) -> None:
    one, other = await service.upload(picture(1)), await service.upload(picture(2))
    requests = [service.post("extract-features", asset_id=one) for _ in range(10)]
    requests += [service.post("calculate-similarity", asset_id_1=one, asset_id_2=other) for _ in range(5)]
    requests += [service.post("batch-similarity", asset_ids=[other, one]) for _ in range(5)]
    answers = await asyncio.gather(*requests)
    assert len({str(answer["features"]) for answer in answers[:10]}) == 1
    assert service.embed.calls == 2


async def test_one_caller_that_leaves_takes_nothing_from_the_others(service: Service) -> None:
    asset_id = await service.upload(picture(1))
    handle, started, go = service.context.stages["embed/dinov3"], asyncio.Event(), asyncio.Event()
    call = handle._call

    async def slow(items: list[Any], deadline: float | None) -> list[Any]:
        started.set()
        await go.wait()
        return await call(items, deadline)

    handle._call = slow
    leaving, *staying = [asyncio.create_task(service.post("extract-features", asset_id=asset_id)) for _ in range(3)]
    await started.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    go.set()
    for answer in await asyncio.gather(*staying):
        assert len(answer["features"]) == 384
    assert service.embed.calls == 1


async def test_features_outlive_the_process_and_the_cache(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for()) as service:
        asset_id = await service.upload(picture(1))
        before = await service.post("extract-features", asset_id=asset_id)
    async with serve(settings_for(cache_url="")) as service:
        after = await service.post("extract-features", asset_id=asset_id)
        assert after["cached"] is True
        assert after["features"] == before["features"]
        assert after["features_timestamp"] == before["features_timestamp"]
        assert service.embed.calls == 0


async def test_the_id_may_come_in_the_query(service: Service) -> None:
    asset_id = await service.upload(picture(1))
    for route in ("extract-features", "preprocess-image"):
        for path in (f"/{route}", f"/api/v1/{route}"):
            answer = await service.client.post(path, params={"asset_id": asset_id})
            assert (answer.status_code, answer.json()["asset_id"]) == (200, asset_id)
        error = error_of(await service.client.post(f"/{route}"), 400, "INVALID_INPUT")
        assert "asset_id" in error["message"]


async def test_a_video_has_the_features_of_its_poster(service: Service) -> None:
    clip, still = await service.upload(video(1)), await service.upload(picture(1))
    assert len((await service.post("extract-features", asset_id=clip))["features"]) == 384
    alike = await service.post("calculate-similarity", asset_id_1=clip, asset_id_2=still)
    assert alike["similarity_percentage"] > 99
    shown = await service.get(f"media/{clip}")
    assert (shown["features_extracted"], shown["frame_count"]) == (True, 20)


@pytest.mark.parametrize("route", ["extract-features", "preprocess-image"])
async def test_sound_has_no_picture(service: Service, route: str) -> None:
    asset_id = await service.upload(audio())
    error = error_of(await service.try_post(route, asset_id=asset_id), 400, "INVALID_INPUT")
    assert asset_id in error["message"]
    assert "audio" in error["message"]


async def test_what_the_model_cannot_use_is_remembered_as_failed(service: Service) -> None:
    asset_id = await service.upload(plain("black"))
    error = error_of(await service.try_post("extract-features", asset_id=asset_id), 400, "INVALID_FILE_FORMAT")
    assert error["message"] == "This dummy cannot see in the dark."
    shown = await service.get(f"media/{asset_id}")
    assert (shown["processing_status"], shown["error_message"]) == ("failed", error["message"])
    assert (shown["features_extracted"], shown["features"]) == (False, None)
    service.embed.predict = lambda item: type(service.embed).predict(service.embed, item + 0.25)  # type: ignore[method-assign]
    assert (await service.post("extract-features", asset_id=asset_id))["features"] == [0.25] * 384
    shown = await service.get(f"media/{asset_id}")
    assert (shown["processing_status"], shown["error_message"]) == ("processed", None)


async def test_a_bug_of_the_stage_stays_in_its_log(service: Service) -> None:
    asset_id = await service.upload(plain("white"))
    error = error_of(await service.try_post("extract-features", asset_id=asset_id), 500, "PROCESSING_FAILED")
    assert "secret" not in str(error)
    assert (await service.get(f"media/{asset_id}"))["processing_status"] == "uploaded"


async def test_features_of_another_model_are_never_used(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for()) as service:
        old = await service.upload(picture(1))
        await service.post("extract-features", asset_id=old)
    async with serve(settings_for()) as service:
        service.embed.version = "dummy@11111111"
        assert (await service.get(f"media/{old}"))["features_extracted"] is False
        new = await service.upload(picture(2))
        pair = await service.post("calculate-similarity", asset_id_1=old, asset_id_2=new)
        assert pair["model_version"] == "dummy@11111111"
        assert service.embed.calls == 2
        answer = await service.post("semantic-search", query_asset_id=new)
        assert [hit["asset_id"] for hit in answer["search_results"]] == [old]


@pytest.mark.parametrize("route", ["calculate-similarity", "find-best-match", "semantic-search", "anomaly-detection"])
async def test_a_model_that_changes_while_it_serves(service: Service, route: str) -> None:
    old, new, third = [await service.upload(picture(seed)) for seed in (1, 2, 3)]
    for asset_id in (old, third):
        await service.post("extract-features", asset_id=asset_id)
    service.embed.version = "dummy@22222222"
    # The new model's numbers are the old ones' opposite: whoever compares them gets the wrong sign.
    predict = type(service.embed).predict
    service.embed.predict = lambda item: predict(service.embed, 1 - item)  # type: ignore[method-assign]
    body = {
        "calculate-similarity": {"asset_id_1": old, "asset_id_2": new},
        "find-best-match": {"reference_asset_id": old, "candidate_asset_ids": [new]},
        "semantic-search": {"query_asset_id": old, "dataset_asset_ids": [new]},
        "anomaly-detection": {"reference_asset_ids": [old, third], "test_asset_ids": [new]},
    }[route]
    during = await service.post(route, **body)
    service.embed.calls = 0
    after = await service.post(route, **body)
    assert {**during, "processing_time": 0} == {**after, "processing_time": 0}
    assert service.embed.calls == 0
    stored = await service.context.documents.get_features("dummy@22222222", [old, new])
    assert set(stored) == {old, new}


async def test_the_tensor_of_a_picture_is_described(service: Service) -> None:
    for data, name in ((plain("white"), "a.png"), (video(1), "a.mp4")):
        answer = await service.post("preprocess-image", asset_id=await service.upload(data, name))
        assert answer["asset_id"] == digest(data)
        assert (answer["preprocessed"], answer["tensor_shape"]) == (True, [1, 3, 32, 32])
        assert (answer["device"], answer["dtype"]) == ("cpu", "float32")
    low, high = (await service.post("preprocess-image", asset_id=digest(plain("white"))))["value_range"]
    assert (low, high) == (pytest.approx(1.0, rel=FP32), pytest.approx(1.0, rel=FP32))  # (1 - 0.5) / 0.5


async def test_a_remote_document_store_is_read_through_the_cache(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteDocuments, "remote", True)
    async with serve(settings_for()) as service:
        asset_id = await service.upload(picture(1))
        first = await service.post("extract-features", asset_id=asset_id)
        again = await service.post("extract-features", asset_id=asset_id)
        assert (again["features"], again["cached"]) == (first["features"], True)
        assert (await service.context.cache.get_many([f"features:dummy@00000000:{asset_id}"]))[0] is not None


async def test_an_embedded_document_store_needs_no_cache(service: Service) -> None:
    asset_id = await service.upload(picture(1))
    for _ in range(2):
        await service.post("extract-features", asset_id=asset_id)
    assert await service.context.cache.get_many([f"features:dummy@00000000:{asset_id}"]) == [None]
