"""The authenticity API over real stores and measures, with dummies for its models."""

import io
import wave
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import av
import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from configs.settings import Settings
from deployments.forensics.provenance import ProvenanceReader
from deployments.forensics.signal import SignalAnalyzer
from deployments.forensics.temporal import TemporalAnalyzer
from tests.dummies.dummy import Dummy
from tests.dummies.forensics import DummySpeech, DummyVisual, DummyVoice
from tests.dummies.video import PEOPLE, DummyPhotoFaces, DummyRecognizer, DummyVideoFaces
from tests.graphs.harness import Service, body_of, handles, serving

STAGES = (
    *(DummyPhotoFaces, DummyVideoFaces, DummyRecognizer, DummyVisual, DummySpeech, DummyVoice),
    *(SignalAnalyzer, ProvenanceReader, TemporalAnalyzer),
)
BASE = "/api/v1"


@dataclass
class AuthenticityService(Service):
    """A running authenticity API."""

    visual: DummyVisual
    voice: DummyVoice

    async def send(self, route: str, data: bytes, name: str = "file.jpg", **query: Any) -> httpx.Response:
        """Send one file and return the response."""
        return await self.client.post(f"{BASE}/analyze/{route}", files={"file": (name, data)}, params=query)

    async def judged(self, route: str, data: bytes, name: str = "file.jpg", **query: Any) -> dict[str, Any]:
        """Send one file that must get a verdict, and return it; it is stored unchanged."""
        answer = await self.send(route, data, name, **query)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        kept = await self.client.get(f"{BASE}/results/{body['analysis_id']}")
        assert kept.json() == body
        return body


@asynccontextmanager
async def serving_authenticity(config: Settings, *more: type[Dummy[Any, Any]]) -> AsyncIterator[AuthenticityService]:
    """Start a service over the stores of the settings, with more stages than those that every answer needs."""
    async with (
        handles(*STAGES, *more) as stages,
        serving(
            AuthenticityService,
            config,
            ["authenticity"],
            stages,
            visual=DummyVisual.running,
            voice=DummyVoice.running,
        ) as service,
    ):
        yield service


def detail_of(answer: httpx.Response, status: int) -> str:
    """Return the message of an error, which is all that its body has."""
    body = body_of(answer, status)
    assert set(body) == {"detail"}
    detail: str = body["detail"]
    return detail


def scene(*people: str, seed: int = 1, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Return a textured picture with a rectangle in the colour of each of ``PEOPLE``."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 130, (size[1], size[0], 1)).repeat(3, axis=2).astype(np.uint8)
    for place, name in enumerate(people):
        pixels[30:80, 10 + 50 * place : 45 + 50 * place] = PEOPLE[name]
    return Image.fromarray(pixels)


def saved(image: Image.Image, fmt: str = "PNG", **options: Any) -> bytes:
    """Return the encoded image."""
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def wav(sound: NDArray[Any], rate: int = 16_000) -> bytes:
    """Return a mono WAV of samples within ±1."""
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(rate)
        output.writeframes((np.asarray(sound) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def tone(seconds: float, loud: float, rate: int = 16_000) -> NDArray[np.float64]:
    """Return a tone of 220 Hz, float64 (n,)."""
    return loud * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)


def coded(sound: NDArray[Any], codec: str = "aac", container: str = "ipod") -> bytes:
    """Encode mono sound at 16 kHz."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        _speak(output, output.add_stream(codec, rate=16_000, layout="mono"), sound)
    return file.getvalue()


def film(
    frames: Sequence[Image.Image],
    sound: NDArray[Any] | None = None,
    fps: int = 10,
    *,
    container: str = "mp4",
    codec: str = "aac",
) -> bytes:
    """Encode a video with these frames, and mono sound at 16 kHz."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("libx264", rate=fps, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = *frames[0].size, "yuv420p"
        heard = None if sound is None else output.add_stream(codec, rate=16_000, layout="mono")
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_image(frame)))
        output.mux(stream.encode())
        if heard is not None and sound is not None:
            _speak(output, heard, sound)
    return file.getvalue()


def _speak(output: Any, stream: Any, sound: NDArray[Any]) -> None:
    resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=16_000)
    size = stream.codec_context.frame_size or 1024
    for start in range(0, len(sound), size):
        part = av.AudioFrame.from_ndarray(sound[None, start : start + size].astype("f4"), "fltp", "mono")
        part.sample_rate, part.pts = 16_000, start
        for frame in resampler.resample(part):
            output.mux(stream.encode(frame))
    output.mux(stream.encode())
