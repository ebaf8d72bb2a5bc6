"""The media API over real stores and stages, by HTTP: in this process, or on a socket of its own."""

import hashlib
import io
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np

from configs.settings import Settings
from deployments.media.clips import ClipStreamer
from deployments.serving.catalog import AnyStage
from stores.people import Identity, TraceBoxes, TraceRecord, VideoIndex
from stores.records import Asset
from tests.graphs.harness import Service, body_of, handles, serving
from tests.unit.vision.media.samples import RECIPES, number_in, write
from vision.images import Pixels
from vision.media.probe import Limits, probe


class MediaService(Service):
    """A running media API."""

    async def add(self, data: bytes, filename: str = "film.mp4") -> Asset:
        """Store a file as an upload does; the one that is there already, if it is."""
        asset_id = hashlib.sha256(data).hexdigest()[:32]
        known = (await self.context.documents.get_assets([asset_id])).get(asset_id)
        if known is not None:
            return known
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "upload"
            path.write_bytes(data)
            facts = probe(path, Limits.of(self.context.settings))
            await self.context.objects.put_file(asset_id, path, facts.content_type)
        asset = Asset(asset_id, filename, file_size=len(data), uploaded_at=datetime.now(UTC), **asdict(facts))
        assert await self.context.documents.insert_asset(asset)
        return asset

    async def get(
        self, asset: Asset, route: str, headers: dict[str, str] | None = None, **query: Any
    ) -> httpx.Response:
        """The answer to a GET of a route of this file."""
        return await self.client.get(url(asset, route), params=query, headers=headers)

    async def head(self, asset: Asset, route: str, **query: Any) -> httpx.Response:
        """The answer to a HEAD."""
        return await self.client.head(url(asset, route), params=query)


def url(asset: Asset, route: str) -> str:
    """Path of a route of a file."""
    return f"/api/v1/file/{asset.asset_id}/{route}"


@asynccontextmanager
async def serving_media(
    config: Settings, clips: AnyStage = ClipStreamer, clips_config: dict[str, Any] | None = None
) -> AsyncIterator[MediaService]:
    """A service over the stores of the settings, with this stage for its clips."""
    async with (
        handles("media/frames", clips, configs={clips.key: clips_config or {}}) as stages,
        serving(MediaService, config, ["media"], stages) as service,
    ):
        yield service


@cache
def film(recipe: str, **changes: Any) -> bytes:
    """The file of one of ``RECIPES``, with changes."""
    with tempfile.TemporaryDirectory() as folder:
        return write(replace(RECIPES[recipe], **changes), Path(folder) / "film").read_bytes()


@dataclass(frozen=True)
class Decoded:
    """A file decoded from beginning to end: times in seconds from the first frame, pictures upright, and the numbers
    that they show."""

    format: str
    codecs: dict[str, str]
    times: list[float]
    pictures: list[Pixels]
    numbers: list[int | None]

    def most_like(self, picture: Pixels) -> tuple[int, float]:
        """The frame that is most like a picture of the same size, and how far a colour is off on average."""
        off = [float(np.abs(own.astype(np.int16) - picture).mean()) for own in self.pictures]
        return int(np.argmin(off)), min(off)


def decoded(data: bytes) -> Decoded:
    """What a player makes of a file, without any code of this project."""
    with av.open(io.BytesIO(data)) as container:
        codecs = {stream.type: stream.codec_context.codec.canonical_name for stream in container.streams}
        frames = list(container.decode(video=0))
        pictures = [np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90) for frame in frames]
        return Decoded(
            format=container.format.name,
            codecs=codecs,
            times=[float(frame.time - frames[0].time) for frame in frames],
            pictures=pictures,
            numbers=[number_in(picture) for picture in pictures],
        )


def sound(data: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The left channel, at 48 kHz, from the beginning of the pictures on."""
    with av.open(io.BytesIO(data)) as container:
        first = next(container.decode(video=0)).time
    with av.open(io.BytesIO(data)) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=48_000)
        frames = list(container.decode(audio=0))
        samples = [block.to_ndarray()[0] for frame in frames for block in resampler.resample(frame)]
        lead = round((float(frames[0].time) - float(first)) * 48_000)
    joined = np.concatenate(samples)
    return np.concatenate([np.zeros(lead, np.float32), joined]) if lead > 0 else joined[-lead:]


def beeps(samples: np.ndarray[Any, np.dtype[np.float32]]) -> list[float]:
    """When it beeps, in seconds."""
    loud = np.abs(samples) > 0.1
    starts = np.flatnonzero(loud)
    return [float(at) / 48_000 for at, gap in zip(starts, np.diff(starts, prepend=-48_000), strict=True) if gap > 4800]


def media_error(answer: httpx.Response, status: int, code: str) -> str:
    """The message of an answer that must have this status and code, and tell nothing of the machine."""
    body = body_of(answer, status)
    assert set(body) == {"success", "error", "code"}
    assert (body["success"], body["code"]) == (False, code)
    message: str = body["error"]
    assert message
    return message


BEEPS = (0.5, 1.2, 1.9)
SIZE = (640, 480)
LEFT, RIGHT = (200, 240, 120, 90), (420, 200, 100, 150)
"""x, y, width and height of two faces."""


def trace(asset: Asset, number: int, first: int, last: int, box: tuple[int, ...]) -> tuple[TraceRecord, TraceBoxes]:
    """Somebody who stays in one place from the first to the last frame; 25 frames a second."""
    frames = np.arange(first, last + 1)
    boxes = TraceBoxes(
        frames=frames,
        boxes=np.tile(np.array(box, np.float32), (len(frames), 1)),
        confidences=np.full(len(frames), 0.9, np.float32),
        detected=np.ones(len(frames), bool),
    )
    vector = np.eye(1, 128, number, dtype=np.float32)[0]
    times = first / 25, last / 25
    return TraceRecord(asset.asset_id, number, first, last, *times, len(frames), None, vector), boxes


async def indexed(service: MediaService) -> Asset:
    """A video with somebody on the left from frame 10 to 29, and on the right from 20 to 49."""
    asset = await service.add(film("b-frames", size=SIZE, beeps=BEEPS))
    people = service.context.people
    if await people.get_index(asset.asset_id) is None:
        index = VideoIndex(asset.asset_id, "m", *SIZE, 25.0, 60, 2.4, 1, (), 2, datetime.now(UTC))
        await people.put_index(index, [trace(asset, 0, 10, 29, LEFT), trace(asset, 1, 20, 49, RIGHT)])
        vector = np.eye(1, 128, dtype=np.float32)[0]
        await people.put_identity(Identity("7" * 32, "Audrey", "m", vector, 1.0, (), datetime.now(UTC)))
        await people.set_identities(asset.asset_id, {0: "7" * 32})
    return asset
