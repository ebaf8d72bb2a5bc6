"""The sheet of small pictures of a film, and the times at which players show them."""

import asyncio
import io
import itertools
from collections.abc import AsyncIterator

import numpy as np
import pytest
from PIL import Image

from tests.graphs.harness import settings_in
from tests.graphs.media import MediaService, decoded, film, media_error, serving_media
from tests.graphs.samples import audio, picture


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MediaService]:
    with settings_in(tmp_path_factory.mktemp("sprites")) as config:
        async with serving_media(config) as made:
            yield made


def cues(text: str) -> list[tuple[float, float, tuple[int, ...], str]]:
    """Begin and end in seconds, the place on the sheet, and the sheet's name of each cue."""
    head, *blocks = text.strip().split("\n\n")
    assert head == "WEBVTT"
    found = []
    for block in blocks:
        times, place = block.split("\n")
        begin, end = (
            sum(60.0**power * float(part) for power, part in enumerate(reversed(each.split(":"))))
            for each in times.split(" --> ")
        )
        url, _, box = place.partition("#xywh=")
        found.append((begin, end, tuple(int(each) for each in box.split(",")), url))
    return found


@pytest.mark.parametrize("name", ["b-frames", "vfr", "rotated 90"])
async def test_each_time_has_the_picture_of_its_frame(service: MediaService, name: str) -> None:
    data = film(name)
    truth = decoded(data)
    asset = await service.add(data)
    answer = await service.get(asset, "thumbnails.vtt")
    assert answer.headers["content-type"] == "text/vtt; charset=utf-8"
    shown = cues(answer.text)
    count = len(truth.pictures)
    assert len(shown) == min(100, count)
    sheet_answer = await service.get(asset, "thumbnails.jpg")
    sheet = np.asarray(Image.open(io.BytesIO(sheet_answer.content)).convert("RGB"))
    height, width = truth.pictures[0].shape[:2]
    scale = min(1.0, 160 / max(width, height))
    for place, (begin, end, (x, y, w, h), url) in enumerate(shown):
        number = place * count // len(shown)
        assert url == "thumbnails.jpg"
        assert (w, h) == (max(2, round(width * scale)), max(2, round(height * scale)))
        assert begin == pytest.approx(0.0 if place == 0 else truth.times[number], abs=0.0011)  # milliseconds, rounded
        assert end > begin
        small = Image.fromarray(truth.pictures[number]).resize((w, h), Image.Resampling.BOX)
        off = np.abs(sheet[y : y + h, x : x + w].astype(np.int16) - np.asarray(small)).mean()
        assert off < 8, (place, off)
    assert all(first[1] == second[0] for first, second in itertools.pairwise(shown))


async def test_it_is_made_once_and_deleted_with_the_film(service: MediaService) -> None:
    asset = await service.add(film("open gop"))
    answers = await asyncio.gather(*(service.get(asset, f"thumbnails.{kind}") for kind in ("vtt", "jpg") * 3))
    assert {answer.status_code for answer in answers} == {200}
    first = answers[1]
    again = await service.client.get(
        f"/api/v1/file/{asset.asset_id}/thumbnails.jpg", headers={"if-none-match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    keys = {info.key async for info in service.context.objects.list(f"{asset.asset_id}/")}
    assert keys >= {f"{asset.asset_id}/thumbnails.jpg", f"{asset.asset_id}/thumbnails.json"}


async def test_who_came_by_a_signed_link_goes_on_by_it(service: MediaService) -> None:
    asset = await service.add(film("b-frames"))
    path = f"/api/v1/file/{asset.asset_id}/thumbnails.vtt?expires=1&client=a&signature=b&other=c"
    shown = cues((await service.client.get(path)).text)
    assert {url for *_, url in shown} == {"thumbnails.jpg?expires=1&client=a&signature=b"}


async def test_pictures_and_sound_have_none(service: MediaService) -> None:
    for data in (picture(1), audio()):
        asset = await service.add(data)
        for kind in ("vtt", "jpg"):
            media_error(await service.get(asset, f"thumbnails.{kind}"), 400, "INVALID_INPUT")
