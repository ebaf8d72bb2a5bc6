"""Quality of assets: scores by the quality models, with what they are made of; batches with failures."""

from typing import Any

import numpy as np
import pytest

from deployments.quality.nima import Rating, Ratings
from graphs.assets.scores import EXPLAINED, overall_quality, quality_score, sharpness_score
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.photos import HAPPY, data_of, faces, pixels_of, replace_stage, textured
from tests.graphs.samples import audio, error_of, picture, plain, video
from tests.tolerances import decimals
from vision.errors import ModelNotLoaded

UNKNOWN = "0" * 32


async def test_quality_is_what_the_models_say(service: Service) -> None:
    data = textured(64)
    asset_id = await service.upload(data)
    answer = await service.post("analyze-quality", asset_id=asset_id)
    bright = float(pixels_of(data).mean()) / 255
    assert answer["nima_technical_score"] == pytest.approx(10 - 9 * bright, abs=decimals(4))
    assert answer["brisque_score"] == pytest.approx(100 * bright, abs=decimals(4))
    photo = await service.photo("analyze", image=data_of(data), run_emotion=False, run_embedding=False)
    blur = photo["result"]["blur"]
    assert answer["sharpness_score"] == sharpness_score(blur["laplacian_variance"], blur["blur_threshold"])
    parts = answer["nima_technical_score"], answer["brisque_score"], answer["sharpness_score"]
    assert answer["quality_score"] == quality_score(*parts)
    assert (answer["asset_id"], answer["model_version"]) == (asset_id, "dummy@00000000")


async def test_better_pictures_have_better_scores(service: Service) -> None:
    scores = []
    for level in (200, 128, 40):  # the dummies like the dark
        answer = await service.post("analyze-quality", asset_id=await service.upload(textured(level)))
        scores.append(answer["quality_score"])
    assert scores == sorted(scores)
    assert scores[0] + 0.1 < scores[1] < scores[2] - 0.1


async def test_statistics_are_of_the_features(service: Service) -> None:
    asset_id = await service.upload(textured(90))
    answer = await service.post("analyze-quality", asset_id=asset_id)
    raw = np.array((await service.post("extract-features", asset_id=asset_id))["features"])
    statistics = {"mean": raw.mean(), "std": raw.std(), "max": raw.max(), "min": raw.min()}
    assert answer["feature_statistics"] == pytest.approx(statistics, abs=decimals(5))
    shares = raw**2 / (raw**2).sum()
    assert answer["diversity_score"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()) / 384, abs=decimals(4))
    assert service.embed.calls == 1


async def test_the_configured_threshold_decides(service: Service) -> None:
    asset_id = await service.upload(textured(100))
    answer = await service.post("analyze-quality", asset_id=asset_id)
    assert answer["quality_threshold"] == 0.5
    score = answer["quality_score"]
    for threshold, passes in ((score, True), (score + 0.0001, False)):
        await service.client.put("/config/quality-threshold", json={"threshold": threshold})
        answer = await service.post("analyze-quality", asset_id=asset_id)
        assert (answer["quality_threshold"], answer["passes_threshold"]) == (threshold, passes)
        batch = await service.post("batch-quality-check", asset_ids=[asset_id])
        assert (batch["quality_threshold"], batch["quality_results"][0]["passes_threshold"]) == (threshold, passes)


async def test_metrics_are_parts_and_one_score_over_them(service: Service) -> None:
    asset_id = await service.upload(faces((HAPPY, (20, 20, 50, 60))))
    metrics = await service.post("analyze-image-metrics", asset_id=asset_id)
    quality = await service.post("analyze-quality", asset_id=asset_id)
    composition = await service.post("analyze-image-composition", asset_id=asset_id)
    for name in ("sharpness_score", "lighting_quality", "composition_score", "overall_quality"):
        assert 0 < metrics[name] <= 1, name
    assert metrics["sharpness_score"] == quality["sharpness_score"]
    assert metrics["composition_score"] == composition["composition_score"]
    assert metrics["dinov3_quality"] == quality["diversity_score"]
    parts = quality["quality_score"], metrics["lighting_quality"], metrics["composition_score"]
    assert metrics["overall_quality"] == pytest.approx(overall_quality(*parts), abs=2 * decimals(4))
    black = await service.post("analyze-image-metrics", asset_id=await service.upload(textured(9)))
    assert black["lighting_quality"] < metrics["lighting_quality"]


async def test_a_video_is_judged_by_its_poster(service: Service) -> None:
    clip = await service.upload(video(1), "clip.mp4")
    assert 0 < (await service.post("analyze-quality", asset_id=clip))["quality_score"] < 1
    assert 0 < (await service.post("analyze-image-metrics", asset_id=clip))["overall_quality"] < 1


@pytest.mark.parametrize("route", ["analyze-quality", "analyze-image-metrics", "analyze-image-composition"])
async def test_what_cannot_be_judged(service: Service, route: str) -> None:
    sound, dark = await service.upload(audio(), "a.wav"), await service.upload(plain("black"))
    assert "audio" in error_of(await service.try_post(route, asset_id=sound), 400, "INVALID_INPUT")["message"]
    error_of(await service.try_post(route, asset_id=dark), 400, "INVALID_FILE_FORMAT")


async def test_a_batch_isolates_what_fails(service: Service) -> None:
    good = [await service.upload(textured(level), f"{level}.png") for level in (40, 100, 160)]
    sound, dark = await service.upload(audio(), "a.wav"), await service.upload(plain("black"), "dark.png")
    tiny = await service.upload(picture(5, size=(9, 9)), "tiny.png")
    ids = [good[0], sound, good[1], UNKNOWN, dark, good[2], tiny]
    answer = await service.post("batch-quality-check", asset_ids=[*ids, good[0]])
    assert (answer["total_assets"], answer["processed_successfully"], answer["failed_assets"]) == (7, 3, 4)
    results = answer["quality_results"]
    assert [result["asset_id"] for result in results] == ids
    assert [result["filename"] for result in results] == [
        *("40.png", "a.wav", "100.png", None, "dark.png", "160.png", "tiny.png"),
    ]
    words = [None, "audio", None, "No asset with id", "see in the dark", None, "too small"]
    for result, word in zip(results, words, strict=True):
        if word is None:
            single = await service.post("analyze-quality", asset_id=result["asset_id"])
            names = ("quality_score", "diversity_score", "feature_statistics", "passes_threshold")
            assert {name: result[name] for name in names} == {name: single[name] for name in names}
            assert result["error"] is None
        else:
            assert word in result["error"]
            assert (result["quality_score"], result["diversity_score"], result["feature_statistics"]) == (None,) * 3
    scores = np.array([result["quality_score"] for result in results if result["error"] is None])
    assert answer["batch_statistics"] == pytest.approx(
        {
            "mean_quality": scores.mean(),
            "std_quality": scores.std(),
            "min_quality": scores.min(),
            "max_quality": scores.max(),
            "median_quality": np.median(scores),
        },
        abs=decimals(4),
    )


async def test_a_batch_in_which_everything_fails(service: Service) -> None:
    answer = await service.post("batch-quality-check", asset_ids=[UNKNOWN, await service.upload(audio(), "a.wav")])
    assert (answer["processed_successfully"], answer["failed_assets"]) == (0, 2)
    assert answer["batch_statistics"] is None


async def test_a_batch_has_a_limit(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(max_batch_assets=2)) as service:
        ids = [f"{number:032x}" for number in range(3)]
        error = error_of(await service.try_post("batch-quality-check", asset_ids=ids), 400, "BATCH_TOO_LARGE")
        assert error["details"] == {"given": 3, "limit": 2}
        assert (await service.post("batch-quality-check", asset_ids=ids[:2]))["failed_assets"] == 2


REASON = "no verified weights; `visiongraph models pull it` gets them"
NOT_LOADED = ModelNotLoaded(f"{REASON}\n- it, url of.somewhere: the connection failed")
NO_TECHNICAL = Ratings(None, Rating(5, 1, (0.1,) * 10), {"technical": REASON})


@pytest.mark.parametrize(
    ("key", "answer", "left"),
    [
        ("quality/nima", NOT_LOADED, "brisque"),
        ("quality/nima", NO_TECHNICAL, "brisque"),
        ("quality/brisque", NOT_LOADED, "nima"),
    ],
)
async def test_a_score_rests_on_the_models_that_are_there(service: Service, key: str, answer: Any, left: str) -> None:
    asset_id, missing = await service.upload(textured(100)), {key.replace("/", "."): REASON}
    complete = await service.post("analyze-quality", asset_id=asset_id)
    assert not {"based_on", "unavailable"} & set(complete)
    replace_stage(service, key, lambda _: answer)
    quality = await service.post("analyze-quality", asset_id=asset_id)
    scores = {"nima": "nima_technical_score", "brisque": "brisque_score"}
    parts = {name: complete[field] if name == left else None for name, field in scores.items()}
    assert {name: quality[field] for name, field in scores.items()} == parts
    score = quality_score(parts["nima"], parts["brisque"], complete["sharpness_score"])
    assert (quality["quality_score"], quality["based_on"]) == (score, [left, "sharpness"])
    assert (quality["passes_threshold"], quality["unavailable"]) == (score is not None and score >= 0.5, missing)
    assert quality["feature_statistics"] == complete["feature_statistics"]
    metrics = await service.post("analyze-image-metrics", asset_id=asset_id)
    assert (metrics["quality_score"], metrics["unavailable"]) == (score, missing)
    rest = metrics["lighting_quality"], metrics["composition_score"]
    assert metrics["overall_quality"] == pytest.approx(overall_quality(score, *rest), abs=decimals(3))
    batch = await service.post("batch-quality-check", asset_ids=[asset_id, UNKNOWN])
    assert (batch["processed_successfully"], batch["failed_assets"], batch["unavailable"]) == (1, 1, missing)
    assert (batch["quality_results"][0]["quality_score"], batch["based_on"]) == (score, [left, "sharpness"])
    assert "unavailable" not in await service.post("analyze-image-composition", asset_id=asset_id)


async def test_sharpness_alone_is_no_quality(service: Service) -> None:
    asset_id = await service.upload(textured(100))
    for key in ("quality/nima", "quality/brisque"):
        replace_stage(service, key, lambda _: NOT_LOADED)
    missing = dict.fromkeys(("quality.brisque", "quality.nima"), REASON)
    quality = await service.post("analyze-quality", asset_id=asset_id)
    assert (quality["quality_score"], quality["passes_threshold"], quality["based_on"]) == (None, None, [])
    assert quality["sharpness_score"] > 0
    metrics = await service.post("analyze-image-metrics", asset_id=asset_id)
    assert (metrics["quality_score"], metrics["overall_quality"], metrics["unavailable"]) == (None, None, missing)
    assert metrics["lighting_quality"] > 0
    batch = await service.post("batch-quality-check", asset_ids=[asset_id])
    assert (batch["processed_successfully"], batch["batch_statistics"], batch["unavailable"]) == (1, None, missing)
    (result,) = batch["quality_results"]
    assert (result["quality_score"], result["error"], result["diversity_score"] > 0) == (None, None, True)


async def test_without_the_embedding_model_there_are_no_statistics(service: Service) -> None:
    asset_id = await service.upload(textured(100))

    async def refuse(items: list[Any], _: float | None) -> list[Any]:
        return [NOT_LOADED] * len(items)

    service.context.stages["embed/dinov3"]._call = refuse
    quality = await service.post("analyze-quality", asset_id=asset_id)
    assert (quality["quality_score"] > 0, quality["diversity_score"], quality["model_version"]) == (True, None, None)
    metrics = await service.post("analyze-image-metrics", asset_id=asset_id)
    assert (metrics["overall_quality"] > 0, metrics["dinov3_quality"]) == (True, None)
    batch = await service.post("batch-quality-check", asset_ids=[asset_id])
    assert batch["quality_results"][0]["quality_score"] == quality["quality_score"]
    composition = await service.post("analyze-image-composition", asset_id=asset_id)
    for answer in (quality, metrics, batch, composition):
        assert answer["unavailable"] == {"features": REASON}
    assert composition["features"] is None
    body = {"asset_id": asset_id, "extract_features": True}
    error_of(await service.try_post("analyze-image-composition", **body), 503, "MODEL_NOT_LOADED")
    assert "unavailable" not in await service.post("analyze-image-composition", **body | {"extract_features": False})


async def test_without_the_face_detector_nobody_is_counted(service: Service) -> None:
    asset_id = await service.upload(faces((HAPPY, (10, 10, 40, 40))))
    assert (await service.post("analyze-image-composition", asset_id=asset_id))["faces_detected"] == 1
    replace_stage(service, "people/faces", lambda _: NOT_LOADED)
    answer = await service.post("analyze-image-composition", asset_id=asset_id)
    assert (answer["faces_detected"], answer["composition_analysis"]["shot_size"]) == (None, "undetermined")
    assert answer["unavailable"] == {"faces": REASON}
    assert (await service.post("analyze-image-metrics", asset_id=asset_id))["unavailable"] == {"faces": REASON}


async def test_model_info_says_how_scores_are_formed(service: Service) -> None:
    info = await service.get("model-info")
    assert {name: info["scores"][name] for name in EXPLAINED} == EXPLAINED
    for score in info["scores"].values():
        assert set(score["stages"]) <= set(info["stages"])
    assert info["capabilities"]["quality_analysis"] is True
    assert info["capabilities"]["composition_analysis"] is True
