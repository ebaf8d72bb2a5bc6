"""Whole videos and parts of them: the bytes that were stored, ranges of them, copies, and what is drawn in."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import numpy as np
import pytest

from tests.graphs.harness import lasting, settings_in
from tests.graphs.media import (
    BEEPS,
    LEFT,
    RIGHT,
    Decoded,
    MediaService,
    beeps,
    decoded,
    film,
    indexed,
    media_error,
    serving_media,
    sound,
)
from tests.tolerances import decimals
from tests.unit.vision.media.samples import shown
from vision.images import Pixels
from vision.media.overlay import PALETTE


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MediaService]:
    with settings_in(tmp_path_factory.mktemp("videos")) as config:
        async with serving_media(config) as made:
            yield made


async def test_the_file_comes_as_it_was_stored(service: MediaService) -> None:
    for name, media_type in (("b-frames", "video/mp4"), ("matroska", "video/x-matroska"), ("vp9", "video/webm")):
        data = film(name)
        asset = await service.add(data)
        for query in ({}, {"audio": "on"}, {"mode": "normal", "fps": 25}):
            answer = await service.get(asset, "video", **query)
            assert (answer.status_code, answer.content) == (200, data)
            assert answer.headers["content-type"] == media_type
            assert answer.headers["content-length"] == str(len(data))
            assert answer.headers["accept-ranges"] == "bytes"
            assert answer.headers["etag"] == f'"{asset.asset_id}"'
            assert answer.headers["cache-control"] == "private, max-age=86400"
            assert answer.headers["x-content-type-options"] == "nosniff"
        head = await service.head(asset, "video")
        assert (head.status_code, head.content, lasting(head)) == (200, b"", lasting(answer))


async def test_ranges_make_up_the_file(service: MediaService) -> None:
    data = film("b-frames")
    asset, size = await service.add(data), len(data)
    for value, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=100-999", 100, 1000),
        ("bytes=1000-", 1000, size),
        ("bytes=-500", size - 500, size),
        (f"bytes=-{size + 1}", 0, size),
        (f"bytes=100-{size + 100}", 100, size),
    ):
        answer = await service.get(asset, "video", {"range": value})
        assert (answer.status_code, answer.content) == (206, data[start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert answer.headers["content-length"] == str(end - start)
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.headers["etag"] == f'"{asset.asset_id}"'


async def test_a_range_behind_the_end_is_refused(service: MediaService) -> None:
    data = film("b-frames")
    asset = await service.add(data)
    for value in (f"bytes={len(data)}-", "bytes=-0"):
        answer = await service.get(asset, "video", {"range": value})
        assert str(len(data)) in media_error(answer, 416, "RANGE_NOT_SATISFIABLE")
        assert answer.headers["content-range"] == f"bytes */{len(data)}"


async def test_what_is_no_range_is_answered_with_the_file(service: MediaService) -> None:
    data = film("b-frames")
    asset = await service.add(data)
    for value in ("bytes=0-1,5-6", "bytes=9-3", "frames=1-2", "bytes=x", ""):
        answer = await service.get(asset, "video", {"range": value})
        assert (answer.status_code, answer.content) == (200, data)
        assert "content-range" not in answer.headers


async def test_a_client_is_sent_only_what_it_lacks(service: MediaService) -> None:
    data = film("b-frames")
    asset = await service.add(data)
    plain = await service.get(asset, "video")
    etag, modified = plain.headers["etag"], plain.headers["last-modified"]
    assert abs(asset.uploaded_at - datetime.now(UTC)) < timedelta(hours=1)
    later = format_datetime(asset.uploaded_at + timedelta(days=1), usegmt=True)
    part = {"range": "bytes=5-9"}
    for headers, status, content in (
        ({"if-none-match": etag}, 304, b""),
        ({"if-none-match": f'"x", W/{etag}'}, 304, b""),
        ({"if-none-match": '"x"'}, 200, data),
        ({"if-modified-since": modified}, 304, b""),
        ({"if-match": '"x"'}, 412, b""),
        ({**part, "if-none-match": etag}, 304, b""),
        ({**part, "if-range": etag}, 206, data[5:10]),
        ({**part, "if-range": modified}, 206, data[5:10]),
        ({**part, "if-range": '"x"'}, 200, data),
        ({**part, "if-range": later}, 200, data),
    ):
        answer = await service.get(asset, "video", headers)
        assert (answer.status_code, answer.content) == (status, content), headers
        assert answer.headers["etag"] == etag


def copied(answer: httpx.Response, media_type: str = "video/mp4") -> Decoded:
    """A copy that must have come, decoded."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type), answer.text
    assert answer.headers["accept-ranges"] == "bytes"
    assert "content-length" not in answer.headers
    return decoded(answer.content)


@pytest.mark.parametrize("name", ["b-frames", "vfr", "60 fps", "rotated 90", "matroska", "vp9", "hevc"])
async def test_a_part_is_copied_from_the_key_frame_on(service: MediaService, name: str) -> None:
    data = film(name)
    truth, asset = decoded(data), await service.add(data)
    answer = await service.get(asset, "video", start_frame=33, end_frame=47)
    part = copied(answer, answer.headers["content-type"])
    first = int(answer.headers["x-first-frame"])
    assert 13 <= first <= 33
    assert float(answer.headers["x-start-time"]) == pytest.approx(truth.times[first], abs=decimals(5))
    assert part.codecs == truth.codecs
    assert part.numbers[: 48 - first] == shown(name)[first:48]
    for ours, theirs in zip(part.pictures, truth.pictures[first:48], strict=False):
        assert np.array_equal(ours, theirs)  # not encoded anew
    head = await service.head(asset, "video", start_frame=33, end_frame=47)
    assert (head.status_code, head.content, lasting(head)) == (200, b"", lasting(answer))


async def test_a_part_by_times_keeps_its_sound(service: MediaService) -> None:
    asset = await service.add(film("b-frames", beeps=BEEPS))
    answer = await service.get(asset, "video", start_time=0.9, end_time=2.0)
    assert (answer.headers["x-first-frame"], answer.headers["x-start-time"]) == ("20", "0.800000")
    assert copied(answer).numbers[:30] == list(range(20, 50))
    assert beeps(sound(answer.content)) == pytest.approx([0.4, 1.1], abs=0.03)
    silent = copied(await service.get(asset, "video", start_time=0.9, end_time=2.0, audio="off"))
    assert silent.codecs == {"video": "h264"}


async def test_sound_is_left_out_of_the_whole_video(service: MediaService) -> None:
    data = film("b-frames", beeps=BEEPS)
    asset = await service.add(data)
    assert decoded(data).codecs == {"video": "h264", "audio": "aac"}
    answer = await service.get(asset, "video", audio="off", headers={"range": "bytes=0-"})
    assert copied(answer).codecs == {"video": "h264"}
    assert copied(answer).numbers == list(range(60))


async def test_an_impossible_part_is_refused(service: MediaService) -> None:
    asset = await service.add(film("b-frames"))
    for query, words in (
        ({"start_frame": 3}, "without end_frame"),
        ({"start_frame": 3, "end_time": 9}, "by frames or by times"),
        ({"start_frame": 4, "end_frame": 3}, "is after"),
        ({"start_time": 60, "end_time": 61}, "this video ends at 2.400 s"),
        ({"start_time": -1, "end_time": 61}, "start_time"),
        ({"mode": "loud"}, "mode"),
    ):
        assert words in media_error(await service.get(asset, "video", **query), 400, "INVALID_INPUT")
    assert (await service.head(asset, "video", start_frame=3)).status_code == 400


def boxed(answer: httpx.Response) -> tuple[Decoded, list[tuple[bool, bool]]]:
    """What an overlay shows: the video, and for each frame whether the left and the right box are drawn."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4"), answer.text
    assert answer.headers["cache-control"] == "private, no-cache"
    video = decoded(answer.content)
    drawn = [(outlined(picture, LEFT, 0), outlined(picture, RIGHT, 1)) for picture in video.pictures]
    return video, drawn


def outlined(picture: Pixels, box: tuple[int, int, int, int], colour: int) -> bool:
    """Whether the lower edge of a box has its colour."""
    x, y, width, height = box
    edge = picture[y + height - 2 : y + height, x + 8 : x + width - 8].reshape(-1, 3).mean(0)
    return bool(np.abs(edge - np.array(PALETTE[colour])).max() < 60)


async def test_boxes_are_drawn_where_somebody_was_found(service: MediaService) -> None:
    asset = await indexed(service)
    expected = [(10 <= number <= 29, 20 <= number <= 49) for number in range(60)]
    video, drawn = boxed(await service.get(asset, "video/bbox"))
    assert (video.numbers, drawn) == (list(range(60)), expected)
    assert video.codecs == {"video": "h264", "audio": "aac"}
    part, drawn = boxed(await service.get(asset, "video/bbox", start_frame=15, end_frame=25, audio="off"))
    assert (part.numbers, drawn) == (list(range(15, 26)), expected[15:26])
    assert part.codecs == {"video": "h264"}
    by_time, drawn = boxed(await service.get(asset, "video/bbox", start_time=1.5, end_time=2.4))
    assert (by_time.numbers, drawn) == (list(range(37, 60)), expected[37:60])


async def test_one_trace_is_followed(service: MediaService) -> None:
    asset = await indexed(service)
    video, drawn = boxed(await service.get(asset, "trace/1/video"))
    assert (video.numbers, drawn) == (list(range(20, 50)), [(False, True)] * 30)
    video, drawn = boxed(await service.get(asset, "trace/0/video", start_frame=25, end_frame=34))
    assert (video.numbers, drawn) == (list(range(25, 35)), [(True, False)] * 5 + [(False, False)] * 5)
    message = media_error(await service.get(asset, "trace/2/video"), 404, "TRACE_NOT_FOUND")
    assert f"/api/v1/file/{asset.asset_id}/traces" in message
    media_error(await service.get(asset, "trace/one/video"), 400, "INVALID_INPUT")


async def test_debug_draws_boxes_and_numbers(service: MediaService) -> None:
    asset = await indexed(service)
    plain = decoded((await service.get(asset, "video", audio="off")).content)
    video, drawn = boxed(await service.get(asset, "video", mode="debug", start_frame=18, end_frame=22))
    assert drawn == [(True, False)] * 2 + [(True, True)] * 3
    clip = decoded((await service.get(asset, "clip", mode="debug", start_frame=18, end_frame=22)).content)
    for stream in (video, clip):
        for picture, before in zip(stream.pictures, plain.pictures[18:23], strict=True):
            caption = np.abs(picture[5:30, 10:200].astype(int) - before[5:30, 10:200])
            assert caption.mean() > 40
            assert outlined(picture, LEFT, 0)


async def test_what_is_not_indexed_says_how_to_index_it(service: MediaService) -> None:
    asset = await service.add(film("vfr"))
    for route, query in (("video/bbox", {}), ("trace/0/video", {}), ("video", {"mode": "debug"})):
        message = media_error(await service.get(asset, route, **query), 409, "NOT_INDEXED")
        assert f"POST /api/v1/file/{asset.asset_id}/index" in message
