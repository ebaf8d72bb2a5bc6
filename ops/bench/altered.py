"""Alter media in known ways: pictures recompressed, resized, screenshotted or spliced, voices encoded, films made."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from deployments.forensics.signal import SMALLEST_SIDE
from vision.images import Pixels, decode

MAX_PIXELS: Final = 100_000_000
RATE: Final = 16_000
Sound = NDArray[np.float32]


def jpeg(image: Pixels, quality: int) -> bytes:
    """Encode as JPEG with Pillow's defaults."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def png(image: Pixels) -> bytes:
    """Encode as PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def resized(image: Pixels, factor: float) -> Pixels:
    """Resize a picture, by area when it shrinks and by a cubic filter when it grows."""
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=how), np.uint8)


def screenshot(image: Pixels) -> bytes:
    """Return a PNG of a window of 1280 x 800 that shows the picture."""
    window = Image.new("RGB", (1280, 800), (243, 244, 246))
    draw = ImageDraw.Draw(window)
    draw.rectangle((0, 0, 1280, 56), fill=(32, 33, 36))
    draw.rectangle((140, 14, 1100, 42), fill=(60, 64, 67))
    shown = Image.fromarray(image)
    shown.thumbnail((1000, 680), Image.Resampling.BILINEAR)
    window.paste(shown, ((1280 - shown.width) // 2, 90))
    return png(np.asarray(window))


def variants(image: Pixels) -> Iterator[tuple[str, bytes]]:
    """Yield (name, file) of the picture after each usual alteration."""
    for quality in (95, 80, 60, 40):
        yield f"JPEG {quality}", jpeg(image, quality)
    for factor in (0.75, 0.5, 1.5):
        yield f"resized {factor:g}", jpeg(resized(image, factor), 90)
    yield "screenshot", screenshot(image)
    yield "blurred a little", jpeg(np.asarray(cv2.GaussianBlur(image, (0, 0), 2), np.uint8), 90)


def histories(data: bytes, other: Pixels, rng: np.random.Generator) -> Iterator[tuple[bool, bytes]]:
    """Yield (spliced, file) of a genuine picture: as it is, saved again, resized, saved twice, and with a part of
    ``other`` pasted in."""
    image = decode(data, max_pixels=MAX_PIXELS)
    yield False, data
    yield False, jpeg(image, int(rng.integers(60, 96)))
    factor = float(rng.uniform(0.4, 0.9))
    if min(image.shape[:2]) * factor >= SMALLEST_SIDE:
        yield False, jpeg(resized(image, factor), int(rng.integers(70, 96)))
    once = decode(jpeg(image, int(rng.integers(50, 80))), max_pixels=MAX_PIXELS)
    yield False, jpeg(once, int(rng.integers(80, 96)))
    yield True, spliced(image, other, rng)


def spliced(image: Pixels, other: Pixels, rng: np.random.Generator) -> bytes:
    """Return a JPEG of the picture with an oval of another one, which was saved at a quality of its own."""
    height, width = image.shape[:2]
    scale = max(height / other.shape[0], width / other.shape[1])
    size = max(width, int(other.shape[1] * scale) + 1), max(height, int(other.shape[0] * scale) + 1)
    guest = np.asarray(cv2.resize(other, size, interpolation=cv2.INTER_AREA), np.uint8)[:height, :width]
    guest = decode(jpeg(guest, int(rng.integers(50, 96))), max_pixels=MAX_PIXELS)
    x, y = rng.uniform(0.3, 0.7, 2)
    reach = rng.uniform(0.12, 0.3)
    mask = np.zeros((height, width), np.float32)
    centre, axes = (int(x * width), int(y * height)), (int(reach * width), int(reach * height))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 1.0, -1)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 3), np.float32)[..., None]
    return jpeg((image * (1 - mask) + guest * mask).astype(np.uint8), int(rng.integers(80, 96)))


def read_sound(path: Path) -> Sound:
    """Decode a clip at 16 kHz mono, float32[n]."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        blocks = [block for frame in container.decode(audio=0) for block in resampler.resample(frame)]
        return np.concatenate([block.to_ndarray()[0] for block in [*blocks, *resampler.resample(None)]])


def encode_sound(sound: Sound, codec: str, container: str, rate: int, bits: int) -> bytes:
    """Encode a mono file: ``pcm_s16le``/``wav``, ``libmp3lame``/``mp3`` or ``aac``/``ipod``."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono")
        if bits:
            stream.bit_rate = bits
        form = "s16" if codec.startswith("pcm") else "fltp"
        resampler = av.AudioResampler(format=form, layout="mono", rate=rate, frame_size=stream.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        for block in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(block))
        output.mux(stream.encode(None))
    return file.getvalue()


def film(path: Path, photo: Pixels, sound: Sound, seconds: int, size: tuple[int, int], fps: int = 25) -> None:
    """Write an MP4 that pans slowly over a photograph, with this sound over and over."""
    width, height = size
    scale = 1.15 * max(width / photo.shape[1], height / photo.shape[0])
    large = resized(photo, scale)
    room_y, room_x = large.shape[0] - height, large.shape[1] - width
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "20"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = output.add_stream("aac", rate=RATE, layout="mono")
        place = 0
        for number in range(seconds * fps):
            turn = 0.5 + 0.5 * np.sin(2 * np.pi * number / fps / 12)
            y, x = int(room_y * 0.3 * turn), int(room_x * turn)
            cut = np.ascontiguousarray(large[y : y + height, x : x + width])
            output.mux(video.encode(av.VideoFrame.from_ndarray(cut, format="rgb24")))
            while place < (number + 1) * RATE / fps:
                part = np.take(sound, range(place, place + 1024), mode="wrap")
                block = av.AudioFrame.from_ndarray(part[None], format="fltp", layout="mono")
                block.sample_rate, block.pts = RATE, place
                output.mux(audio.encode(block))
                place += 1024
        output.mux(video.encode(None))
        output.mux(audio.encode(None))
