"""Photos by the dozen: in order, each with its own fate, a few at a time."""

import asyncio
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from configs.settings import Settings
from deployments.quality.blur import Sharpness
from graphs.photos import analysis
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.photos import HAPPY, data_of, faces, photo_error, pixels_of, replace_stage, textured
from tests.graphs.samples import picture, plain
from tests.graphs.web import web_server
from vision.images import Pixels

FILES = {f"/{n}.jpg": textured(10 * n + 40, size=(60 + n, 40)) for n in range(8)} | {"/cut.jpg": textured(90)[:1500]}
LIGHT = {"run_emotion": False, "run_embedding": False}

SettingsForWeb = Callable[..., Settings]


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """URL of a server on this machine."""
    moved = {"/to-utf-8": "/café.jpg", "/to-encoded": "/caf%C3%A9.jpg", "/to-host": "/to-utf-8#é"}
    with web_server({**FILES, **moved, "/caf%C3%A9.jpg": FILES["/3.jpg"]}) as url:
        yield url


@pytest.fixture
def settings_for_web(settings_for: MakeSettings, web: str) -> SettingsForWeb:
    """Settings that let the server be fetched from, though it is not public."""
    allowed = {"fetch_allowed_hosts": "127.0.0.1", "fetch_ports": urlsplit(web).port}
    return lambda **values: settings_for(**{**allowed, **values})


async def test_one_photo_by_url(settings_for_web: SettingsForWeb, serve: Serve, web: str) -> None:
    async with serve(settings_for_web()) as service:
        url = f"{web}/3.jpg"
        answer = await service.photo("analyze", image={"url": url})
        result = answer["result"]
        assert (result["source_url"], result["image_id"], result["width_px"]) == (url, None, 63)
        sent = (await service.photo("analyze", image=data_of(FILES["/3.jpg"])))["result"]
        for name in ("blur", "quality", "aesthetic", "emotion", "embedding"):
            assert result[name] == sent[name]


@pytest.mark.parametrize("start", ["/to-utf-8", "/to-encoded", "/to-host", "/café.jpg"])
async def test_redirects_and_paths_in_any_script(
    settings_for_web: SettingsForWeb, serve: Serve, web: str, start: str
) -> None:
    async with serve(settings_for_web()) as service:
        result = (await service.photo("analyze", image={"url": web + start}))["result"]
        assert (result["source_url"], result["width_px"]) == (web + start, 63)


async def test_urls_that_cannot_be_fetched(settings_for_web: SettingsForWeb, serve: Serve, web: str) -> None:
    async with serve(settings_for_web(max_image_size_bytes=1000)) as service:
        for url, status, code in (
            (f"{web}/nothing.jpg", 422, "image_fetch_error"),
            ("http://10.0.0.1/a.jpg", 422, "image_fetch_error"),
            ("http://169.254.169.254/latest/meta-data", 422, "image_fetch_error"),
            ("file:///etc/passwd", 422, "image_fetch_error"),
            ("no url", 422, "image_fetch_error"),
            (f"{web}/3.jpg", 413, "image_too_large"),
        ):
            photo_error(await service.try_photo("analyze", image={"url": url}), status, code)


async def test_twenty_mixed_photos_of_which_three_fail(
    settings_for_web: SettingsForWeb, serve: Serve, web: str
) -> None:
    by_url = [{"url": f"{web}/{n}.jpg", "image_id": f"u{n}"} for n in range(8)]
    by_data = [data_of(textured(100 + n, size=(80 + n, 50)), f"d{n}") for n in range(8)]
    images = [image for pair in zip(by_url, by_data, strict=True) for image in pair]
    images.append(data_of(faces((HAPPY, (10, 10, 40, 40))), "face"))
    images.insert(3, data_of(b"no picture at all", "corrupt"))
    images.insert(9, {"url": "http://10.0.0.1/inward.jpg", "image_id": "inward"})
    images.insert(15, {"url": f"{web}/cut.jpg", "image_id": "cut"})
    assert len(images) == 20
    async with serve(settings_for_web()) as service:
        answer = await service.photo("analyze/batch", images=images)
    assert (answer["api_version"], answer["total"], answer["succeeded"], answer["failed"]) == ("1.0", 20, 17, 3)
    assert answer["total_processing_time_ms"] > 0
    results = answer["results"]
    assert [result["image_id"] for result in results] == [image["image_id"] for image in images]
    assert [result["source_url"] for result in results] == [image.get("url") for image in images]
    failed = {result["image_id"]: result["error"] for result in results if result["error"] is not None}
    assert {image_id: error.partition(": ")[0] for image_id, error in failed.items()} == {
        "corrupt": "image_decode_error",
        "inward": "image_fetch_error",
        "cut": "image_decode_error",
    }
    for result in results:
        parts = [result[name] for name in ("width_px", "height_px", "blur", "quality", "aesthetic", "embedding")]
        if result["image_id"] in failed:
            assert parts == [None] * 6
            assert failed[result["image_id"]].partition(": ")[2]
        else:
            assert None not in parts
    assert [result["width_px"] for result in results if (result["image_id"] or "")[0] == "u"] == [*range(60, 68)]
    (face,) = [result for result in results if result["image_id"] == "face"]
    assert face["emotion"]["faces"][0]["dominant_emotion"] == "happy"


async def test_a_batch_gives_what_single_requests_give(service: Service) -> None:
    pictures = [textured(50), faces((HAPPY, (5, 5, 50, 50))), picture(3)]
    answer = await service.photo("analyze/batch", images=[data_of(data) for data in pictures])
    for data, result in zip(pictures, answer["results"], strict=True):
        single = (await service.photo("analyze", image=data_of(data)))["result"]
        assert {**result, "processing_time_ms": 0} == {**single, "processing_time_ms": 0}


async def test_flags_are_those_of_all_photos(service: Service) -> None:
    answer = await service.photo("analyze/batch", images=[data_of(textured(n)) for n in (50, 90)], **LIGHT)
    for result in answer["results"]:
        assert (result["emotion"], result["embedding"]) == (None, None)
        assert result["quality"] is not None


async def test_everything_may_fail(service: Service) -> None:
    answer = await service.photo("analyze/batch", images=[data_of(b"no picture")] * 3)
    assert (answer["total"], answer["succeeded"], answer["failed"]) == (3, 0, 3)


async def test_a_batch_has_a_limit(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(max_batch_size=2)) as service:
        images = [data_of(plain("red"))] * 3
        body = photo_error(await service.try_photo("analyze/batch", images=images), 422, "batch_too_large")
        assert body["detail"] == {"given": 3, "limit": 2}
        assert service.nima.calls == 0
        assert (await service.photo("analyze/batch", images=images[:2]))["total"] == 2


async def test_one_fault_of_many_is_told(refusing: Service) -> None:
    body = photo_error(await refusing.try_photo("analyze/batch", images=[{}] * 2000), 422, "validation_error")
    assert [fault["field"] for fault in body["detail"]] == ["body.images.0"]
    photo_error(await refusing.try_photo("analyze/batch", images=[{"url": "x"}] * 1001), 422, "validation_error")


async def test_the_limit_is_twenty(refusing: Service) -> None:
    images = [data_of(plain("red"))] * 21
    photo_error(await refusing.try_photo("analyze/batch", images=images), 422, "batch_too_large")
    photo_error(await refusing.try_photo("analyze/batch", images=[]), 422, "validation_error")
    body = photo_error(
        await refusing.try_photo("analyze/batch", images=[images[0], {"data": "data:image/png;base64,abcd"}]),
        422,
        "validation_error",
    )
    assert "images.1" in body["message"]


async def test_only_a_few_photos_are_decoded_at_once(service: Service) -> None:
    at_once: list[int] = []
    most = 0

    async def slow(image: Pixels) -> Sharpness:
        nonlocal most
        at_once.append(1)
        most = max(most, len(at_once))
        await asyncio.sleep(0.02)
        at_once.pop()
        return Sharpness(float(image.mean()), False, 1.0)

    replace_stage(service, "quality/blur", slow)
    images = [data_of(textured(n + 40)) for n in range(12)]
    answer = await service.photo("analyze/batch", images=images, run_quality=False, **LIGHT)
    assert [result["blur"]["laplacian_variance"] for result in answer["results"]] == [
        pytest.approx(pixels_of(textured(n + 40)).mean()) for n in range(12)
    ]
    assert most == analysis.PICTURES_AT_ONCE


async def test_a_stage_that_fails_on_one_photo_fails_on_no_other(service: Service) -> None:
    tiny = picture(1, size=(10, 10))  # too small for BRISQUE
    answer = await service.photo("analyze/batch", images=[data_of(tiny), data_of(textured(90))], **LIGHT)
    small, good = answer["results"]
    assert small["error"].startswith("validation_error: ")
    assert good["error"] is None
