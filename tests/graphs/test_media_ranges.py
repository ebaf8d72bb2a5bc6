"""What is made of videos, in ranges: the questions of players, over real sockets, and what is left behind."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from configs.settings import Settings
from deployments.media.clips import ClipStreamer
from deployments.serving.streams import ByteGenerator
from graphs.media import parts
from graphs.web.uploads.library import Library
from stores.records import Asset
from tests.graphs.harness import lasting, listening, settings_in
from tests.graphs.media import MediaService, decoded, film, indexed, media_error, serving_media, url
from tests.waiting import until
from vision.media.plan import ClipRequest


class CountedClips(ClipStreamer):
    """The real stage, which counts its streams and waits in them for ``go``."""

    streams: ClassVar = 0
    closed: ClassVar = 0
    go: ClassVar = threading.Event()

    def stream(self, item: ClipRequest) -> ByteGenerator:
        CountedClips.streams += 1
        try:
            for chunk in super().stream(item):
                while not self.go.wait(0.01):
                    yield b""
                yield chunk
        finally:
            CountedClips.closed += 1


@pytest.fixture(autouse=True)
def counted() -> None:
    CountedClips.streams = CountedClips.closed = 0
    CountedClips.go.set()


@asynccontextmanager
async def player_of(service: MediaService) -> AsyncIterator[httpx.AsyncClient]:
    """A client over sockets."""
    async with (
        listening(service.app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        yield client


@asynccontextmanager
async def playing(config: Settings, **clips_config: Any) -> AsyncIterator[tuple[MediaService, httpx.AsyncClient]]:
    """A service and a player of it."""
    async with serving_media(config, CountedClips, clips_config) as service, player_of(service) as client:
        yield service, client
    assert service.spooled == []


@pytest.fixture(scope="module")
async def players(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[MediaService, httpx.AsyncClient]]:
    CountedClips.go.set()
    with settings_in(tmp_path_factory.mktemp("ranges")) as config:
        async with playing(config) as both:
            yield both


async def kept(service: MediaService) -> list[str]:
    """Keys of the parts in the object store."""
    return [info.key async for info in service.context.objects.list("parts/")]


PART: dict[str, Any] = {"start_frame": 3, "end_frame": 20}
POINTED_AT = [
    ("hevc", "video", PART, "film frames 3-20.mp4"),
    ("vp9", "video", {"start_time": 0.2, "end_time": 1}, "film 0.2-1 s.webm"),
    ("matroska", "video", {"audio": "off"}, "film.mkv"),
    ("indexed", "video", {"mode": "debug", **PART}, "film debug frames 3-20.mp4"),
    ("indexed", "video/bbox", {}, "film boxes.mp4"),
    ("indexed", "video/bbox", PART, "film boxes frames 3-20.mp4"),
    ("indexed", "trace/1/video", {}, "film trace 1.mp4"),
    ("indexed", "trace/0/video", {"mode": "debug", **PART}, "film trace 0 frames 3-20.mp4"),
    ("hevc", "clip", PART, "film frames 3-20.ts"),
    ("indexed", "clip", {"mode": "debug", **PART}, "film frames 3-20.ts"),
]


@pytest.mark.parametrize(("name", "route", "query", "filename"), POINTED_AT)
async def test_what_safari_asks_for(
    players: tuple[MediaService, httpx.AsyncClient], name: str, route: str, query: dict[str, Any], filename: str
) -> None:
    service, client = players
    asset = await indexed(service) if name == "indexed" else await service.add(film(name))

    async def ask(method: str = "GET", **headers: str) -> httpx.Response:
        named = {header.replace("_", "-"): value for header, value in headers.items()}
        return await client.request(method, url(asset, route), params=query, headers=named)

    streamed = await ask(range="bytes=0-")
    assert (streamed.status_code, "content-length" in streamed.headers) == (200, False)
    assert streamed.headers["accept-ranges"] == "bytes"
    probe = await ask(range="bytes=0-1")
    assert (probe.status_code, len(probe.content), probe.headers["content-length"]) == (206, 2, "2")
    size = int(probe.headers["content-range"].removeprefix("bytes 0-1/"))
    whole = await ask(range=f"bytes=0-{size - 1}")
    assert (whole.status_code, len(whole.content)) == (206, size)
    assert whole.headers["content-range"] == f"bytes 0-{size - 1}/{size}"
    data = whole.content
    if "x-first-frame" in streamed.headers:
        assert data == streamed.content  # a copy is the same each time
    assert data[:2] == probe.content
    assert decoded(data).numbers == decoded(streamed.content).numbers
    for start, end in ((0, 65536), (size // 2, size), (size - 100, size)):
        part = await ask(range=f"bytes={start}-{end - 1}", if_range=probe.headers["etag"])
        assert (part.status_code, part.content) == (206, data[start:end])
    assert (await ask(range="bytes=-10")).content == data[-10:]
    assert (await ask(range="bytes=0-")).status_code == 206
    assert (await ask(range=f"bytes={size}-")).headers["content-range"] == f"bytes */{size}"
    assert (await ask(range="bytes=5-9", if_range='"other"')).content == data
    assert (await ask(if_none_match=probe.headers["etag"])).status_code == 304
    get, head = await ask(), await ask("HEAD")
    assert (get.status_code, get.content, head.content) == (200, data, b"")
    assert lasting(get) == lasting(head)
    assert head.headers["content-length"] == str(size)
    told = ("content-type", "content-disposition", "cache-control", "x-first-frame", "x-start-time")
    for header in told:
        assert len({answer.headers.get(header) for answer in (streamed, probe, whole, head)}) == 1, header
    assert head.headers["content-disposition"] == f'inline; filename="{filename}"'
    assert ("x-first-frame" in head.headers) == (route == "video" and "mode" not in query)
    assert CountedClips.streams == 2  # the stream of the first answer, and the part


async def test_an_impossible_part_is_refused_as_ever(players: tuple[MediaService, httpx.AsyncClient]) -> None:
    service, client = players
    asset = await service.add(film("vp9"))
    before = await kept(service)
    for route in ("video", "clip"):
        for query, status, code in (
            ({"start_frame": 1000, "end_frame": 1001}, 400, "FRAME_OUT_OF_RANGE"),
            ({"start_time": 70, "end_time": 71}, 400, "INVALID_INPUT"),
        ):
            answer = await client.get(url(asset, route), params=query, headers={"range": "bytes=0-1"})
            media_error(answer, status, code)
    media_error(await client.get(url(asset, "video/bbox"), headers={"range": "bytes=0-1"}), 409, "NOT_INDEXED")
    assert await kept(service) == before


async def test_players_that_ask_at_once_share_one_part(players: tuple[MediaService, httpx.AsyncClient]) -> None:
    service, client = players
    asset = await service.add(film("60 fps"))
    CountedClips.go.clear()
    asking = [
        asyncio.create_task(
            client.get(url(asset, "clip"), params=PART, headers={"range": f"bytes={number}-{number + 1}"})
        )
        for number in range(6)
    ]
    await until(lambda: CountedClips.streams == 1)
    await asyncio.sleep(0.1)
    CountedClips.go.set()
    answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {206}
    assert len({answer.headers["etag"] for answer in answers}) == 1
    assert CountedClips.streams == 1


async def test_boxes_that_change_are_another_part(tmp_path: Path) -> None:
    with settings_in(tmp_path) as config:
        async with playing(config) as (service, client):
            asset = await indexed(service)
            probe = {"range": "bytes=0-1"}
            before = await client.get(url(asset, "video/bbox"), params=PART, headers=probe)
            await service.context.people.set_identities(asset.asset_id, {0: "7" * 32, 1: "7" * 32})
            after = await client.get(url(asset, "video/bbox"), params=PART, headers=probe)
            assert (before.status_code, after.status_code) == (206, 206)
            assert before.headers["etag"] != after.headers["etag"]
            stale = {"range": "bytes=5-9", "if-range": before.headers["etag"]}
            assert (await client.get(url(asset, "video/bbox"), params=PART, headers=stale)).status_code == 200
            assert len(await kept(service)) == 2
            assert (await Library(service.context).delete(asset.asset_id)).had_bytes
            assert await kept(service) == []


async def test_another_gateway_goes_on_with_the_part(tmp_path: Path) -> None:
    with settings_in(tmp_path) as config:
        async with playing(config) as (service, client), playing(config) as (_, other):
            asset = await service.add(film("b-frames"))
            first = await client.get(url(asset, "clip"), params=PART, headers={"range": "bytes=0-99"})
            second = await other.get(url(asset, "clip"), params=PART, headers={"range": "bytes=100-199"})
            whole = await other.get(url(asset, "clip"), params=PART)
    assert first.headers["etag"] == second.headers["etag"]
    assert whole.content[:200] == first.content + second.content
    assert CountedClips.streams == 1


async def test_a_part_that_takes_too_long_is_there_when_asked_again(tmp_path: Path) -> None:
    with settings_in(tmp_path, request_timeout_s=0.5) as config:
        async with playing(config) as (service, client):
            asset = await service.add(film("b-frames"))
            CountedClips.go.clear()
            for _ in range(2):
                answer = await client.get(url(asset, "clip"), params=PART, headers={"range": "bytes=0-1"})
                assert "Ask again" in media_error(answer, 504, "DEADLINE_EXCEEDED")
            CountedClips.go.set()
            answer = await client.get(url(asset, "clip"), params=PART, headers={"range": "bytes=0-1"})
            assert (answer.status_code, CountedClips.streams) == (206, 1)


async def test_a_part_that_nobody_waits_for_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ABANDONED_S", 0.2)
    with settings_in(tmp_path, request_timeout_s=0.3) as config:
        async with playing(config, max_streams=1) as (service, client):
            asset = await service.add(film("b-frames"))
            CountedClips.go.clear()
            answer = await client.get(url(asset, "clip"), params=PART, headers={"range": "bytes=0-1"})
            media_error(answer, 504, "DEADLINE_EXCEEDED")
            other = {"start_frame": 5, "end_frame": 6}
            busy = await client.get(url(asset, "clip"), params=other, headers={"range": "bytes=0-1"})
            media_error(busy, 429, "OVERLOADED")
            await until(lambda: CountedClips.closed == 1)
            assert (service.spooled, await kept(service)) == ([], [])
            CountedClips.go.set()
            answer = await client.get(url(asset, "clip"), params=other, headers={"range": "bytes=0-1"})
            assert answer.status_code == 206


async def sizes(client: httpx.AsyncClient, asset: Asset, *lasts: int) -> list[int]:
    """The sizes of parts that end with these frames, each asked for in a range."""
    made = []
    for last in lasts:
        query = {"start_frame": 0, "end_frame": last}
        answer = await client.get(url(asset, "clip"), params=query, headers={"range": "bytes=0-1"})
        assert answer.status_code == 206, answer.text
        made.append(int(answer.headers["content-range"].rpartition("/")[2]))
        await asyncio.sleep(0.02)  # the store orders them by time
    return made


async def test_the_oldest_parts_make_room(tmp_path: Path) -> None:
    with settings_in(tmp_path / "a") as config:
        async with playing(config) as (service, client):
            one, *_, largest = await sizes(client, await service.add(film("b-frames")), 5, 6, 7, 8, 9)
    with settings_in(tmp_path / "b", part_cache_bytes=4 * largest) as config:
        async with playing(config) as (service, client):
            asset = await service.add(film("b-frames"))
            await sizes(client, asset, 5)
            first = await kept(service)
            await sizes(client, asset, 6, 7, 8, 9)
            left = [info async for info in service.context.objects.list("parts/")]
            assert len(left) == 4
            assert first[0] not in [info.key for info in left]
            assert sum(info.size for info in left) <= 4 * largest
            query = {"start_frame": 0, "end_frame": 59}
            answer = await client.get(url(asset, "clip"), params=query, headers={"range": "bytes=0-1"})
            assert "without a Range header" in media_error(answer, 413, "FILE_TOO_LARGE")
            assert len(await kept(service)) == 4
            assert (await client.get(url(asset, "clip"), params=query)).status_code == 200
            assert await sizes(client, asset, 5) == [one]


async def test_parts_have_their_time(tmp_path: Path) -> None:
    with settings_in(tmp_path, part_cache_ttl_s=1) as config:
        async with playing(config) as (service, client):
            asset = await service.add(film("b-frames"))
            await sizes(client, asset, 5)
            await asyncio.sleep(1.1)
            await sizes(client, asset, 6)
            assert len(await kept(service)) == 1


async def test_a_film_that_is_deleted_meanwhile_leaves_no_part(tmp_path: Path) -> None:
    with settings_in(tmp_path) as config:
        async with playing(config) as (service, client):
            asset = await service.add(film("b-frames"))
            CountedClips.go.clear()
            asking = asyncio.create_task(client.get(url(asset, "clip"), params=PART, headers={"range": "bytes=0-1"}))
            await until(lambda: CountedClips.streams == 1)
            assert (await Library(service.context).delete(asset.asset_id)).had_bytes
            CountedClips.go.set()
            media_error(await asking, 404, "ASSET_NOT_FOUND")
            assert await kept(service) == []
