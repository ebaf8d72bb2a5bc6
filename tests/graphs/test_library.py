"""The library as it is shown: pages of assets, latest first, and small pictures of them."""

import io
from datetime import UTC, datetime

import pytest
from PIL import Image

from graphs.assets import library
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.samples import audio, error_of, picture, plain, video


async def test_pages_follow_each_other_latest_upload_first(service: Service) -> None:
    ids = [await service.upload(picture(number), f"photo {number}.png") for number in range(5)]
    seen, after, sizes = list[str](), None, list[int]()
    while True:
        answer = await service.client.get("/api/v1/assets", params={"limit": 2} | ({"after": after} if after else {}))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert page["counts"] == {"image": 5}
        seen += [asset["asset_id"] for asset in page["assets"]]
        sizes.append(len(page["assets"]))
        after = page["next"]
        if after is None:
            break
    assert (seen, sizes) == (ids[::-1], [2, 2, 1])


async def test_an_asset_is_described_with_a_picture_that_can_be_fetched(service: Service) -> None:
    film, sound = await service.upload(video(1), "film.mp4"), await service.upload(audio(), "voice.wav")
    page = (await service.client.get("/api/v1/assets")).json()
    voice, movie = page["assets"]
    assert (voice["asset_id"], voice["kind"], voice["thumbnail_url"]) == (sound, "audio", None)
    assert (movie["asset_id"], movie["kind"], movie["filename"]) == (film, "video", "film.mp4")
    assert movie["duration"] > 0
    assert abs(datetime.now(UTC) - datetime.fromisoformat(movie["uploaded_at"])).total_seconds() < 300
    shown = await service.client.get(movie["thumbnail_url"])
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
    assert max(Image.open(io.BytesIO(shown.content)).size) <= 320
    assert (await service.client.get("/api/v1/assets?kind=audio")).json()["assets"] == [voice]


async def test_names_are_found_in_any_case_and_over_many_pages(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "PAGE", 3)
    for number in range(10):
        await service.upload(picture(number), f"{'Straße' if number in (0, 7) else 'photo'}-{number}.png")
    page = (await service.client.get("/api/v1/assets", params={"name": "STRASSE", "limit": 1})).json()
    assert [asset["filename"] for asset in page["assets"]] == ["Straße-7.png"]
    params = {"name": "STRASSE", "limit": 1, "after": page["next"]}
    page = (await service.client.get("/api/v1/assets", params=params)).json()
    assert [asset["filename"] for asset in page["assets"]] == ["Straße-0.png"]
    monkeypatch.setattr(library, "PAGES_READ", 1)
    page = (await service.client.get("/api/v1/assets", params={"name": "STRASSE-0"})).json()
    assert page["assets"] == []
    assert page["next"] is not None  # there may be more behind what was read


@pytest.mark.parametrize("side", [160, 320, 640, 1280])
async def test_a_thumbnail_keeps_the_shape_and_is_made_once(service: Service, side: int) -> None:
    asset_id = await service.upload(picture(1, size=(2000, 500)))
    path = f"/api/v1/media/{asset_id}/thumbnail?side={side}"
    first = await service.client.get(path)
    assert Image.open(io.BytesIO(first.content)).size == (side, side // 4)
    stored = [info.key async for info in service.context.objects.list(f"{asset_id}/")]
    assert stored == [f"{asset_id}/thumbnail-{side}"]
    again = await service.client.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await service.client.delete(f"/api/v1/media/{asset_id}")).status_code == 200
    assert [info.key async for info in service.context.objects.list(f"{asset_id}/")] == []
    error_of(await service.client.get(path), 404, "ASSET_NOT_FOUND")


async def test_a_small_picture_is_not_made_larger(service: Service) -> None:
    asset_id = await service.upload(plain("rgb(200, 10, 10)"))
    shown = await service.client.get(f"/api/v1/media/{asset_id}/thumbnail?side=640")
    image = Image.open(io.BytesIO(shown.content))
    assert image.size == (20, 20)
    red, green, blue = image.convert("RGB").getpixel((10, 10))  # type: ignore[misc]
    assert abs(red - 200) < 4 and green < 16 and blue < 16  # noqa: PT018


async def test_sound_has_no_picture_and_a_made_up_cursor_is_refused(service: Service) -> None:
    asset_id = await service.upload(audio(), "voice.wav")
    error_of(await service.client.get(f"/api/v1/media/{asset_id}/thumbnail"), 400, "INVALID_INPUT")
    for after in ("x", "1-", "-a", "99999999999999999999-a", "1-../a", "1-\u0000"):
        error_of(await service.client.get("/api/v1/assets", params={"after": after}), 400, "INVALID_INPUT")


async def test_pictures_of_the_library_open_without_a_key_by_their_links(
    settings_for: MakeSettings, serve: Serve
) -> None:
    async with serve(settings_for(api_key="secret-of-the-test")) as service:
        keyed = {"x-api-key": "secret-of-the-test"}
        data = {"file": ("a.png", picture(1), "image/png")}
        assert (await service.client.post("/api/v1/upload-media", files=data, headers=keyed)).status_code == 200
        assert (await service.client.get("/api/v1/assets")).status_code == 401
        (asset,) = (await service.client.get("/api/v1/assets", headers=keyed)).json()["assets"]
        shown = await service.client.get(asset["thumbnail_url"])
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
        (again,) = (await service.client.get("/api/v1/assets", headers=keyed)).json()["assets"]
        assert again["thumbnail_url"] == asset["thumbnail_url"]  # so that a browser keeps the picture
        bare = asset["thumbnail_url"].partition("?")[0]
        assert (await service.client.get(bare)).status_code == 401
