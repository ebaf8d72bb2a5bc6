"""One photo: every part of its result, what flags leave out, and what goes wrong with it."""

import asyncio
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deployments.people.emotion import Emotion
from deployments.quality.blur import Sharpness
from deployments.quality.brisque import Distortion
from deployments.quality.nima import Rating, Ratings
from graphs.photos import analysis
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.photos import HAPPY, SAD, data_of, faces, photo_error, pixels_of, replace_stage, textured
from tests.graphs.samples import encoded, picture, plain
from tests.tolerances import FP32, decimals
from vision.embed.clip import ClipEmbedding
from vision.errors import ModelNotLoaded, StageError, StageOverloaded, StageUnavailable
from vision.images import Pixels

PARTS = {
    "run_blur": ("blur",),
    "run_quality": ("quality", "aesthetic"),
    "run_emotion": ("emotion",),
    "run_embedding": ("embedding",),
}
NOTHING = dict.fromkeys(PARTS, False)


async def analyzed(service: Service, data: bytes, *, missing: bool = False, **flags: Any) -> dict[str, Any]:
    """The result of a picture that must have one; ``missing``: without a model, of which it says so."""
    answer = await service.photo("analyze", image=data_of(data, "it"), **flags)
    assert answer["api_version"] == "1.0"
    result: dict[str, Any] = answer["result"]
    assert set(result) == {
        *("image_id", "source_url", "width_px", "height_px", "blur", "quality", "aesthetic", "emotion", "embedding"),
        *("processing_time_ms", "error"),
        *(("unavailable",) if missing else ()),
    }
    assert (result["image_id"], result["source_url"], result["error"]) == ("it", None, None)
    assert 0 < result["processing_time_ms"] < 60_000
    return result


async def test_every_part_of_a_photo(service: Service) -> None:
    data = faces((HAPPY, (10, 20, 39, 59)), (SAD, (60, 20, 79, 49)))
    image = pixels_of(data)
    result = await analyzed(service, data)
    assert (result["width_px"], result["height_px"]) == (100, 80)

    blur = result["blur"]
    assert blur["blur_threshold"] == 100
    assert blur["laplacian_variance"] == pytest.approx(laplacian_variance(image), rel=decimals(6))
    assert blur["is_blurry"] is False

    bright = float(image.mean()) / 255
    assert result["quality"]["brisque_score"] == pytest.approx(100 * bright, abs=decimals(3))
    assert result["quality"]["nima_technical_score"] == pytest.approx(10 - 9 * bright, abs=decimals(3))
    assert result["aesthetic"]["nima_aesthetic_score"] == pytest.approx(1 + 9 * bright, abs=decimals(3))

    emotion = result["emotion"]
    assert emotion["faces_detected"] == 2
    happy, sad = emotion["faces"]
    assert (happy["dominant_emotion"], happy["face_confidence"]) == ("happy", 0.9)
    assert (sad["dominant_emotion"], sad["face_confidence"]) == ("sad", 0.8)
    assert set(happy["scores"]) == {"angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"}
    assert sum(happy["scores"].values()) == pytest.approx(100)
    # The detector's boxes reach 1.2 pixels over the rectangles.
    assert happy["region"] == {"x": 9, "y": 19, "w": 32, "h": 42}

    embedding = result["embedding"]
    assert (embedding["model"], embedding["dimensions"], len(embedding["vector"])) == ("dummy/clip", 512, 512)
    assert np.linalg.norm(embedding["vector"]) == pytest.approx(1, rel=FP32)


def laplacian_variance(image: Any) -> float:
    """By hand, mirrored at the edges as OpenCV does."""
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float64)
    padded = np.pad(grey, 1, mode="reflect")
    neighbours = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return float((neighbours - 4 * grey).var())


@pytest.mark.parametrize(
    ("level", "quality", "aesthetic"),
    [(50, "high", "low"), (30, "medium", "low"), (90, "medium", "low"), (140, "low", "medium"), (200, "low", "high")],
)
async def test_labels(service: Service, level: int, quality: str, aesthetic: str) -> None:
    result = await analyzed(service, textured(level), run_emotion=False, run_embedding=False)
    assert (result["quality"]["overall_quality"], result["aesthetic"]["aesthetic_label"]) == (quality, aesthetic)


async def test_what_is_too_dark_or_too_bright_is_one_lower(service: Service) -> None:
    replace_stage(service, "quality/nima", lambda _: Ratings(EVEN_SIX, EVEN_SIX))
    replace_stage(service, "quality/brisque", lambda _: Distortion(20.0, 20.0, "dummy", ("plain_ground",)))
    labels = {}
    for level in (10, 25, 60, 120, 255):
        quality = (await analyzed(service, textured(level), run_emotion=False, run_embedding=False))["quality"]
        assert quality["brisque_outside"] == ["plain_ground"]
        labels[level] = (quality["exposure"], quality["overall_quality"])
    assert labels == {
        10: ("underexposed", "medium"),
        25: ("underexposed", "medium"),
        60: ("normal", "high"),
        120: ("normal", "high"),
        255: ("overexposed", "medium"),
    }
    replace_stage(service, "quality/brisque", lambda _: Distortion(30.0, 30.0, "dummy"))
    dark = await analyzed(service, textured(10), run_emotion=False, run_embedding=False)
    assert (dark["quality"]["overall_quality"], dark["quality"]["brisque_outside"]) == ("low", [])
    assert dark["quality"]["exposure_score"] < 0.4


async def test_a_smooth_picture_is_blurry(service: Service) -> None:
    result = await analyzed(service, picture(1, size=(320, 240)), run_emotion=False)
    assert result["blur"]["is_blurry"] is True
    assert result["blur"]["laplacian_variance"] < 100


@pytest.mark.parametrize("only", [*PARTS, None])
async def test_what_is_not_asked_for_is_null_and_not_computed(service: Service, only: str | None) -> None:
    service.nima.calls = 0
    flags = NOTHING | ({only: True} if only else {})
    result = await analyzed(service, faces((HAPPY, (10, 10, 40, 40))), **flags)
    given = PARTS[only] if only else ()
    for names in PARTS.values():
        for name in names:
            assert (result[name] is not None) == (name in given)
    assert (result["width_px"], result["height_px"]) == (100, 80)
    assert bool(service.nima.calls) == (only == "run_quality")


async def test_a_photo_without_faces_has_no_emotion(service: Service) -> None:
    assert (await analyzed(service, textured(100)))["emotion"] is None


async def test_a_face_at_the_edge_stays_inside_the_picture(service: Service) -> None:
    result = await analyzed(service, faces((HAPPY, (0, 0, 99, 79))), run_quality=False)
    assert result["emotion"]["faces"][0]["region"] == {"x": 0, "y": 0, "w": 100, "h": 80}


async def test_a_turned_photo_is_upright(service: Service) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned = encoded(Image.open(io.BytesIO(textured(90))), "JPEG", exif=exif)
    result = await analyzed(service, turned, run_embedding=False)
    assert (result["width_px"], result["height_px"]) == (48, 64)


async def test_the_same_photo_has_the_same_result(service: Service) -> None:
    data = textured(120)
    results = await asyncio.gather(*(analyzed(service, data) for _ in range(6)))
    for result in results:
        result.pop("processing_time_ms")
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ({}, "either url or data"),
        ({"url": "https://example.com/a.jpg", "data": "abcd"}, "either url or data"),
        ({"data": "data:image/png;base64,abcd"}, "leave out the prefix"),
        ({"data": ""}, "data"),
        ({"url": ""}, "url"),
        ({"url": 5}, "url"),
        ({"data": "abcd", "image_id": "x" * 129}, "image_id"),
        ("https://example.com/a.jpg", "image"),
        (None, "image"),
    ],
)
async def test_an_image_that_is_none(refusing: Service, image: Any, words: str) -> None:
    body = photo_error(await refusing.try_photo("analyze", image=image), 422, "validation_error")
    assert words in body["message"]
    assert body["detail"]


@pytest.mark.parametrize("flag", PARTS)
async def test_a_flag_is_yes_or_no(refusing: Service, flag: str) -> None:
    answer = await refusing.try_photo("analyze", image=data_of(plain("red")), **{flag: "perhaps"})
    assert flag in photo_error(answer, 422, "validation_error")["message"]


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b"null", b"\xff\xfe", b'{"image": [[[['])
async def test_a_body_that_is_no_such_object(refusing: Service, body: bytes) -> None:
    for route in ("analyze", "analyze/batch", "cluster", "analyze/llm"):
        headers = {"content-type": "application/json"}
        answer = await refusing.client.post(f"/v1/{route}", content=body, headers=headers)
        photo_error(answer, 422, "validation_error")


@pytest.mark.parametrize(
    "data",
    [b"This is no picture.", b"\xff\xd8\xff\xe0" + bytes(500), picture(1, size=(200, 150))[:2000], b"<svg/>"],
)
async def test_bytes_that_are_no_picture(refusing: Service, data: bytes) -> None:
    photo_error(await refusing.try_photo("analyze", image=data_of(data)), 422, "image_decode_error")


@pytest.mark.parametrize("text", ["not base64!", "abc", "ab-_", "aGVs\nbG8="])
async def test_text_that_is_no_base64(refusing: Service, text: str) -> None:
    body = photo_error(await refusing.try_photo("analyze", image={"data": text}), 422, "image_decode_error")
    assert "base64" in body["message"]


async def test_a_photo_over_the_limits(settings_for: MakeSettings, serve: Serve) -> None:
    data = textured(100, noise=60)
    async with serve(settings_for(max_image_size_bytes=len(data), max_image_pixels=64 * 48)) as service:
        await analyzed(service, data)
    async with serve(settings_for(max_image_size_bytes=len(data) - 1)) as service:
        body = photo_error(await service.try_photo("analyze", image=data_of(data)), 413, "image_too_large")
        assert f"{len(data):,} bytes" in body["message"]
        # So much that it is not even read.
        huge = {"data": "A" * (200_000 + 4 * len(data))}
        photo_error(await service.try_photo("analyze", image=huge), 413, "image_too_large")
    async with serve(settings_for(max_image_size_bytes=len(data), max_image_pixels=64 * 48 - 1)) as service:
        body = photo_error(await service.try_photo("analyze", image=data_of(data)), 413, "image_too_large")
        assert "64 x 48" in body["message"]


async def test_bodies_may_be_larger_than_those_of_other_routes(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(max_body_bytes=1000)) as service:
        data = textured(100, noise=60, size=(300, 200))
        assert len(data) > 50_000
        assert (await analyzed(service, data))["width_px"] == 300
        padded = await service.client.post("/v1/analyze/llm", content=b"x" * 2000)
        photo_error(padded, 413, "image_too_large")


REASON = "no verified weights; `visiongraph models pull it` gets them"
NOT_LOADED = ModelNotLoaded(f"{REASON}\n- it, url of.somewhere: the connection failed")
EVEN_SIX = Rating(6.5, 1, (0.1,) * 10)
EVEN = Rating(5, 1, (0.1,) * 10)  # of every picture
MISSING = [
    ("quality/blur", NOT_LOADED, "run_blur", {"blur"}),
    ("quality/brisque", NOT_LOADED, "run_quality", {"quality.brisque"}),
    ("quality/nima", NOT_LOADED, "run_quality", {"quality.nima", "aesthetic"}),
    ("quality/nima", Ratings(None, EVEN, {"technical": REASON}), "run_quality", {"quality.nima"}),
    ("quality/nima", Ratings(EVEN, None, {"aesthetic": REASON}), "run_quality", {"aesthetic"}),
    ("people/faces", NOT_LOADED, "run_emotion", {"emotion"}),
    ("people/emotion", NOT_LOADED, "run_emotion", {"emotion"}),
    ("embed/clip", NOT_LOADED, "run_embedding", {"embedding"}),
]


@pytest.mark.parametrize(("key", "answer", "flag", "parts"), MISSING)
async def test_a_part_without_its_model_is_null_and_named(
    service: Service, key: str, answer: Any, flag: str, parts: set[str]
) -> None:
    data = faces((HAPPY, (10, 10, 40, 40)))
    complete = await analyzed(service, data)
    replace_stage(service, key, lambda _: answer)
    result = await analyzed(service, data, missing=True)
    assert result["unavailable"] == dict.fromkeys(parts, REASON)
    for name in ("blur", "quality", "aesthetic", "emotion", "embedding"):
        if name in parts:
            assert result[name] is None
        elif not isinstance(answer, Ratings) and not any(part.startswith(f"{name}.") for part in parts):
            assert result[name] == complete[name]
    batch = await service.photo("analyze/batch", images=[data_of(data)])
    assert (batch["succeeded"], batch["results"][0]["unavailable"]) == (1, result["unavailable"])
    assert batch["results"][0]["quality"] == result["quality"]


@pytest.mark.parametrize(("key", "answer", "flag", "parts"), MISSING)
async def test_a_part_that_was_asked_for_by_name_is_not_left_out(
    service: Service, key: str, answer: Any, flag: str, parts: set[str]
) -> None:
    replace_stage(service, key, lambda _: answer)
    data = data_of(faces((HAPPY, (10, 10, 40, 40))))
    for route, body in (("analyze", {"image": data}), ("analyze/batch", {"images": [data, data]})):
        refused = photo_error(await service.try_photo(route, **body, **{flag: True}), 503, "model_not_ready")
        assert "weights" in refused["message"]
        await service.photo(route, **body, **{flag: False})
        rest = await service.photo(route, **body, **{other: True for other in PARTS if other != flag})
        for result in rest.get("results") or [rest["result"]]:
            assert set(result["unavailable"]) == parts


OTHER = "vit@12345678, projected to 512"


def without_clip(service: Service) -> list[Pixels]:
    """Have another model serve in the place of CLIP; return the pictures that it is given."""
    given: list[Pixels] = []

    def embed(image: Pixels) -> ClipEmbedding:
        given.append(image)
        return ClipEmbedding(np.full(512, 512**-0.5, np.float32), OTHER, fallback=True)

    replace_stage(service, "embed/clip", embed)
    return given


async def test_an_embedding_by_another_model_is_not_taken_for_one_of_clip(service: Service) -> None:
    given = without_clip(service)
    data = textured(100)
    for flags in ({}, {"run_embedding": True}, {"accept_fallback": False}):
        result = await analyzed(service, data, missing=True, **flags)
        assert result["embedding"] is None
        reason = result["unavailable"]["embedding"]
        for part in ("openai/clip-vit-base-patch32", OTHER, "accept_fallback=true"):
            assert part in reason
    assert len(given) == 1  # then it is known that nobody wants what it says
    result = await analyzed(service, data, accept_fallback=True)
    assert (result["embedding"]["model"], result["embedding"]["dimensions"]) == (OTHER, 512)
    batch = await service.photo("analyze/batch", images=[data_of(data)] * 2, accept_fallback=True)
    assert [each["embedding"]["model"] for each in batch["results"]] == [OTHER] * 2
    batch = await service.photo("analyze/batch", images=[data_of(data)] * 2)
    assert (batch["succeeded"], [each["embedding"] for each in batch["results"]]) == (2, [None] * 2)


async def test_a_setting_accepts_embeddings_by_another_model(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(accept_fallback=True)) as service:
        without_clip(service)
        assert (await analyzed(service, textured(100)))["embedding"]["model"] == OTHER
        refused = await analyzed(service, textured(100), missing=True, accept_fallback=False)
        assert refused["embedding"] is None


async def test_where_clip_comes_back_its_embeddings_do_too(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "NO_CLIP_S", 0.0)
    clip = service.context.stages["embed/clip"]
    without_clip(service)
    assert (await analyzed(service, textured(100), missing=True))["embedding"] is None
    service.context.stages["embed/clip"] = clip  # type: ignore[index]
    assert (await analyzed(service, textured(100)))["embedding"]["model"] == "dummy/clip"


def decimals_of(value: Any) -> list[int]:
    """How many decimals each number of an answer has, but for those of vectors and times."""
    if isinstance(value, dict):
        scores = {name: each for name, each in value.items() if name not in ("vector", "processing_time_ms")}
        return [count for each in scores.values() for count in decimals_of(each)]
    if isinstance(value, list):
        return [count for each in value for count in decimals_of(each)]
    text = repr(value)
    assert not isinstance(value, float) or "e" not in text, text
    return [len(text.partition(".")[2])] if isinstance(value, float) else []


async def test_scores_have_four_decimals(service: Service) -> None:
    others = ("angry", "disgust", "fear", "sad", "surprise", "neutral")
    happy = {**dict.fromkeys(others, 4.6e-7), "happy": 99.99284520661381}
    replace_stage(service, "people/emotion", lambda item: tuple(Emotion("happy", happy) for _ in item[1]))
    replace_stage(service, "quality/blur", lambda _: Sharpness(99.99996, True, 100.0))
    for data in (faces((HAPPY, (10, 20, 39, 59))), textured(77)):
        result = await analyzed(service, data)
        assert max(decimals_of(result)) <= 4
        # The verdict is of the number that is shown.
        assert (result["blur"]["laplacian_variance"], result["blur"]["is_blurry"]) == (100.0, False)
    scores = (await analyzed(service, faces((HAPPY, (10, 20, 39, 59)))))["emotion"]["faces"][0]["scores"]
    assert (scores["happy"], scores["sad"]) == (99.9928, 0.0)


async def test_brisque_and_nima_stand_alone(service: Service) -> None:
    bright = textured(100)  # 39 by BRISQUE, 6.5 by NIMA: medium
    assert "based_on" not in (await analyzed(service, bright))["quality"]
    brisque, nima = (service.context.stages[key] for key in ("quality/brisque", "quality/nima"))
    replace_stage(service, "quality/brisque", lambda _: NOT_LOADED)
    quality = (await analyzed(service, bright, missing=True))["quality"]
    assert (quality["brisque_score"], quality["overall_quality"], quality["based_on"]) == (None, "high", ["nima"])
    replace_stage(service, "quality/nima", lambda _: NOT_LOADED)
    result = await analyzed(service, bright, missing=True)
    assert (result["quality"], result["aesthetic"]) == (None, None)
    assert list(result["unavailable"]) == ["aesthetic", "quality.brisque", "quality.nima"]
    service.context.stages["quality/brisque"] = brisque  # type: ignore[index]
    quality = (await analyzed(service, bright, missing=True))["quality"]
    scores = (quality["nima_technical_score"], quality["overall_quality"], quality["based_on"])
    assert scores == (None, "medium", ["brisque"])
    service.context.stages["quality/nima"] = nima  # type: ignore[index]
    assert "based_on" not in (await analyzed(service, bright))["quality"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StageUnavailable("it restarts"), 503, "model_not_ready"),
        (StageOverloaded("its queue is full"), 429, "overloaded"),
    ],
)
@pytest.mark.parametrize("key", ["quality/brisque", "quality/nima", "people/faces", "embed/clip"])
async def test_a_stage_that_is_away_for_a_moment_costs_the_request(
    service: Service, key: str, error: StageError, status: int, code: str
) -> None:
    replace_stage(service, key, lambda _: error)
    data = data_of(textured(90))
    photo_error(await service.try_photo("analyze", image=data), status, code)
    photo_error(await service.try_photo("analyze/batch", images=[data]), status, code)


async def test_a_picture_without_a_quality_has_the_rest(service: Service) -> None:
    data = picture(1, size=(13, 40))
    body = photo_error(await service.try_photo("analyze", image=data_of(data)), 422, "validation_error")
    assert body["message"] == "This picture is too small for BRISQUE. run_quality=false leaves its quality out."
    rest = await analyzed(service, data, run_quality=False)
    assert (rest["blur"] is None, rest["embedding"] is None, rest["quality"]) == (False, False, None)


async def test_a_part_that_fails_ends_the_others(service: Service) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang(_: Any) -> Any:
        started.set()
        await asyncio.Event().wait()

    async def fail(_: Any) -> Any:
        await started.wait()
        return StageUnavailable("it restarts")

    replace_stage(service, "embed/clip", hang)
    replace_stage(service, "quality/nima", fail)
    handle = service.context.stages["embed/clip"]

    async def watched(item: Any) -> Any:
        try:
            return await handle(item)
        except asyncio.CancelledError:
            ended.set()
            raise

    service.context.stages["embed/clip"] = watched  # type: ignore[assignment]
    photo_error(await service.try_photo("analyze", image=data_of(textured(90))), 503, "model_not_ready")
    assert ended.is_set()


async def test_a_client_that_leaves_ends_everything(service: Service) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def watched(_: Any) -> Any:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise

    service.context.stages["embed/clip"] = watched  # type: ignore[assignment]
    for route, body in (
        ("analyze", {"image": data_of(textured(90))}),
        ("analyze/batch", {"images": [data_of(textured(90))]}),
    ):
        started.clear()
        ended.clear()
        leaving = asyncio.create_task(service.try_photo(route, **body))
        await started.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert ended.is_set()


async def test_one_picture_is_decoded_once_for_all_parts(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphs.web import images

    calls: list[int] = []

    def counted(data: bytes, **options: Any) -> Any:
        calls.append(len(data))
        return decode(data, **options)

    decode = images.decode
    monkeypatch.setattr(images, "decode", counted)
    data = faces((HAPPY, (10, 10, 40, 40)))
    await analyzed(service, data)
    assert calls == [len(data)]


async def test_no_stage_can_change_what_the_others_see(service: Service) -> None:
    seen: list[Pixels] = []

    def look(image: Pixels) -> Sharpness:
        seen.append(image)
        return Sharpness(1.0, True, 100.0)

    replace_stage(service, "quality/blur", look)
    await analyzed(service, textured(90))
    assert [image.flags.writeable for image in seen] == [False]
