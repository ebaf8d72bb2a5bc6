"""Small real files of every kind, and what an error answer must look like."""

import io
import wave
from datetime import datetime
from typing import Any

import av
import httpx
import numpy as np
from PIL import Image

from tests.graphs.harness import body_of

FPS, FRAMES = 10, 20


def picture(seed: int, *, size: tuple[int, int] = (64, 48), noise: float = 0.0, fmt: str = "PNG") -> bytes:
    """An encoded picture of smooth random colours; the same seed with some noise is a near-duplicate."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize(size, Image.Resampling.BICUBIC), np.float32)
    if noise:
        pixels = pixels + rng.normal(0, 255 * noise, pixels.shape)
    return encoded(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), fmt)


def plain(colour: str, fmt: str = "PNG") -> bytes:
    """An encoded picture of one colour."""
    return encoded(Image.new("RGB", (20, 20), colour), fmt)


def encoded(image: Image.Image, fmt: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def video(seed: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """Two seconds of MP4, every frame the colours of ``picture(seed)``."""
    frame = np.asarray(Image.open(io.BytesIO(picture(seed, size=size))))
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for _ in range(FRAMES):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode())
    return file.getvalue()


def audio() -> bytes:
    """Half a second of a tone, as WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(8000)
        output.writeframes((np.sin(np.arange(4000) / 3) * 8000).astype("<i2").tobytes())
    return file.getvalue()


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of an answer that must have this status and code, and tell nothing of the machine."""
    body = body_of(answer, status)
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"code", "message", "details", "timestamp"}
    assert error["code"] == code
    assert error["message"]
    assert datetime.fromisoformat(error["timestamp"]).utcoffset() is not None
    return error
