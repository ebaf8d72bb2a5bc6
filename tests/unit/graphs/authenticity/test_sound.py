"""Decoded sounds on disk, of which nothing stays after leaving early, and the windows that are judged."""

import asyncio
import threading
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.settings import Settings
from graphs.authenticity import sound
from graphs.authenticity.sound import HOP, spread, windows
from graphs.authenticity.uploads import Submission
from vision.forensics.voices import SAMPLES
from vision.media.probe import Probe

RATE = 8000
HOUR_S = 3600


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    path = tmp_path / "hour.wav"
    with wave.open(str(path), "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(1)
        output.setframerate(RATE)
        output.writeframes(bytes(HOUR_S * RATE))
    return Submission(path, "hour.wav", Probe("audio", "WAV", "audio/wav", duration=HOUR_S), "wav")


async def test_leaving_early_ends_the_thread_and_leaves_no_file(
    submission: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path / "home")
    began, ends = threading.Event(), list[float]()
    decode = sound._decode

    def watched(*given: Any) -> sound.DecodedSound:
        began.set()
        decoded = decode(*given)
        ends.append(decoded.seconds)
        return decoded

    monkeypatch.setattr(sound, "_decode", watched)

    async def leave_early() -> None:
        async with sound.decoded_sound(settings, submission):
            pytest.fail("it was left before")

    task = asyncio.create_task(leave_early())
    await asyncio.to_thread(began.wait)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(ends) == 1  # the thread has ended already
    assert ends[0] < HOUR_S
    assert list(settings.spool.iterdir()) == []


async def test_of_a_long_sound_the_beginning_is_decoded(
    submission: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "LONGEST_S", 60.0)
    settings = Settings(home=tmp_path / "home")
    async with sound.decoded_sound(settings, submission) as decoded:
        assert decoded.seconds == 60
    monkeypatch.setattr(sound, "LONGEST_S", 2 * HOUR_S)
    async with sound.decoded_sound(settings, submission) as decoded:
        assert decoded.seconds == HOUR_S


def test_windows_half_overlap_where_somebody_speaks() -> None:
    speech = np.ones(1000, bool)
    assert windows(30_000, speech) == [0]
    length = 3 * SAMPLES
    assert windows(length, speech) == [0, HOP, 2 * HOP, 3 * HOP, 4 * HOP]
    assert windows(length + 100, speech)[-1] == length + 100 - SAMPLES
    speech[: SAMPLES // 512] = False
    assert windows(length, speech)[0] == HOP
    assert len(windows(length, np.arange(1000) == 200)) == 1


def test_windows_of_a_long_sound_are_thinned_out() -> None:
    assert spread(list(range(10)), 40) == list(range(10))
    assert spread(list(range(1000)), 5) == [0, 250, 500, 749, 999]
