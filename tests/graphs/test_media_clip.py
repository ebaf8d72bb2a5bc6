"""Clips: the frames that were asked for and no others, in time and in tune."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest

from stores.records import Asset
from tests.graphs.harness import lasting, settings_in
from tests.graphs.media import Decoded, MediaService, beeps, decoded, film, media_error, serving_media, sound

VIDEOS = ("b-frames", "one key frame", "open gop", "vfr", "60 fps", "rotated 90", "rotated 270", "edit list", "vp9")


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MediaService]:
    with settings_in(tmp_path_factory.mktemp("clips")) as config:
        async with serving_media(config) as made:
            yield made


def played(answer: httpx.Response) -> Decoded:
    """A clip that must have come, decoded."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp2t"), answer.text
    assert answer.headers["cache-control"] == "public, max-age=86400"
    clip = decoded(answer.content)
    assert (clip.format, clip.codecs["video"]) == ("mpegts", "h264")
    return clip


@pytest.mark.parametrize("name", VIDEOS)
async def test_frame_k_of_a_clip_is_frame_n_of_a_decode_in_a_row(service: MediaService, name: str) -> None:
    data = film(name)
    truth = decoded(data)
    last = len(truth.pictures) - 1
    asset = await service.add(data)
    for start, end in ((0, last), (17, 42), (33, 33), (last - 2, last)):
        clip = played(await service.get(asset, "clip", start_frame=start, end_frame=end))
        assert len(clip.pictures) == end - start + 1
        for place, picture in enumerate(clip.pictures):
            most_like, off = truth.most_like(picture)
            assert (most_like, off < 6) == (start + place, True)
        times = np.array(truth.times[start : end + 1]) - truth.times[start]
        assert np.abs(np.array(clip.times) - times).max() < 2 / 90_000


async def numbers(service: MediaService, asset: Asset, **query: Any) -> list[int | None]:
    return played(await service.get(asset, "clip", **query)).numbers


async def test_a_part_by_times_is_what_is_seen_from_start_to_before_end(service: MediaService) -> None:
    steady = await service.add(film("b-frames"))  # 25 frames a second
    assert await numbers(service, steady, start_time=0, end_time=0.4) == list(range(10))
    assert await numbers(service, steady, start_time=0.4, end_time=0.8) == list(range(10, 20))
    assert await numbers(service, steady, start_time=0.42, end_time=0.81) == list(range(10, 21))
    assert await numbers(service, steady, start_time=2.0, end_time=500) == list(range(50, 60))
    assert await numbers(service, steady, start_time=1.01, end_time=1.011) == [25]
    uneven = await service.add(film("vfr"))
    times = decoded(film("vfr")).times
    wanted = [number for number, time in enumerate(times) if time < 1.5]
    seen = wanted[[number for number, time in enumerate(times) if time <= 0.5][-1] :]
    assert await numbers(service, uneven, start_time=0.5, end_time=1.5) == seen


async def test_a_rate_of_the_client_turns_times_into_numbers(service: MediaService) -> None:
    asset = await service.add(film("b-frames"))
    assert await numbers(service, asset, start_time=1, end_time=2, fps=10) == list(range(10, 20))
    assert await numbers(service, asset, start_time=1, end_time=2, fps=25) == list(range(25, 50))
    assert await numbers(service, asset, start_frame=3, end_frame=5, fps=10) == [3, 4, 5]


async def test_sound_stays_with_the_pictures(service: MediaService) -> None:
    asset = await service.add(film("b-frames", beeps=(0.5, 1.2, 1.9)))
    answer = await service.get(asset, "clip", start_frame=10, end_frame=54)  # from 0.4 s to 2.2 s
    assert played(answer).codecs == {"video": "h264", "audio": "aac"}
    assert beeps(sound(answer.content)) == pytest.approx([0.1, 0.8, 1.5], abs=0.03)
    silent = played(await service.get(asset, "clip", start_frame=10, end_frame=54, audio="off"))
    assert silent.codecs == {"video": "h264"}
    assert silent.numbers == list(range(10, 55))


async def test_debug_draws_on_the_picture(service: MediaService) -> None:
    asset = await service.add(film("b-frames", size=(640, 480)))
    plain = played(await service.get(asset, "clip", start_frame=3, end_frame=8))
    debug = played(await service.get(asset, "clip", start_frame=3, end_frame=8, mode="debug"))
    for ours, theirs in zip(plain.pictures, debug.pictures, strict=True):
        changed = np.abs(ours.astype(int) - theirs).max(-1) > 60
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        # A caption in the top left corner, and nothing else.
        assert 100 < columns.max() < 500
        assert rows.max() < 60


async def test_head_has_the_headers_alone(service: MediaService) -> None:
    asset = await service.add(film("b-frames"))
    clip = await service.get(asset, "clip", start_frame=1, end_frame=3)
    head = await service.head(asset, "clip", start_frame=1, end_frame=3)
    assert (head.status_code, head.content, lasting(head)) == (200, b"", lasting(clip))
    assert (await service.head(asset, "clip", start_frame=1, end_frame=60)).status_code == 400
    assert (await service.head(asset, "clip")).status_code == 400


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "Which part?"),
        ({"mode": "debug", "audio": "off", "fps": 25}, "Which part?"),
        ({"start_frame": 3}, "without end_frame"),
        ({"end_frame": 3}, "without start_frame"),
        ({"start_time": 3}, "without end_time"),
        ({"end_time": 3}, "without start_time"),
        ({"start_frame": 3, "end_time": 9}, "by frames or by times"),
        ({"start_frame": 3, "end_frame": 4, "start_time": 1, "end_time": 2}, "by frames or by times"),
        ({"start_frame": 4, "end_frame": 3}, "start_frame 4 is after end_frame 3"),
        ({"start_time": 2, "end_time": 1.5}, "start_time 2 is not before end_time 1.5"),
        ({"start_time": 2, "end_time": 2}, "start_time 2 is not before end_time 2"),
        ({"start_frame": -1, "end_frame": 3}, "start_frame"),
        ({"start_time": -0.5, "end_time": 3}, "start_time"),
        ({"start_time": "nan", "end_time": 3}, "start_time"),
        ({"start_time": 0, "end_time": "inf"}, "end_time"),
        ({"start_frame": 1.5, "end_frame": 3}, "start_frame"),
        ({"start_frame": 0, "end_frame": 10**12}, "end_frame"),
        ({"start_time": 60, "end_time": 61}, "this video ends at 2.400 s"),
        ({"start_time": 0, "end_time": 1, "fps": 0}, "fps"),
        ({"start_time": 0, "end_time": 1, "fps": "nan"}, "fps"),
        ({"start_frame": 0, "end_frame": 1, "mode": "loud"}, "mode"),
        ({"start_frame": 0, "end_frame": 1, "audio": "loud"}, "audio"),
    ],
)
async def test_an_impossible_part_is_refused(service: MediaService, query: dict[str, Any], words: str) -> None:
    asset = await service.add(film("b-frames"))
    assert words in media_error(await service.get(asset, "clip", **query), 400, "INVALID_INPUT")


@pytest.mark.parametrize(("start", "end", "missing"), [(0, 60, 60), (60, 60, 60), (100, 200, 100)])
async def test_a_frame_that_is_not_there_is_named(service: MediaService, start: int, end: int, missing: int) -> None:
    asset = await service.add(film("b-frames"))
    for route in ("clip", "video"):
        answer = await service.get(asset, route, start_frame=start, end_frame=end)
        message = media_error(answer, 400, "FRAME_OUT_OF_RANGE")
        assert message == f"There is no frame {missing}; the last frame of this video is 59."
