"""Whether a voice was made: first where somebody speaks, then the voice there, four seconds at a time."""

import asyncio
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deployments.forensics.speech import SPEECH, STEP_S
from deployments.forensics.voice import VOICE
from graphs.authenticity.findings import Absent, Segment, SoundFindings
from graphs.authenticity.fusion import pooled
from graphs.authenticity.sound import RATE, Heard, Samples
from graphs.web.context import Context, task_group
from vision.errors import ModelNotLoaded, StageUnavailable
from vision.forensics.voices import SAMPLES

PART: Final = 30 * RATE
LEAD: Final = RATE
"""What is listened to before a part, so that its first second is heard like the others."""
STEP: Final = round(STEP_S * RATE)
SPEAKS: Final = 0.5
LEAST_SPEECH_S: Final = 0.5
"""Less is an answer of its own: no speech."""
HOP: Final = SAMPLES // 2
LEAST_SHARE: Final = 0.3
"""Of a window in which somebody has to speak, for it to count."""
MOST_WINDOWS: Final = 40
"""Of a long sound, evenly spread over the speech: what a CPU judges in a minute."""
AT_ONCE: Final = 8
NO_SPEECH: Final = "nobody speaks in it"


async def listen(context: Context, heard: Heard) -> SoundFindings:
    """What the stages find in a sound; a model that does not answer is told as absent."""
    try:
        speech = await _speech(context, heard.samples)
    except (ModelNotLoaded, StageUnavailable) as error:
        return _findings(heard, None, 0, (), Absent(error.message, fault=True))
    seconds = float(speech.sum() * STEP_S)
    if seconds < LEAST_SPEECH_S:
        return _findings(heard, seconds, 0, (), Absent(NO_SPEECH, fault=False))
    starts = windows(len(heard.samples), speech)
    chosen = spread(starts, MOST_WINDOWS)
    try:
        segments = await _judged(context, heard.samples, chosen)
    except (ModelNotLoaded, StageUnavailable) as error:
        return _findings(heard, seconds, len(starts), (), Absent(error.message, fault=True))
    return _findings(heard, seconds, len(starts), segments, None)


def windows(length: int, speech: NDArray[np.bool_]) -> list[int]:
    """Where the windows begin in which somebody speaks, half overlapping; at least one.

    ``length``: samples of the sound; ``speech``: of every 512 of them.
    """
    if length <= SAMPLES:
        return [0]
    starts = sorted({*range(0, length - SAMPLES + 1, HOP), length - SAMPLES})
    shares = [float(speech[start // STEP : (start + SAMPLES) // STEP].mean()) for start in starts]
    enough = [start for start, share in zip(starts, shares, strict=True) if share >= LEAST_SHARE]
    return enough or [starts[int(np.argmax(shares))]]


def spread(starts: list[int], most: int) -> list[int]:
    """No more than so many, evenly spread."""
    places = np.linspace(0, len(starts) - 1, min(most, len(starts)))
    return [starts[round(place)] for place in places.tolist()]


async def _speech(context: Context, samples: Samples) -> NDArray[np.bool_]:
    chances = []
    for start in range(0, len(samples), PART):
        lead = min(start, LEAD) // STEP * STEP
        part = np.array(samples[start - lead : start + PART])
        chances.append((await context.stage(SPEECH)(part))[lead // STEP :])
    speaks: NDArray[np.bool_] = np.concatenate(chances) >= SPEAKS
    return speaks


async def _judged(context: Context, samples: Samples, starts: list[int]) -> tuple[Segment, ...]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(start: int) -> Segment:
        async with room:
            part = np.array(samples[start : start + SAMPLES])
            voice = await context.stage(VOICE)(part)
            return Segment(start / RATE, (start + len(part)) / RATE, voice.probability)

    async with task_group() as group:
        tasks = [group.create_task(one(start)) for start in starts]
    return tuple(task.result() for task in tasks)


def _findings(
    heard: Heard, speech_s: float | None, count: int, segments: tuple[Segment, ...], absent: Absent | None
) -> SoundFindings:
    return SoundFindings(
        rms_energy=heard.rms,
        zero_crossing_rate=heard.crossings,
        speech_s=speech_s,
        heard_s=heard.seconds,
        windows=count,
        segments=segments,
        probability=pooled((segment.probability, 1.0) for segment in segments) if segments else None,
        absent=absent,
        whole=heard.whole,
    )
