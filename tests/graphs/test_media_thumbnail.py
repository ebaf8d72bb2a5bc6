"""Single frames as pictures: the right one, upright, whole or cropped."""

import io
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.graphs.harness import lasting, settings_in
from tests.graphs.media import MediaService, decoded, film, media_error, serving_media, url
from tests.graphs.samples import audio, picture
from tests.unit.vision.media.samples import shown
from vision.images import Pixels

VIDEOS = ("b-frames", "open gop", "vfr", "60 fps", "rotated 90", "rotated 180", "rotated 270", "edit list", "matroska")


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MediaService]:
    with settings_in(tmp_path_factory.mktemp("thumbnails")) as config:
        async with serving_media(config) as made:
            yield made


def opened(answer: httpx.Response) -> Pixels:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg"), answer.text
    assert answer.headers["cache-control"] == "public, max-age=86400"
    image = Image.open(io.BytesIO(answer.content))
    assert image.format == "JPEG"
    return np.asarray(image.convert("RGB"))


def difference(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean())


@pytest.mark.parametrize("name", VIDEOS)
async def test_frame_n_is_frame_n_of_a_decode_in_a_row(service: MediaService, name: str) -> None:
    data = film(name)
    truth = decoded(data)
    assert truth.numbers == shown(name)
    asset = await service.add(data)
    last = len(truth.pictures) - 1
    for number in (last, 0, 37, 36, 19, 20, 21, last - 1, 1):
        picture = opened(await service.get(asset, "thumbnail", frame=number))
        assert picture.shape == truth.pictures[number].shape
        place, off = truth.most_like(picture)
        assert (place, off < 3) == (number, True)


async def test_a_crop_is_a_part_of_the_upright_frame(service: MediaService) -> None:
    for name in ("b-frames", "rotated 90"):
        data = film(name)
        asset = await service.add(data)
        whole = decoded(data).pictures[11]
        height, width = whole.shape[:2]
        for x, y, w, h in ((0, 0, width, height), (16, 64, 40, 24), (width - 17, height - 9, 17, 9), (5, 5, 1, 1)):
            crop = opened(await service.get(asset, "thumbnail", frame=11, x=x, y=y, w=w, h=h))
            assert crop.shape == (h, w, 3)
            assert difference(crop, whole[y : y + h, x : x + w]) < 6


async def test_head_has_the_headers_alone(service: MediaService) -> None:
    asset = await service.add(film("b-frames"))
    whole, head = await service.get(asset, "thumbnail", frame=3), await service.head(asset, "thumbnail", frame=3)
    assert (head.status_code, head.content, lasting(head)) == (200, b"", lasting(whole))


async def test_what_is_wrong_is_said(service: MediaService) -> None:
    asset = await service.add(film("b-frames"))
    for query, words in (
        ({}, "frame"),
        ({"frame": "seven"}, "frame"),
        ({"frame": -1}, "frame"),
        ({"frame": 2**40}, "frame"),
        ({"frame": 1, "x": 0}, "no y, w, h."),
        ({"frame": 1, "x": 0, "y": 0, "w": 5}, "no h."),
        ({"frame": 1, "x": 0, "y": 0, "w": 0, "h": 5}, "query.w"),
        ({"frame": 1, "x": -1, "y": 0, "w": 5, "h": 5}, "query.x"),
        ({"frame": 1, "x": 200, "y": 0, "w": 57, "h": 5}, "256 x 192"),
        ({"frame": 1, "x": 0, "y": 192, "w": 1, "h": 1}, "256 x 192"),
    ):
        assert words in media_error(await service.get(asset, "thumbnail", **query), 400, "INVALID_INPUT")
    message = media_error(await service.get(asset, "thumbnail", frame=60), 400, "FRAME_OUT_OF_RANGE")
    assert "last frame of this video is 59" in message


async def test_only_videos_have_frames(service: MediaService) -> None:
    for data, words in ((picture(1), "image (PNG)"), (audio(), "audio (WAV)")):
        asset = await service.add(data)
        for route in ("thumbnail?frame=0", "video", "clip?start_frame=0&end_frame=1", "video/bbox", "trace/1/video"):
            message = media_error(await service.client.get(url(asset, route)), 400, "INVALID_INPUT")
            assert words in message
    unknown = f"/api/v1/file/{'0' * 32}/thumbnail?frame=0"
    assert "0" * 32 in media_error(await service.client.get(unknown), 404, "ASSET_NOT_FOUND")


async def test_a_video_whose_file_is_lost_is_not_found(service: MediaService) -> None:
    asset = await service.add(film("b-frames", frames=12))
    await service.context.objects.delete(asset.asset_id)
    for route in ("thumbnail?frame=0", "video", "video?audio=off", "clip?start_frame=0&end_frame=1"):
        media_error(await service.client.get(url(asset, route)), 404, "ASSET_NOT_FOUND")
    assert (await service.head(asset, "video")).status_code == 404
