"""What a vision language model says of a photo, and which photo it is shown."""

import base64
import io
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.dummies import digest
from tests.dummies.photos import REVIEW
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.photos import photo_error, replace_stage
from tests.graphs.samples import audio, picture, video
from tests.graphs.web import web_server
from vision.errors import ModelNotLoaded, StageError, StageUnavailable
from vision.language.providers import ProviderKeyMissing

URL = "https://example.com/photo.jpg"


def shown(question: Any) -> Image.Image:
    """The picture of a question that holds it."""
    head, _, body = question.image_url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


async def test_a_review(service: Service) -> None:
    answer = await service.photo("analyze/llm", image_url=URL, ref_id="photo_abc123", model="openai/gpt-4o")
    assert answer.pop("processing_ms") > 0
    assert answer == {
        "ref_id": "photo_abc123",
        "analysis": REVIEW.model_dump(),
        "model_used": "openai/gpt-4o-20260101",
        "tokens_used": 387,
        "error": None,
    }
    (question,) = service.describe.questions
    assert (question.image_url, question.model, question.prompt, question.max_tokens) == (
        *(URL, "openai/gpt-4o", None, 500),
    )
    assert 0 < question.timeout_s < service.context.settings.request_timeout_s


async def test_defaults_are_settings(settings_for: MakeSettings, serve: Serve) -> None:
    async with serve(settings_for(llm_default_model="gemini/gemini-1.5-pro", llm_max_tokens=700)) as service:
        answer = await service.photo("analyze/llm", image_url=URL)
        assert answer["ref_id"] is None
        await service.photo("analyze/llm", image_url=URL, custom_prompt="Is this a cat?", max_tokens=100)
        first, second = service.describe.questions
        assert (first.model, first.max_tokens, first.prompt) == ("gemini/gemini-1.5-pro", 700, None)
        assert (second.max_tokens, second.prompt) == (100, "Is this a cat?")


async def test_a_stored_asset_goes_as_bytes(service: Service) -> None:
    uploaded = await service.uploaded(picture(1, size=(400, 300)))
    asset_id = uploaded["asset_id"]
    urls = [
        asset_id,
        uploaded["public_url"],
        f"/api/v1/media/{asset_id}",
        f"/media/{asset_id}/content",
        f"{uploaded['public_url']}?download=1",
    ]
    for url in urls:
        await service.photo("analyze/llm", image_url=url)
    assert [shown(question).size for question in service.describe.questions] == [(400, 300)] * len(urls)


async def test_an_address_that_providers_do_not_take_is_fetched(settings_for: MakeSettings, serve: Serve) -> None:
    with web_server({"/a.png": picture(1, size=(40, 30))}) as url:
        allowed = {"fetch_allowed_hosts": "127.0.0.1", "fetch_ports": urlsplit(url).port}
        async with serve(settings_for(**allowed)) as service:
            await service.photo("analyze/llm", image_url=f"{url}/a.png")
            assert shown(service.describe.questions[0]).size == (40, 30)
            for inward in (f"{url}/b.png", "http://10.0.0.1/a.png"):
                photo_error(await service.try_photo("analyze/llm", image_url=inward), 422, "image_fetch_error")


async def test_a_large_photo_is_shrunk(service: Service) -> None:
    for size, shrunk in (((3136, 1000), (1568, 500)), ((700, 2000), (549, 1568))):
        asset_id = await service.upload(picture(1, size=size, fmt="JPEG"))
        await service.photo("analyze/llm", image_url=asset_id)
        assert shown(service.describe.questions[-1]).size == shrunk


async def test_a_video_is_shown_by_its_poster(service: Service) -> None:
    await service.photo("analyze/llm", image_url=await service.upload(video(1), "clip.mp4"))
    assert shown(service.describe.questions[0]).size == (64, 48)


async def test_another_host_is_not_this_service(service: Service) -> None:
    asset_id = await service.upload(picture(1))
    url = f"https://example.com/api/v1/media/{asset_id}/content"
    await service.photo("analyze/llm", image_url=url)
    assert service.describe.questions[0].image_url == url


async def test_an_asset_that_is_not_there(refusing: Service) -> None:
    for url in ("0" * 32, f"/api/v1/media/{'0' * 32}"):
        photo_error(await refusing.try_photo("analyze/llm", image_url=url), 404, "asset_not_found")


async def test_sound_has_nothing_to_show(service: Service) -> None:
    sound = await service.upload(audio(), "a.wav")
    photo_error(await service.try_photo("analyze/llm", image_url=sound), 422, "validation_error")


@pytest.mark.parametrize(
    "url",
    ["photo.jpg", "ftp://example.com/a.jpg", "file:///etc/passwd", "data:image/png;base64,abcd", "http://", "//x/y"],
)
async def test_what_is_no_address_of_a_picture(refusing: Service, url: str) -> None:
    body = photo_error(await refusing.try_photo("analyze/llm", image_url=url), 422, "validation_error")
    assert "image_url" in body["message"]


@pytest.mark.parametrize("url", ["http://[", "https://[::1"])
async def test_what_is_no_url_at_all(refusing: Service, url: str) -> None:
    photo_error(await refusing.try_photo("analyze/llm", image_url=url), 422, "validation_error")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_url", None),
        ("image_url", ""),
        ("max_tokens", 99),
        ("max_tokens", 2001),
        ("model", ""),
        ("model", "x" * 129),
        ("custom_prompt", "x" * 8001),
        ("ref_id", "x" * 129),
    ],
)
async def test_a_field_out_of_range_is_named(refusing: Service, field: str, value: Any) -> None:
    answer = await refusing.try_photo("analyze/llm", **{"image_url": URL, field: value})
    assert field in photo_error(answer, 422, "validation_error")["message"]


async def test_without_a_key_there_is_no_review(service: Service) -> None:
    replace_stage(service, "language/describe", lambda _: ModelNotLoaded("ANTHROPIC_API_KEY is not set."))
    body = photo_error(await service.try_photo("analyze/llm", image_url=URL), 503, "model_not_ready")
    assert "ANTHROPIC_API_KEY" in body["message"]


@pytest.mark.parametrize(
    ("missing", "helps"),
    [
        (ModelNotLoaded("No provider has a key.", optional=True), False),
        (ProviderKeyMissing("There is no key for openai; set OPENAI_API_KEY and restart.", optional=True), False),
        (ModelNotLoaded("No verified weights."), True),  # a stage looks for them again by itself
        (StageUnavailable("It is still loading."), True),
    ],
)
async def test_nobody_is_told_to_retry_what_no_retry_cures(service: Service, missing: StageError, helps: bool) -> None:
    replace_stage(service, "language/describe", lambda _: missing)
    answer = await service.try_photo("analyze/llm", image_url=URL)
    assert (answer.status_code, answer.json()["error"]) == (503, "model_not_ready")
    assert ("retry-after" in answer.headers) == helps


async def test_the_asset_is_the_one_that_was_uploaded(service: Service) -> None:
    red = await service.upload(picture(1))
    assert red == digest(picture(1))
    await service.upload(picture(2))
    await service.photo("analyze/llm", image_url=red)
    sent = shown(service.describe.questions[0]).resize((8, 6))
    original = Image.open(io.BytesIO(picture(1))).resize((8, 6))
    differences = [abs(a - b) for a, b in zip(sent.tobytes(), original.tobytes(), strict=True)]
    assert max(differences) < 25
