"""The sound of any container as 16 kHz mono, on disk: read in parts, so memory does not grow with its length."""

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from configs.settings import Settings
from graphs.authenticity.errors import UndecodableMedia
from graphs.authenticity.uploads import Handed
from vision.errors import InvalidMedia

if TYPE_CHECKING:
    from vision.media.audio import Sound

Samples = NDArray[np.float32]

RATE: Final = 16_000
PART_S: Final = 20.0
LONGEST_S: Final = 3600.0
"""Of a longer sound only the first hour is judged; on disk that is 230 MB."""
UNDECODABLE: Final = (
    "Nothing, or less than half, of the sound in this file can be decoded; it is damaged or its codec is not "
    "supported. Export it with sound as AAC, MP3 or PCM."
)


@dataclass(frozen=True, slots=True)
class Heard:
    """A decoded sound.

    ``samples``: float32[n], -1 to 1, at 16 kHz, on disk. ``rms`` 0-1; ``crossings``: share of neighbouring samples of
    different sign, 0-1. ``whole``: the sound ends there, whatever its header says; else the file has more of it.
    """

    samples: Samples
    rms: float
    crossings: float
    whole: bool

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / RATE


@asynccontextmanager
async def opened_sound(settings: Settings, handed: Handed) -> AsyncIterator[Heard]:
    """Decode the sound of a file and keep it until the block ends. Raises UndecodableMedia when none can be decoded.

    However the block is left, also by cancellation, decoding has ended and nothing stays on disk.
    """
    settings.spool.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    with tempfile.TemporaryFile(dir=settings.spool, prefix="sound-") as file:
        decoding = asyncio.ensure_future(asyncio.to_thread(_decode, handed, file, stop))
        try:
            heard = await asyncio.shield(decoding)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.gather(decoding, return_exceptions=True)  # else the thread would write to a closed file
            raise
        yield heard


def _decode(handed: Handed, out: BinaryIO, stop: threading.Event) -> Heard:
    from vision.media.audio import Sound
    from vision.media.container import MediaFile

    try:
        with MediaFile(handed.path, demuxer=handed.demuxer, label=handed.facts.format) as media, media.errors():
            stream = media.audio()
            if stream is None:
                raise UndecodableMedia(UNDECODABLE)
            start = float((stream.start_time or 0) * stream.time_base)
            sound = Sound(media, stream, start, start + LONGEST_S, rate=RATE, mono=True, stop=stop)
            return _written(sound, out)
    except InvalidMedia as error:
        raise UndecodableMedia(error.message) from error


def _written(sound: "Sound", out: BinaryIO) -> Heard:
    squares, crossings, last, count = 0.0, 0, 0.0, 0
    more = not sound.ended
    while more and count < LONGEST_S * RATE:
        part = np.nan_to_num(sound.take(count / RATE + PART_S)[0])
        more = not sound.ended
        if not more:
            part = part[: max(sound.reached - count, 0)]  # after that it is padded with silence
        squares += float(np.square(part, dtype=np.float64).sum())
        signs = np.signbit(np.concatenate([[last], part]))
        crossings += int(np.count_nonzero(signs[1:] != signs[:-1]))
        last, count = float(part[-1]) if len(part) else last, count + len(part)
        out.write(part.tobytes())
    if not count or sound.damaged > sound.decoded:
        raise UndecodableMedia(UNDECODABLE)
    out.flush()
    samples: Samples = np.memmap(out, np.float32, "r")
    return Heard(samples, float(np.sqrt(squares / count)), crossings / count, whole=not more)
