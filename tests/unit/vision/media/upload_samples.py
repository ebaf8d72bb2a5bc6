"""Small real media files, made by PyAV and Pillow."""

from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from PIL import Image
from pillow_heif import register_heif_opener

register_heif_opener()
FPS, FRAMES, WIDTH, HEIGHT = 12, 12, 64, 48


def image(format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    pixels = np.random.default_rng(3).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)).save(buffer, format, **options)
    return buffer.getvalue()


def _pictures(stream: Any) -> Any:
    for index in range(FRAMES):
        pixels = np.full((HEIGHT, WIDTH, 3), index * 20, np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, FPS)
        yield from stream.encode(frame)
    yield from stream.encode()


def _tone(stream: Any) -> Any:
    """One second of 440 Hz."""
    rate = stream.rate
    for start in range(0, rate, 960):
        values = np.sin(np.arange(start, start + 960) * (2 * np.pi * 440 / rate)) * 8000
        frame = av.AudioFrame.from_ndarray(values.astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode()


def media(
    container: str,
    video: str = "",
    audio: str = "",
    rotation: int | None = None,
    cover: bool = False,
    **options: str,
) -> bytes:
    """``rotation`` is anticlockwise, in degrees; ``options`` are the muxer's."""
    buffer = BytesIO()
    with av.open(buffer, "w", format=container, options=options) as output:
        streams = []
        if video:
            stream: Any = output.add_stream(video, rate=FPS)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            if rotation is not None:
                stream.set_display_rotation(rotation)
            streams.append((stream, _pictures))
        if audio:
            streams.append((output.add_stream(audio, rate=48_000, layout="mono"), _tone))
        if cover:
            art: Any = output.add_stream("png", rate=1)
            art.width, art.height, art.pix_fmt = 8, 8, "rgb24"
            art.disposition = Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(np.zeros((8, 8, 3), np.uint8), format="rgb24")
            output.mux([*art.encode(frame), *art.encode()])
        for stream, packets in streams:
            output.mux(packets(stream))
    return buffer.getvalue()
