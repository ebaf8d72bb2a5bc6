"""HTTP Live Streaming: playlists as RFC 8216 has them, played by FFmpeg, with links, and what is refused."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import av
import httpx
import pytest

from stores.keys import new_key
from tests.graphs.harness import listening, settings_in
from tests.graphs.media import MediaService, decoded, film, indexed, media_error, serving_media, url
from tests.graphs.samples import picture
from tests.graphs.test_media_ranges import CountedClips
from tests.unit.vision.media.samples import number_in
from tests.waiting import until
from vision.media import segments


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a second; streams are counted."""
    monkeypatch.setattr(segments, "SEGMENT_S", 1.0)
    monkeypatch.setattr(segments, "LONGEST_S", 2.0)
    CountedClips.streams = CountedClips.closed = 0
    CountedClips.go.set()


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MediaService]:
    with settings_in(tmp_path_factory.mktemp("hls")) as config:
        async with serving_media(config, CountedClips) as made:
            yield made


def parsed(answer: httpx.Response) -> tuple[str, list[float], list[str]]:
    """The URL of the header, and duration and URL of each segment."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/vnd.apple.mpegurl"
    lines = answer.text.splitlines()
    assert lines[:2] == ["#EXTM3U", "#EXT-X-VERSION:7"]
    assert lines[3:6] == ["#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-PLAYLIST-TYPE:VOD", "#EXT-X-INDEPENDENT-SEGMENTS"]
    assert lines[-1] == "#EXT-X-ENDLIST"
    here = str(answer.request.url)
    header = urljoin(here, lines[6].removeprefix('#EXT-X-MAP:URI="').removesuffix('"'))
    durations = [float(line.removeprefix("#EXTINF:").removesuffix(",")) for line in lines[7:-1:2]]
    longest = int(lines[2].removeprefix("#EXT-X-TARGETDURATION:"))
    assert longest - 1 < max(durations) <= longest
    return header, durations, [urljoin(here, line) for line in lines[8:-1:2]]


async def joined(service: MediaService, answer: httpx.Response) -> bytes:
    """The header and all segments of a playlist."""
    header, _, urls = parsed(answer)
    answers = [await service.client.get(address) for address in (header, *urls)]
    for each in answers:
        assert (each.status_code, each.headers["content-type"]) == (200, "video/mp4"), each.text
    return b"".join(each.content for each in answers)


@pytest.mark.parametrize("name", ["vfr", "rotated 90", "vp9", "60 fps", "matroska", "edit list"])
async def test_a_film_in_segments_is_the_film(service: MediaService, name: str) -> None:
    asset = await service.add(film(name))
    answer = await service.get(asset, "video.m3u8")
    _, durations, urls = parsed(answer)
    assert len(urls) in (2, 3)
    source, stream = decoded(film(name)), decoded(await joined(service, answer))
    assert stream.numbers == source.numbers
    assert stream.times == pytest.approx(source.times, abs=2e-5)  # two ticks of 90 kHz
    assert sum(durations) == pytest.approx(asset.duration, abs=1e-5)  # microseconds
    assert answer.headers["cache-control"] == "private, max-age=86400"


async def test_boxes_are_those_of_the_stream(service: MediaService) -> None:
    asset = await indexed(service)
    for route, query, segment_count in (
        ("video/bbox", {"start_frame": 5, "end_frame": 44, "mode": "debug"}, 2),
        ("trace/1/video", {"audio": "off"}, 2),
        ("trace/0/video", {"start_time": 0.5, "end_time": 1.6}, 2),
        ("video", {"mode": "debug"}, 3),
    ):
        plain = await service.get(asset, route, **query)
        playlist = await service.get(asset, f"{route}.m3u8", **query)
        assert playlist.headers["cache-control"] == "private, no-cache"
        assert len(parsed(playlist)[2]) == segment_count
        one, other = decoded(plain.content), decoded(await joined(service, playlist))
        assert one.codecs == other.codecs
        assert one.numbers == other.numbers
        assert one.times == pytest.approx(other.times, abs=1e-9)  # the same ticks
        for place in range(0, len(one.pictures), 13):
            frame, off = other.most_like(one.pictures[place])
            assert (frame, off < 4) == (place, True)


async def test_ffmpeg_plays_and_seeks_in_it(service: MediaService) -> None:
    asset = await indexed(service)
    async with listening(service.app) as port:

        def play() -> None:
            with av.open(f"http://127.0.0.1:{port}{url(asset, 'video/bbox.m3u8')}") as container:
                assert container.format.name == "hls"
                assert container.duration == 2_400_000
                assert [stream.type for stream in container.streams] == ["video", "audio"]
                frames = list(container.decode(video=0))
                assert [number_in(frame.to_ndarray(format="rgb24")) for frame in frames] == list(range(60))
                for wanted in (55, 3, 25, 24, 59, 0, 49):
                    container.seek(round(wanted / 25 * 1_000_000))
                    frame = next(each for each in container.decode(video=0) if each.time > (wanted - 0.5) / 25)
                    assert number_in(frame.to_ndarray(format="rgb24")) == wanted

        await asyncio.to_thread(play)


async def test_what_is_not_there(service: MediaService) -> None:
    asset, still = await indexed(service), await service.add(picture(3))
    other = await service.add(film("vp9"))
    message = media_error(await service.get(asset, "segments/3.m4s"), 404, "SEGMENT_NOT_FOUND")
    assert message == "There is no segment 3; the last one of this stream is 2, see its playlist."
    media_error(await service.get(asset, "segments/2.m4s", start_frame=0, end_frame=30), 404, "SEGMENT_NOT_FOUND")
    for number in ("-1", "1.5", "x", "9" * 30):
        media_error(await service.get(asset, f"segments/{number}.m4s"), 400, "INVALID_INPUT")
    for route in ("video.m3u8", "video/bbox.m3u8", "trace/1/video.m3u8", "segments/init.mp4", "segments/0.m4s"):
        media_error(await service.client.get(f"/api/v1/file/{'0' * 32}/{route}"), 404, "ASSET_NOT_FOUND")
        media_error(await service.get(still, route), 400, "INVALID_INPUT")
    for route, query in (("video/bbox.m3u8", {}), ("trace/1/video.m3u8", {}), ("video.m3u8", {"mode": "debug"})):
        media_error(await service.get(other, route, **query), 409, "NOT_INDEXED")
    for drawn in ({"boxes": "all"}, {"trace_id": 1}):
        media_error(await service.get(other, "segments/0.m4s", **drawn), 409, "NOT_INDEXED")
    media_error(await service.get(asset, "trace/7/video.m3u8"), 404, "TRACE_NOT_FOUND")
    media_error(await service.get(asset, "segments/0.m4s", trace_id=7), 404, "TRACE_NOT_FOUND")
    media_error(await service.get(asset, "video.m3u8", start_frame=70, end_frame=80), 400, "FRAME_OUT_OF_RANGE")


async def test_segments_are_not_made_again_for_whoever_has_them(service: MediaService) -> None:
    asset = await indexed(service)
    _, _, urls = parsed(await service.get(asset, "video/bbox.m3u8"))
    first = await service.client.get(urls[0])
    assert first.headers["cache-control"] == "private, no-cache"
    known = {"if-none-match": first.headers["etag"]}
    again = await service.client.get(urls[0], headers=known)
    assert (again.status_code, again.content, CountedClips.streams) == (304, b"", 1)
    assert (await service.client.get(urls[1], headers=known)).status_code == 200
    await service.context.people.set_identities(asset.asset_id, {0: "7" * 32, 1: "7" * 32})
    renamed = await service.client.get(urls[0], headers=known)
    assert renamed.status_code == 200
    await service.context.people.set_identities(asset.asset_id, {0: "7" * 32})
    part = await service.client.get(urls[0], headers={"range": "bytes=0-99"})
    assert (part.status_code, part.content[4:8]) == (206, b"styp")
    playlist = await service.head(asset, "video/bbox.m3u8")
    assert (playlist.status_code, playlist.headers["content-type"]) == (200, "application/vnd.apple.mpegurl")
    head = await service.client.head(urls[2])
    assert (head.status_code, head.headers["content-type"], head.content) == (200, "video/mp4", b"")


async def test_a_segment_ends_when_whoever_asked_leaves(service: MediaService) -> None:
    asset = await indexed(service)
    CountedClips.go.clear()
    async with listening(service.app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as player:
        asking = asyncio.create_task(player.get(url(asset, "segments/1.m4s"), params={"boxes": "all"}))
        await until(lambda: CountedClips.streams == 1)
        asking.cancel()
        await until(lambda: CountedClips.closed == 1)


async def test_a_signed_link_opens_all_of_a_stream(tmp_path: Path) -> None:
    secret, key = new_key("player", ("media:read",))
    with settings_in(tmp_path) as config:
        async with serving_media(config) as service:
            assert await service.context.keys.insert(key)
            asset, other = await indexed(service), await service.add(film("vp9"))
            headers = {"x-api-key": secret}
            body = {"path": "video/bbox.m3u8", "expires_in_s": 60}
            link = (await service.client.post(url(asset, "link"), json=body, headers=headers)).json()["url"]
            answer = await service.client.get(link)
            header, _, urls = parsed(answer)
            assert all("signature=" in address and secret not in address for address in (header, *urls))
            assert decoded(await joined(service, answer)).numbers == list(range(60))
            # The same query opens no other film, and no segment opens without it.
            query = urls[0].partition("?")[2]
            media_error(await service.client.get(f"{url(other, 'segments/0.m4s')}?{query}"), 401, "UNAUTHORIZED")
            media_error(await service.client.get(urls[0].partition("?")[0]), 401, "UNAUTHORIZED")
            forged = urls[0].replace("signature=", "signature=A")
            media_error(await service.client.get(forged), 401, "UNAUTHORIZED")
            # Who sends a key with each request needs no link.
            with_key = await service.client.get(url(asset, "video.m3u8"), headers=headers)
            assert "signature" not in with_key.text
            address = parsed(with_key)[2][0]
            assert (await service.client.get(address, headers=headers)).status_code == 200
            media_error(await service.client.get(address, headers={"x-api-key": "vg_other"}), 401, "UNAUTHORIZED")


async def test_a_played_stream_is_read_from_memory(service: MediaService) -> None:
    """Its bytes are fragments whose clock goes on: what `av` makes of a single segment begins at its time."""
    asset = await service.add(film("b-frames"))
    header, _, urls = parsed(await service.get(asset, "video.m3u8"))
    data = (await service.client.get(header)).content + (await service.client.get(urls[1])).content
    with av.open(io.BytesIO(data)) as container:
        assert next(container.decode(video=0)).time == 1.0
