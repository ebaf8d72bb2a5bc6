"""A film for benchmarks, and how it comes to where the server looks for it."""

import asyncio
import hashlib
from dataclasses import asdict
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from configs.settings import Settings
from stores.open import open_documents, open_objects, open_people
from stores.people import TraceBoxes, TraceRecord, VideoIndex
from stores.records import Asset
from vision.media.probe import Limits, probe

SECONDS, FPS, SIZE = 60, 25, (1920, 1080)
FRAMES: Final = SECONDS * FPS


def write_film(path: Path, seconds: int = SECONDS) -> None:
    """A camera that pans over a grainy picture, with a tone: H.264 and AAC in MP4, a key frame every ten seconds."""
    import av

    width, height = SIZE
    rng = np.random.default_rng(0)
    coarse = av.VideoFrame.from_ndarray(rng.integers(20, 236, (24, 64, 3), np.uint8), format="rgb24")
    wide = coarse.reformat(width * 2, height, interpolation="BICUBIC").to_ndarray().astype(np.float32)
    wide = (wide + rng.normal(0, 6, wide.shape[:2])[:, :, None]).clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w", format="mp4") as output:
        video: Any = output.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "23", "g": "250"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio: Any = output.add_stream("aac", rate=48_000, layout="stereo")
        for number in range(seconds * FPS):
            pixels = np.ascontiguousarray(wide[:, number % width : number % width + width])
            output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(video.encode())
        wave = np.sin(np.arange(seconds * 48_000) / 15).astype(np.float32) * 0.2
        for start in range(0, len(wave), 1024):
            block = av.AudioFrame.from_ndarray(np.stack([wave[start : start + 1024]] * 2), "fltp", "stereo")
            block.sample_rate, block.pts, block.time_base = 48_000, start, Fraction(1, 48_000)
            output.mux(audio.encode(block))
        output.mux(audio.encode())


def store(config: Settings, path: Path, *, film: bool) -> str:
    """Store a file, which is consumed; its id. A film has somebody in it, from its first frame to its last."""
    with path.open("rb") as file:
        asset_id = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    unread = {"kind": "video", "format": "MP4", "content_type": "video/mp4"}
    facts: dict[str, Any] = asdict(probe(path, Limits.of(config))) if film else unread
    asset = Asset(asset_id, path.name, file_size=path.stat().st_size, uploaded_at=datetime.now(UTC), **facts)
    asyncio.run(_put(config, path, asset, indexed=film))
    return asset_id


async def _put(config: Settings, path: Path, asset: Asset, *, indexed: bool) -> None:
    objects, documents = open_objects(config.objects), open_documents(config.documents)
    people = open_people(config.documents)
    await objects.put_file(asset.asset_id, path, asset.content_type)
    await documents.insert_asset(asset)
    if indexed:
        index = VideoIndex(asset.asset_id, "none", *SIZE, FPS, FRAMES, SECONDS, 1, (), 1, datetime.now(UTC))
        vector = np.eye(1, 128, dtype=np.float32)[0]
        trace = TraceRecord(asset.asset_id, 0, 0, FRAMES - 1, 0, SECONDS, FRAMES, None, vector)
        frames, ones = np.arange(FRAMES), np.ones(FRAMES, np.float32)
        boxes = np.stack([100 + frames, np.full(FRAMES, 200), np.full(FRAMES, 300), np.full(FRAMES, 300)], 1)
        await people.put_index(index, [(trace, TraceBoxes(frames, boxes.astype(np.float32), ones, ones.astype(bool)))])
    for store in (objects, documents, people):
        await store.close()
