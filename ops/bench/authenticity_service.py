"""Run the authenticity API in this process for its benchmark, and measure films: time, ceilings and memory."""

import asyncio
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import psutil

from deployments.serving.catalog import find_stage
from deployments.serving.handle import AnyHandle, StageHandle
from deployments.serving.runner import StageRunner
from graphs.authenticity.api import API
from graphs.web.gateway import build_app, open_context
from ops.bench import altered
from ops.bench.report import table
from vision.images import decode

CODECS: Final = {
    "WAV": ("pcm_s16le", "wav", 16_000, 0),
    "MP3 128k": ("libmp3lame", "mp3", 44_100, 128_000),
    "M4A 128k": ("aac", "ipod", 44_100, 128_000),
}


@dataclass
class Busy:
    """Collects seconds in ``predict_batch`` by stage, in place of ``StageMetrics``."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def batch(self, stage: str, size: int, max_size: int, seconds: float) -> None:
        """Add the seconds of a batch."""
        self.seconds[stage] += seconds

    def waited(self, stage: str, seconds: float) -> None:
        """Ignore how long an item waited."""

    def error(self, stage: str, code: str) -> None:
        """Ignore an error: its answer shows it."""


class Service:
    """A client of the routes over stages in this process."""

    def __init__(self, client: httpx.AsyncClient, busy: Busy) -> None:
        self.client, self.busy = client, busy

    async def judge(self, route: str, data: bytes | Path, **query: Any) -> dict[str, Any]:
        """Analyse one file. Raises RuntimeError when the answer is an error."""
        body = await asyncio.to_thread(data.read_bytes) if isinstance(data, Path) else data
        answer = await self.client.post(f"/api/v1/analyze/{route}/", files={"file": ("x", body)}, params=query)
        if answer.status_code != 200:
            raise RuntimeError(f"{route}: {answer.status_code} {answer.text}")
        result: dict[str, Any] = answer.json()
        return result

    async def picture(self, answer: dict[str, Any]) -> bytes:
        """Return the heat map of an answer."""
        return (await self.client.get(answer["heatmap_url"])).content


@asynccontextmanager
async def serving() -> AsyncIterator[Service]:
    """Yield a service with empty stores and the real stages."""
    from configs.settings import settings

    busy = Busy()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"VISION_HOME": home, "RATE_LIMIT_ENABLED": "false"}
        settings.cache_clear()
        handles: dict[str, AnyHandle] = {}
        for key in API.stage_keys:
            runner = StageRunner(find_stage(key), busy)  # type: ignore[arg-type]
            await runner.configure({})

            async def info(runner: StageRunner = runner) -> dict[str, Any]:
                return runner.info()

            handles[key] = StageHandle(key, runner.run, info, runner.stream)
        context = open_context(settings(), handles)
        transport = httpx.ASGITransport(build_app(context, ["authenticity"]))
        async with httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=None) as client:
            yield Service(client, busy)
        await context.close()


class Memory:
    """Tracks the peak of this process's resident memory during the block, in MiB."""

    def __enter__(self) -> "Memory":
        self._process, self._done = psutil.Process(), threading.Event()
        self.before = self._process.memory_info().rss / 2**20
        self.peak = self.before
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.peak = max(self.peak, self._process.memory_info().rss / 2**20)

    @property
    def grown(self) -> float:
        """MiB above the memory before the block."""
        return float(self.peak - self.before)


async def films(service: Service, media: Path, folder: Path) -> list[str]:
    """Compare the time of a film with the time of its parts, and measure the memory of a long one."""
    photo = decode((media / "face_pairs_deepface" / "img1.jpg").read_bytes(), max_pixels=altered.MAX_PIXELS)
    sound = altered.read_sound(media / "audio_spoof" / "wavefake" / "real" / "LJ001-0001.wav")
    short, long = folder / "short.mp4", folder / "long.mp4"
    altered.film(short, photo, sound, 30, (1280, 720))
    altered.film(long, photo, sound, 600, (640, 360), fps=15)
    rows, notes = [], []
    for name, path in (("30 s, 1280 x 720", short), ("10 min, 640 x 360", long)):
        decoding = await asyncio.to_thread(_decode_seconds, path)
        await service.judge("video", path, num_frames=2)  # opens decoders, fills caches of the allocator
        service.busy.seconds.clear()
        with Memory() as memory:
            started = time.perf_counter()
            answer = await service.judge("video", path, num_frames=16)
            took = time.perf_counter() - started
        models = sum(service.busy.seconds.values())
        size = path.stat().st_size / 2**20
        rows.append([name, f"{size:.1f}", f"{took:.1f}", f"{decoding:.1f}", f"{models:.1f}"])
        rows[-1] += [f"**{took / (decoding + models):.2f}**", f"{memory.grown:.0f}"]
        shares = ", ".join(f"{key} {seconds:.1f}" for key, seconds in sorted(service.busy.seconds.items()))
        looks, windows = answer["signals"]["temporal"]["looks"], len(answer["signals"]["audio"]["segments"])
        notes.append(f"{name}: {looks} detections of a face, {windows} windows of voice; seconds by stage: {shares}.")
    head = ("film", "MB", "seconds", "decoding alone", "models alone", "of their sum", "memory grew by MB")
    ten_minutes = altered.encode_sound(np.resize(sound, 600 * altered.RATE), *CODECS["M4A 128k"])
    with Memory() as memory:
        started = time.perf_counter()
        answer = await service.judge("audio", ten_minutes)
        took = time.perf_counter() - started
    judged = answer["audio_info"]
    notes.append(
        f"Ten minutes of speech as M4A: {took:.0f} s, {judged['windows_analyzed']} of {judged['windows_total']} "
        f"windows judged, memory grew by {memory.grown:.0f} MB."
    )
    return [*table(head, rows), *(f"- {note}" for note in notes), ""]


def _decode_seconds(path: Path) -> float:
    """Return the seconds that opening the film and decoding the frames of one analysis take."""
    from graphs.authenticity.video import Footage, evenly

    async def run() -> float:
        started = time.perf_counter()
        async with Footage.opened(path) as footage:
            for number in evenly(len(footage.times), 16):
                await footage.frame_near(number)
            async for _ in footage.face_frames():
                pass
        return time.perf_counter() - started

    return asyncio.run(run())
