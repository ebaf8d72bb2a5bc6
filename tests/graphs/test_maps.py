"""Maps that are laid over a picture: where it is sharp, and where it draws the eye."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from deployments.quality.maps import MADE
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import audio, encoded, error_of, plain, video
from tests.unit.vision.quality.test_composition import disc
from tests.unit.vision.quality.test_focus import blocks, blurred


def half_sharp() -> Image.Image:
    pixels = blocks()
    pixels[:, 480:] = blurred(pixels, 6)[:, 480:]
    return Image.fromarray(pixels)


async def values_of(service: Service, asset_id: str, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The values of a map, uint8 (h, w), as a program reads them: the indices of the PNG."""
    answer = await service.client.get(f"/api/v1/media/{asset_id}/maps/{name}.png")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    image = Image.open(io.BytesIO(answer.content))
    assert image.mode == "P"
    return np.asarray(image)


FORMS = [("PNG", {}), ("JPEG", {"quality": 90}), ("WEBP", {"quality": 90})]


@pytest.mark.parametrize(("form", "options"), FORMS, ids=[form for form, _ in FORMS])
async def test_the_focus_is_where_the_picture_is_sharp(service: Service, form: str, options: dict[str, int]) -> None:
    asset_id = await service.upload(encoded(half_sharp(), form, **options), f"half.{form.lower()}")
    focus = await values_of(service, asset_id, "focus")
    assert focus.shape == (85, 128)
    assert focus[:, :60].mean() / 255 > 0.7
    assert focus[:, 68:].mean() / 255 < 0.12


async def test_a_turned_photo_has_its_map_upright(service: Service) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: its left is above when shown
    asset_id = await service.upload(encoded(half_sharp(), "JPEG", quality=90, exif=exif), "turned.jpg")
    focus = await values_of(service, asset_id, "focus")
    assert focus.shape == (128, 85)
    assert focus[:60].mean() / 255 > 0.7
    assert focus[68:].mean() / 255 < 0.12


async def test_the_saliency_is_that_of_the_composition(service: Service) -> None:
    asset_id = await service.upload(encoded(Image.fromarray(disc(0.8, 0.3)), "PNG"))
    saliency = await values_of(service, asset_id, "saliency")
    assert (saliency.shape, saliency.max()) == ((48, 64), 255)
    rows, columns = np.nonzero(saliency > 127)
    assert (columns.mean() + 0.5) / 64 == pytest.approx(0.8, abs=0.02)
    assert (rows.mean() + 0.5) / 48 == pytest.approx(0.3, abs=0.02)
    nothing = await service.upload(plain("grey"))
    assert not (await values_of(service, nothing, "saliency")).any()


async def test_the_palette_shows_greater_values_brighter_and_more_opaque(service: Service) -> None:
    asset_id = await service.upload(encoded(half_sharp(), "PNG"))
    answer = await service.client.get(f"/api/v1/media/{asset_id}/maps/focus.png")
    image = Image.open(io.BytesIO(answer.content))
    values, shown = np.asarray(image), np.asarray(image.convert("RGBA")).astype(int)
    low, high = shown[values == values.min()][0], shown[values == values.max()][0]
    assert values.min() == 0
    assert (low[3], high[3] > 200) == (0, True)
    assert cv2.cvtColor(np.uint8([[high[:3]]]), cv2.COLOR_RGB2GRAY)[0, 0] > 150  # type: ignore[call-overload]
    assert len(answer.content) < 20_000


async def test_a_film_has_the_maps_of_its_poster_and_sound_has_none(service: Service) -> None:
    film = await service.upload(video(1), "film.mp4")
    assert (await values_of(service, film, "focus")).shape == (96, 128)
    sound = await service.upload(audio(), "voice.wav")
    error_of(await service.client.get(f"/api/v1/media/{sound}/maps/focus.png"), 400, "INVALID_INPUT")


async def test_a_map_is_made_once_and_goes_with_its_asset(
    settings_for: MakeSettings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(settings_for()) as service:
        asset_id = await service.upload(encoded(half_sharp(), "PNG"))
        path = f"/api/v1/media/{asset_id}/maps/focus.png"
        first = await service.client.get(path)
        monkeypatch.delitem(MADE, "focus")  # whoever makes it again fails
        again = await service.client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await service.client.get(path)).content == first.content
        stored = [info.key async for info in service.context.objects.list(f"{asset_id}/")]
        assert stored == [f"{asset_id}/map-focus"]
        assert (await service.client.delete(f"/api/v1/media/{asset_id}")).status_code == 200
        assert [info.key async for info in service.context.objects.list(f"{asset_id}/")] == []
        error_of(await service.client.get(path), 404, "ASSET_NOT_FOUND")


async def test_only_maps_that_there_are_can_be_asked_for(service: Service) -> None:
    asset_id = await service.upload(plain("grey"))
    for name in ("depth", "FOCUS", "focus.png"):
        answer = await service.client.get(f"/api/v1/media/{asset_id}/maps/{name}.png")
        assert answer.status_code in (400, 404, 422), name
