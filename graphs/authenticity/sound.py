"""A sound of any container as 16 kHz mono, on disk: read in parts, so a long one takes no more memory than a short."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from configs.settings import Settings
from deployments.errors import InvalidMedia
from graphs.authenticity.errors import UndecodableMedia
from graphs.authenticity.uploads import Handed

Samples = NDArray[np.float32]

RATE: Final = 16_000
PART_S: Final = 20.0
LONGEST_S: Final = 3600.0
"""Of a longer sound the first hour is listened to; on disk that is 230 MB."""


@dataclass(frozen=True, slots=True)
class Heard:
    """``samples``: float32[n], -1 to 1, at 16 kHz, on disk. ``rms`` 0-1; ``crossings``: share of neighbouring samples
    of different sign, 0-1."""

    samples: Samples
    rms: float
    crossings: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / RATE


@asynccontextmanager
async def opened_sound(settings: Settings, handed: Handed) -> AsyncIterator[Heard]:
    """The sound of a file until the block ends. Raises UndecodableMedia when there is none that can be decoded."""
    settings.spool.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=settings.spool, prefix="sound-") as file:
        yield await asyncio.to_thread(_decode, handed, Path(file.name))


def _decode(handed: Handed, target: Path) -> Heard:
    from deployments.media.audio import Sound
    from deployments.media.container import MediaFile, ffmpeg_errors

    length = min(handed.facts.duration or LONGEST_S, LONGEST_S)
    squares, crossings, last, count = 0.0, 0, 0.0, 0
    try:
        media = MediaFile(handed.path, demuxers=handed.demuxer)
    except InvalidMedia as error:
        raise UndecodableMedia(error.message) from error
    try:
        with ffmpeg_errors(), target.open("wb") as out:
            stream = media.audio()
            if stream is None:
                raise UndecodableMedia("This file holds no sound that can be decoded.")
            start = float((stream.start_time or 0) * stream.time_base)
            sound = Sound(media, stream, start, start + length, rate=RATE, mono=True)
            until = 0.0
            while until < length:
                until = min(until + PART_S, length)
                part = np.nan_to_num(sound.take(until)[0])
                squares += float(np.square(part, dtype=np.float64).sum())
                signs = np.signbit(np.concatenate([[last], part]))
                crossings += int(np.count_nonzero(signs[1:] != signs[:-1]))
                last, count = float(part[-1]) if len(part) else last, count + len(part)
                out.write(part.tobytes())
    except InvalidMedia as error:
        raise UndecodableMedia(error.message) from error
    finally:
        media.close()
    if not count:
        raise UndecodableMedia("This sound is empty.")
    samples: Samples = np.memmap(target, np.float32, "r")
    return Heard(samples, float(np.sqrt(squares / count)), crossings / count)
