"""How the pictures of a video look: turned, stretched, interlaced, HDR, of changing size, of one pixel."""

import io
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from tests.cases.conftest import CaseFile, CaseService
from tests.unit.vision.media.samples import combing
from vision.images import Pixels


def opened(answer: httpx.Response) -> Pixels:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def clip_of(answer: httpx.Response) -> list[Pixels]:
    assert answer.status_code == 200, answer.text
    with av.open(io.BytesIO(answer.content)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


async def everywhere(served: CaseService, asset: str, frame: int = 0) -> dict[str, Pixels]:
    """Poster, thumbnail and a frame of the clip."""
    clip = clip_of(await served.of_file(asset, "clip", start_frame=frame, end_frame=frame + 1))
    return {
        "poster": opened(await served.poster(asset)),
        "thumbnail": opened(await served.of_file(asset, "thumbnail", frame=frame)),
        "clip": clip[0],
    }


def colour_at(picture: Pixels, x: float, y: float) -> list[int]:
    """The colour at a place, 0 to 1 from the left and from the top."""
    height, width = picture.shape[:2]
    return [int(level) for level in picture[int(y * height), int(x * width)]]


def is_orange(colour: list[int]) -> bool:
    return colour[0] > 180 and colour[2] < 60


def is_blue(colour: list[int]) -> bool:
    return colour[2] > 160 and colour[0] < 60


@pytest.mark.parametrize(
    ("name", "orange", "blue"),
    [
        ("mirrored.mp4", (0.75, 0.75), (0.25, 0.75)),
        ("flipped.mp4", (0.25, 0.25), (0.75, 0.25)),
        ("half_turn.mp4", (0.25, 0.75), (0.75, 0.75)),
    ],
)
async def test_a_video_is_mirrored_everywhere_or_nowhere(
    case: CaseFile, served: CaseService, name: str, orange: tuple[float, float], blue: tuple[float, float]
) -> None:
    facts = await served.upload(case("mirrored", name))
    assert (facts["width"], facts["height"], facts["rotation"]) == (96, 64, 0)
    for where, picture in (await everywhere(served, facts["asset_id"])).items():
        assert picture.shape == (64, 96, 3), where
        assert is_orange(colour_at(picture, *orange)), where
        assert is_blue(colour_at(picture, *blue)), where


async def test_a_video_has_the_shape_that_it_is_shown_in(case: CaseFile, served: CaseService) -> None:
    facts = await served.upload(case("anamorphic", "anamorphic.mp4"))
    assert (facts["width"], facts["height"]) == (192, 108)
    for where, picture in (await everywhere(served, facts["asset_id"])).items():
        assert picture.shape == (108, 192, 3), where
    part = await served.of_file(facts["asset_id"], "thumbnail", frame=0, x=100, y=40, w=92, h=68)
    assert opened(part).shape == (68, 92, 3)
    assert is_blue(colour_at(opened(part), 0.1, 0.5))


async def test_no_comb_is_seen_of_two_fields(case: CaseFile, served: CaseService) -> None:
    facts = await served.upload(case("interlaced", "interlaced.mp4"))
    pictures = await everywhere(served, facts["asset_id"], 7)
    assert max(combing(picture) for picture in pictures.values()) < 0.5
    clip = clip_of(await served.of_file(facts["asset_id"], "clip", start_frame=0, end_frame=19))
    assert len(clip) == 20
    assert max(map(combing, clip)) < 0.5
    assert min(np.ptp(picture) for picture in clip) > 180


async def test_hdr_is_as_bright_and_colourful_as_other_video(case: CaseFile, served: CaseService) -> None:
    facts = await served.upload(case("hdr_video", "hdr_pq.mp4"))
    for where, picture in (await everywhere(served, facts["asset_id"])).items():
        white, grey, red, green = (colour_at(picture, x, y) for y in (0.25, 0.75) for x in (0.25, 0.75))
        assert white == pytest.approx([208] * 3, abs=3), where
        assert grey == pytest.approx([135] * 3, abs=3), where
        assert red == pytest.approx([208, 0, 0], abs=6), where
        assert green == pytest.approx([0, 208, 0], abs=6), where


async def test_a_stream_that_changes_its_size_is_shown_in_one(case: CaseFile, served: CaseService) -> None:
    facts = await served.upload(case("size_change", "size_change.webm"))
    assert (facts["width"], facts["height"]) == (96, 64)
    for frame in (0, 29, 30, 45, 59):
        picture = opened(await served.of_file(facts["asset_id"], "thumbnail", frame=frame))
        assert picture.shape == (64, 96, 3)
        assert is_orange(colour_at(picture, 0.25, 0.75))
    part = await served.of_file(facts["asset_id"], "thumbnail", frame=45, x=48, y=32, w=48, h=32)
    assert is_blue(colour_at(opened(part), 0.5, 0.5))
    clip = clip_of(await served.of_file(facts["asset_id"], "clip", start_frame=0, end_frame=59))
    assert {picture.shape for picture in clip} == {(64, 96, 3)}


@pytest.mark.parametrize("query", [{}, {"start_frame": 2, "end_frame": 5}])
async def test_a_video_of_one_pixel_is_a_clip_of_four(
    case: CaseFile, served: CaseService, query: dict[str, Any]
) -> None:
    facts = await served.upload(case("one_pixel", "one_pixel.mkv"))
    assert (facts["width"], facts["height"]) == (1, 1)
    assert opened(await served.poster(facts["asset_id"])).shape == (1, 1, 3)
    clip = clip_of(await served.of_file(facts["asset_id"], "clip", **({"start_frame": 0, "end_frame": 9} | query)))
    assert len(clip) == (4 if query else 10)
    assert clip[0] == pytest.approx(np.full((2, 2, 3), 100), abs=3)
