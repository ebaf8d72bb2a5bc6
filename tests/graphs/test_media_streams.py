"""Streams over real sockets: slow readers, readers that leave, and what is left behind."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx
import numpy as np
import psutil
import pytest

from deployments.media.clips import ClipStreamer
from deployments.serving.stage import Stage, StageConfig
from deployments.serving.streams import ByteGenerator
from stores.records import Asset
from tests.dummies import digest
from tests.graphs.harness import listening, settings_in
from tests.graphs.media import MediaService, decoded, film, media_error, serving_media, url
from tests.stores.seaweed import seaweedfs
from tests.waiting import PATIENCE_S, until
from vision.errors import InvalidMedia
from vision.media.plan import ClipRequest

MIB = 2**20
LONG: Final[dict[str, Any]] = {"size": (640, 480), "frames": 250, "beeps": (0.5,)}


async def stored(service: MediaService, folder: Path, data: bytes) -> Asset:
    """A file of which nothing is read but its bytes."""
    path = folder / "bytes"
    path.write_bytes(data)
    asset = Asset(digest(data), "film.mp4", "video", "MP4", "video/mp4", len(data), datetime.now(UTC))
    await service.context.objects.put_file(asset.asset_id, path, asset.content_type)
    assert await service.context.documents.insert_asset(asset)
    return asset


@asynccontextmanager
async def client_of(service: MediaService) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server of its own."""
    async with (
        listening(service.app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client,
    ):
        yield client


def places(asset: Asset) -> list[int]:
    """How far every open file of an asset is read."""
    positions = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if entry.readlink().name == asset.asset_id:
                positions.append(int(Path(f"/proc/self/fdinfo/{entry.name}").read_text().split()[1]))
        except FileNotFoundError:
            continue  # closed since the folder was read
    return positions


def workers() -> tuple[list[str], int, list[psutil.Process]]:
    """Threads of streams, threads that are not Python's, and child processes."""
    process = psutil.Process()
    streaming = [thread.name for thread in threading.enumerate() if thread.name.endswith("-stream")]
    return streaming, process.num_threads() - threading.active_count(), process.children(recursive=True)


async def test_a_slow_reader_holds_the_file_back(tmp_path: Path) -> None:
    data = os.urandom(64 * MIB)
    with settings_in(tmp_path, request_timeout_s=1) as config:
        async with serving_media(config) as service, client_of(service) as client:
            asset = await stored(service, tmp_path, data)
            async with client.stream("GET", url(asset, "video")) as answer:
                chunks = answer.aiter_bytes(MIB)
                assert await anext(chunks) == data[:MIB]
                await asyncio.sleep(1.5)  # longer than a request may take
                assert max(places(asset)) < 24 * MIB
                rest = b"".join([chunk async for chunk in chunks])
            assert data[MIB:] == rest
            await until(lambda: places(asset) == [])


async def test_a_reader_that_leaves_has_its_file_closed(tmp_path: Path) -> None:
    with settings_in(tmp_path) as config:
        async with serving_media(config) as service, client_of(service) as client:
            asset = await stored(service, tmp_path, os.urandom(32 * MIB))
            async with client.stream("GET", url(asset, "video")) as answer:
                await anext(answer.aiter_bytes(MIB))
                assert len(places(asset)) == 1
            await until(lambda: places(asset) == [])


async def test_twenty_readers_and_a_clip_that_nobody_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClipStreamer, "tick_s", 0.05)
    large = film("b-frames", **LONG)
    with settings_in(tmp_path) as config:
        async with (
            serving_media(config, clips_config={"idle_s": 0.01}) as service,
            client_of(service) as client,
        ):
            asset = await service.add(large)
            before = workers()

            async def watch(seed: int) -> None:
                rng = np.random.default_rng(seed)
                for start in rng.integers(0, len(large), 12).tolist():
                    end = int(rng.integers(start, len(large)))
                    answer = await client.get(url(asset, "video"), headers={"range": f"bytes={start}-{end}"})
                    assert (answer.status_code, answer.content) == (206, large[start : end + 1])

            async def leave() -> None:
                query = {"start_frame": 0, "end_frame": 249, "mode": "debug"}
                async with client.stream("GET", url(asset, "clip"), params=query) as answer:
                    assert answer.status_code == 200
                    await anext(answer.aiter_raw())
                    assert workers()[0] == ["media/clips-stream"]

            await asyncio.gather(*(watch(seed) for seed in range(20)), leave())
            await until(lambda: places(asset) == [])
            await until(lambda: workers() == before)
            assert before[0] == []


async def test_more_clips_than_the_stage_takes_are_refused(tmp_path: Path) -> None:
    query = {"start_frame": 0, "end_frame": 249}
    with settings_in(tmp_path) as config:
        async with (
            serving_media(config, clips_config={"max_streams": 1}) as service,
            client_of(service) as client,
        ):
            asset = await service.add(film("b-frames", **LONG))
            async with client.stream("GET", url(asset, "clip"), params=query) as first:
                assert first.status_code == 200
                second = await client.get(url(asset, "clip"), params=query)
                assert "1 streams running" in media_error(second, 429, "OVERLOADED")
                assert (await client.get(url(asset, "video"))).status_code == 200
            await until(lambda: workers()[0] == [])
            third = await client.get(url(asset, "clip"), params=query | {"end_frame": 3})
            assert decoded(third.content).numbers == [0, 1, 2, 3]


class SlowClips(Stage[StageConfig, ClipRequest, ClipRequest, None]):
    """Twenty chunks, one each tenth of a second; ``start_frame`` says what is special: 1 never gives any, 2 fails with
    the fourth, 3 gives large ones."""

    key = "media/clips"
    CHUNK: ClassVar = bytes(1000)
    closed: ClassVar[threading.Event]
    waited = threading.Event()

    def load(self) -> None:
        SlowClips.closed = threading.Event()

    def predict(self, item: ClipRequest) -> None:
        """Nothing: it only streams."""

    def stream(self, item: ClipRequest) -> ByteGenerator:
        first = item.plan.start_frame
        try:
            for number in range(20):
                while first == 1:
                    yield b""
                    self.waited.wait(0.1)
                if first == 2 and number == 3:
                    raise InvalidMedia("damaged from here on")
                yield self.CHUNK * (8000 if first == 3 else 1)
                self.waited.wait(0.1)
        finally:
            self.closed.set()


@asynccontextmanager
async def slow(folder: Path, **values: object) -> AsyncIterator[tuple[MediaService, httpx.AsyncClient, Asset]]:
    """A service whose clips take two seconds."""
    with settings_in(folder, **values) as config:
        async with (
            serving_media(config, SlowClips) as service,
            client_of(service) as client,
        ):
            yield service, client, await stored(service, folder, b"film")


def part(special: int) -> dict[str, int]:
    return {"start_frame": special, "end_frame": 100}


async def test_a_stream_may_take_longer_than_a_request(tmp_path: Path) -> None:
    async with slow(tmp_path, request_timeout_s=0.5) as (_, client, asset):
        answer = await client.get(url(asset, "clip"), params=part(0))
        assert (answer.status_code, len(answer.content)) == (200, 20 * 1000)
        late = await client.get(url(asset, "clip"), params=part(1))
        media_error(late, 504, "DEADLINE_EXCEEDED")
        await until(SlowClips.closed.is_set)


async def test_a_stream_that_fails_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    async with (
        slow(tmp_path) as (_, client, asset),
        client.stream("GET", url(asset, "clip"), params=part(2)) as answer,
    ):
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()


async def test_a_reader_that_takes_nothing_is_given_up(tmp_path: Path) -> None:
    async with (
        slow(tmp_path, reader_idle_s=0.3) as (_, client, asset),
        client.stream("GET", url(asset, "clip"), params=part(3)) as answer,
    ):
        assert answer.status_code == 200
        await until(lambda: SlowClips.closed.is_set() and workers()[0] == [])


async def test_a_reader_that_leaves_before_the_first_byte_stops_the_work(tmp_path: Path) -> None:
    async with slow(tmp_path) as (_, client, asset):
        with pytest.raises(httpx.ReadTimeout):
            await client.get(url(asset, "clip"), params=part(1), timeout=0.3)
        await until(lambda: SlowClips.closed.is_set() and workers()[0] == [])


async def test_a_bucket_serves_as_a_folder_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, secret = "test-key", "test-secret-of-nobody"
    for name, value in {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    weed = tmp_path / "weed"
    weed.mkdir()
    with seaweedfs(weed, key, secret) as endpoint:
        bucket = f"s3://films?endpoint_url={endpoint}&region=us-east-1&create=1"
        with settings_in(tmp_path, objects_url=bucket) as config:
            async with serving_media(config) as service, client_of(service) as client:
                data = film("b-frames", **LONG)
                asset = await service.add(data)
                assert (await client.get(url(asset, "video"))).content == data
                ranged = await client.get(url(asset, "video"), headers={"range": "bytes=70000-1200000"})
                assert (ranged.status_code, ranged.content) == (206, data[70000:1200001])
                clip = await client.get(url(asset, "clip"), params={"start_frame": 101, "end_frame": 110})
                assert decoded(clip.content).numbers == list(range(101, 111))
                probe = {"range": "bytes=0-1"}
                part = await client.get(
                    url(asset, "clip"), params={"start_frame": 101, "end_frame": 110}, headers=probe
                )
                assert (part.status_code, part.content) == (206, clip.content[:2])
                assert part.headers["content-range"] == f"bytes 0-1/{len(clip.content)}"
                copy = await client.get(url(asset, "video"), params={"start_frame": 101, "end_frame": 110})
                assert decoded(copy.content).numbers[:11] == list(range(100, 111))
