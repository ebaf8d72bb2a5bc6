"""Videos whose frames say which one they are, in blocks that survive compression."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from vision.images import Pixels

WIDTH, HEIGHT = 256, 192
BLOCK, BITS = 16, 12
TICKS = 90_000
"""Time base of the videos, in ticks a second."""


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """RGB: moving stripes, below them the number in black and white blocks, and once more inverted."""
    y, x = np.mgrid[0:height, 0:width]
    wave = 120 + 70 * np.sin((x + 5 * number) / 17) + 50 * np.cos((y - 3 * number) / 11)
    pixels = np.stack([wave, 255 - wave, 128 + wave / 4], -1).clip(0, 255).astype(np.uint8)
    for bit in range(BITS):
        level = 235 if number >> bit & 1 else 20
        left = bit * BLOCK
        pixels[:BLOCK, left : left + BLOCK] = level
        pixels[BLOCK : 2 * BLOCK, left : left + BLOCK] = 255 - level
    return pixels


def number_in(pixels: Pixels) -> int | None:
    """The number that a picture shows; None where its blocks cannot be read."""
    inner = slice(BLOCK // 4, BLOCK * 3 // 4)
    levels = np.array(
        [
            [float(pixels[row * BLOCK :][inner, bit * BLOCK :][:, inner].mean()) for bit in range(BITS)]
            for row in range(2)
        ]
    )
    bits = levels[0] > 128
    if (bits == (levels[1] > 128)).any() or (np.abs(levels - 128) < 60).any():
        return None
    return int(bits @ (1 << np.arange(BITS)))


def combing(pixels: Pixels) -> float:
    """How much more a row differs from the next than from the one after it, in grey levels: the comb of two fields."""
    grey = pixels.mean(2)
    return float(np.abs(grey[:-2] - grey[1:-1]).mean() - np.abs(grey[:-2] - grey[2:]).mean())


@dataclass(frozen=True)
class Recipe:
    """How a video is made. ``ticks``: PTS of its frames, in 1/90000 s; ``rotation``: degrees anticlockwise that a
    player turns them by, before it mirrors them; ``size``: as shown; ``beeps``: when they begin, in seconds;
    ``sound_s``: how long the sound is, if not as long as the pictures."""

    container: str = "mp4"
    codec: str = "libx264"
    frames: int = 60
    fps: int = 25
    ticks: Sequence[int] = ()
    rotation: int | None = None
    mirrored: bool = False
    beeps: Sequence[float] | None = None
    sound_s: float | None = None
    pixel_format: str = "yuv420p"
    size: tuple[int, int] = (WIDTH, HEIGHT)
    pixel_aspect: Fraction = Fraction(1)
    encoder: dict[str, str] = field(default_factory=dict)
    muxer: dict[str, str] = field(default_factory=dict)

    def times(self) -> list[int]:
        """PTS of every frame that goes into the file."""
        return list(self.ticks) or [number * TICKS // self.fps for number in range(self.frames)]

    def stored(self, number: int) -> Pixels:
        """What a player turns into the picture of this number."""
        upright = picture(number, *self.size)
        if self.mirrored:
            upright = np.fliplr(upright)
        return np.ascontiguousarray(np.rot90(upright, -(self.rotation or 0) // 90))


X264 = {"preset": "veryfast"}
RECIPES = {
    "b-frames": Recipe(encoder={**X264, "g": "20", "bf": "3"}),
    "one key frame": Recipe(encoder={**X264, "g": "600", "bf": "2"}),
    "open gop": Recipe(encoder=X264 | {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3"}),
    "vfr": Recipe(ticks=[n * 3000 + (n * n * 137) % 1900 for n in range(60)], encoder={**X264, "g": "15", "bf": "2"}),
    "60 fps": Recipe(fps=60, frames=120, encoder={**X264, "g": "30", "bf": "2"}),
    "rotated 90": Recipe(rotation=90, encoder={**X264, "g": "20", "bf": "2"}),
    "rotated 180": Recipe(rotation=180, encoder={**X264, "g": "20", "bf": "2"}),
    "rotated 270": Recipe(rotation=-90, encoder={**X264, "g": "20", "bf": "2"}),
    "mirrored": Recipe(rotation=90, mirrored=True, encoder={**X264, "g": "20", "bf": "2"}),
    # Frames before zero are there to decode the others by: an edit list has players leave them out.
    "edit list": Recipe(
        ticks=[(n - 13) * 3600 for n in range(70)],
        encoder={**X264, "g": "20", "bf": "2"},
        muxer={"avoid_negative_ts": "disabled"},
    ),
    "mpeg-ts": Recipe("mpegts", encoder={**X264, "g": "20", "bf": "2"}),
    "open gop in mpeg-ts": Recipe(
        "mpegts", encoder=X264 | {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3"}
    ),
    "fragmented": Recipe(
        encoder={**X264, "g": "20", "bf": "2"}, muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ),
    "matroska": Recipe("matroska", encoder={**X264, "g": "20", "bf": "2"}),
    "hevc": Recipe(codec="libx265", encoder={"preset": "ultrafast", "x265-params": "keyint=15:bframes=3:log-level=0"}),
    "vp9": Recipe("webm", "libvpx-vp9", encoder={"deadline": "realtime", "cpu-used": "8", "g": "20"}),
    "av1": Recipe(codec="libsvtav1", encoder={"preset": "12", "g": "20", "svtav1-params": "lp=1"}),
    "mpeg-4 in avi": Recipe("avi", "mpeg4", encoder={"g": "15", "b": "2000000"}),
    "b-frames in avi": Recipe("avi", "mpeg4", encoder={"g": "15", "bf": "2", "b": "2000000"}),
    "motion jpeg": Recipe("mov", "mjpeg", pixel_format="yuvj420p"),
    "10 bit": Recipe(pixel_format="yuv420p10le", encoder={**X264, "g": "20"}),
}
COUNTED = {"b-frames in avi"}
"""Whose frames do not tell when they are shown."""
SUFFIXES = {"matroska": "mkv", "mpegts": "ts"}
SHOWN = {"edit list": range(13, 70)}
"""Numbers that the frames of a recipe show, where they do not start at 0."""


def shown(name: str) -> list[int]:
    """What frames 0, 1, … of a recipe's video show."""
    return list(SHOWN.get(name, range(len(RECIPES[name].times()))))


def write(recipe: Recipe, path: Path) -> Path:
    """Encode the video of a recipe; frame i of it shows i."""
    height, width, _ = recipe.stored(0).shape
    with av.open(str(path), "w", format=recipe.container, options=recipe.muxer) as output:
        stream: Any = output.add_stream(recipe.codec, rate=recipe.fps, options=recipe.encoder)
        stream.width, stream.height, stream.pix_fmt = width, height, recipe.pixel_format
        stream.codec_context.time_base = stream.time_base = Fraction(1, TICKS)
        stream.codec_context.thread_count = 1
        stream.codec_context.sample_aspect_ratio = recipe.pixel_aspect
        if recipe.codec in ("mpeg4", "mjpeg"):
            stream.codec_context.time_base = Fraction(1, recipe.fps)
        if recipe.rotation is not None:
            stream.set_display_rotation(recipe.rotation, hflip=recipe.mirrored)
        sound = output.add_stream("aac", rate=48_000, layout="stereo") if recipe.beeps is not None else None
        for number, pts in enumerate(recipe.times()):
            frame = av.VideoFrame.from_ndarray(recipe.stored(number), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, TICKS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if sound is not None:
            seconds = recipe.sound_s or recipe.times()[-1] / TICKS + 1 / recipe.fps
            output.mux(_beeping(sound, recipe.beeps or (), seconds))
    end_real_time()
    return path


def end_real_time() -> None:
    """Undo what SVT-AV1 does where it may: it makes the thread that opens it a real-time one, with priority over all
    else, and so every process that this thread starts from then on."""
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _beeping(stream: Any, beeps: Iterable[float], seconds: float) -> Iterable[Any]:
    """Silence with 40 ms of 1 kHz from each of the times on."""
    rate = 48_000
    clock = np.arange(int(seconds * rate)) / rate
    loud = np.zeros(len(clock), bool)
    for start in beeps:
        loud |= (clock >= start) & (clock < start + 0.04)
    wave = (np.sin(clock * 2 * np.pi * 1000) * 0.6 * loud).astype(np.float32)
    for start in range(0, len(wave), 1024):
        block = np.ascontiguousarray(np.stack([wave[start : start + 1024]] * 2))
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode()
