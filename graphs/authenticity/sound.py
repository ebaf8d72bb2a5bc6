"""Analysis of sounds: decoded to disk as 16 kHz mono, then where somebody speaks, then whether that voice is synthetic.

A sound is decoded and judged in parts, so a long one takes no more memory than a short one.
"""

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from configs.settings import Settings
from deployments.forensics.speech import SPEECH, STEP_S
from deployments.forensics.voice import VOICE, Voice
from deployments.serving.streams import in_time
from graphs.authenticity.errors import UndecodableMedia
from graphs.authenticity.findings import Absent, Segment, SoundFindings
from graphs.authenticity.fusion import pooled
from graphs.authenticity.uploads import Submission
from graphs.web.context import Context, task_group
from vision.errors import DeadlineExceeded, InvalidMedia, ModelNotLoaded
from vision.forensics.voice_domain import Domain
from vision.forensics.voices import RATE, SAMPLES
from vision.media.audio import Sound
from vision.media.container import MediaFile

Samples: TypeAlias = NDArray[np.float32]

DECODED_PART_S: Final = 20.0
LONGEST_S: Final = 3600.0
"""Of a longer sound only the first hour is analyzed; on disk that is 230 MB."""
SPEECH_PART: Final = 30 * RATE
"""Samples of one call for speech."""
LEAD: Final = RATE
"""Samples before a part that are sent with it, so that its first second is judged like the others."""
STEP: Final = round(STEP_S * RATE)
SPEAKS: Final = 0.5
LEAST_SPEECH_S: Final = 0.5
"""With less speech the answer is NO_SPEECH."""
HOP: Final = SAMPLES // 2
LEAST_SHARE: Final = 0.3
"""Share of a window in which somebody has to speak for it to be judged."""
MOST_WINDOWS: Final = 40
"""Windows that are judged of a long sound, evenly spread over the speech: as many as a CPU judges in a minute."""
WINDOWS_AT_ONCE: Final = 8
NO_SPEECH: Final = "nobody speaks in it"
UNDECODABLE: Final = (
    "Nothing, or less than half, of the sound in this file can be decoded; it is damaged or its codec is not "
    "supported. Export it with sound as AAC, MP3 or PCM."
)


@dataclass(frozen=True, slots=True)
class DecodedSound:
    """A sound on disk.

    ``samples``: float32 (n,), -1 to 1, at 16 kHz. ``rms`` 0-1; ``crossings``: share of neighbouring samples of
    different sign, 0-1. ``lost_s``: seconds that are missing in the file or could not be decoded.
    """

    samples: Samples
    rms: float
    crossings: float
    lost_s: float = 0.0

    @property
    def seconds(self) -> float:
        """Return the duration."""
        return len(self.samples) / RATE


@asynccontextmanager
async def decoded_sound(settings: Settings, submission: Submission) -> AsyncIterator[DecodedSound]:
    """Decode the sound of a file and keep it on disk until the block ends.

    However the block is left, also by cancellation, decoding has ended and nothing stays on disk. Raises
    UndecodableMedia when less than half of the sound can be decoded, and DeadlineExceeded.
    """
    settings.spool.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    with tempfile.TemporaryFile(dir=settings.spool, prefix="sound-") as file:
        decoding = asyncio.ensure_future(asyncio.to_thread(_decode, submission, file, stop))
        try:
            sound = await in_time(asyncio.shield(decoding))
        except (asyncio.CancelledError, DeadlineExceeded):
            stop.set()
            await asyncio.gather(decoding, return_exceptions=True)  # else the thread would write to a closed file
            raise
        yield sound


def _decode(submission: Submission, out: BinaryIO, stop: threading.Event) -> DecodedSound:
    path, demuxer, label = submission.path, submission.demuxer, submission.facts.format
    try:
        with MediaFile(path, demuxer=demuxer, label=label, probed=True) as media, media.errors():
            stream = media.audio()
            if stream is None:
                raise UndecodableMedia(UNDECODABLE)
            start = media.start_of(stream)
            return _written(Sound(media, stream, start, start + LONGEST_S, rate=RATE, mono=True, stop=stop), out)
    except InvalidMedia as error:
        raise UndecodableMedia(error.message) from error


def _written(sound: Sound, out: BinaryIO) -> DecodedSound:
    squares, crossings, last, count = 0.0, 0, 0.0, 0
    more = not sound.ended
    while more and count < LONGEST_S * RATE:
        part = sound.take(count / RATE + DECODED_PART_S)[0]
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
    rms = float(np.sqrt(squares / count))
    return DecodedSound(samples, rms, crossings / count, min(sound.lost_s, count / RATE))


async def examine_sound(context: Context, sound: DecodedSound) -> SoundFindings:
    """Run the stages for sounds on one; a model that is missing leaves its signal absent."""
    try:
        speech = await _speech(context, sound.samples)
    except ModelNotLoaded as error:
        return _findings(sound, None, 0, (), Absent.without(error))
    seconds = float(speech.sum() * STEP_S)
    if seconds < LEAST_SPEECH_S:
        return _findings(sound, seconds, 0, (), Absent(NO_SPEECH, fault=False))
    starts = windows(len(sound.samples), speech)
    try:
        judged = await _voices(context, sound.samples, spread(starts, MOST_WINDOWS))
    except ModelNotLoaded as error:
        return _findings(sound, seconds, len(starts), (), Absent.without(error))
    segments, voices = zip(*judged, strict=True)
    opinions = {
        name: pooled((voice.opinions[name], 1.0) for voice in voices if name in voice.opinions)
        for name in voices[0].opinions
    }
    domains = [voice.domain for voice in voices if voice.domain is not None]
    found = _findings(sound, seconds, len(starts), segments, None)
    return replace(found, opinions=opinions, domain=Domain.of_windows(domains) if domains else None)


def windows(length: int, speech: NDArray[np.bool_]) -> list[int]:
    """Return the starts of the windows in which somebody speaks, half overlapping; at least one.

    ``length``: samples of the sound; ``speech``: bool (ceil(length / 512),), for every 512 of them.
    """
    if length <= SAMPLES:
        return [0]
    starts = sorted({*range(0, length - SAMPLES + 1, HOP), length - SAMPLES})
    shares = [float(speech[start // STEP : (start + SAMPLES) // STEP].mean()) for start in starts]
    enough = [start for start, share in zip(starts, shares, strict=True) if share >= LEAST_SHARE]
    return enough or [starts[int(np.argmax(shares))]]


def spread(starts: list[int], most: int) -> list[int]:
    """Return at most ``most`` of the starts, evenly spread."""
    places = np.linspace(0, len(starts) - 1, min(most, len(starts)))
    return [starts[round(place)] for place in places.tolist()]


async def _speech(context: Context, samples: Samples) -> NDArray[np.bool_]:
    chances = []
    for start in range(0, len(samples), SPEECH_PART):
        lead = min(start, LEAD) // STEP * STEP
        part = np.array(samples[start - lead : start + SPEECH_PART])
        chances.append((await context.stage(SPEECH)(part))[lead // STEP :])
    speaks: NDArray[np.bool_] = np.concatenate(chances) >= SPEAKS
    return speaks


async def _voices(context: Context, samples: Samples, starts: list[int]) -> list[tuple[Segment, Voice]]:
    slots = asyncio.Semaphore(WINDOWS_AT_ONCE)

    async def judged(start: int) -> tuple[Segment, Voice]:
        async with slots:
            part = np.array(samples[start : start + SAMPLES])
            voice = await context.stage(VOICE)(part)
            return Segment(start / RATE, (start + len(part)) / RATE, voice.probability), voice

    async with task_group() as group:
        tasks = [group.create_task(judged(start)) for start in starts]
    return [task.result() for task in tasks]


def _findings(
    sound: DecodedSound, speech_s: float | None, count: int, segments: tuple[Segment, ...], absent: Absent | None
) -> SoundFindings:
    return SoundFindings(
        rms_energy=sound.rms,
        zero_crossing_rate=sound.crossings,
        speech_s=speech_s,
        decoded_s=sound.seconds,
        windows=count,
        segments=segments,
        probability=pooled((segment.probability, 1.0) for segment in segments) if segments else None,
        absent=absent,
        lost_s=sound.lost_s,
    )
