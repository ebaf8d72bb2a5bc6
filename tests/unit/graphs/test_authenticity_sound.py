"""The sound of a file on disk: whoever leaves early leaves nothing behind."""

import asyncio
import threading
import wave
from pathlib import Path
from typing import Any

import pytest

from configs.settings import Settings
from graphs.authenticity import sound
from graphs.authenticity.uploads import Handed
from vision.media.probe import Probe

RATE = 8000
HOUR_S = 3600


@pytest.fixture
def handed(tmp_path: Path) -> Handed:
    path = tmp_path / "hour.wav"
    with wave.open(str(path), "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(1)
        output.setframerate(RATE)
        output.writeframes(bytes(HOUR_S * RATE))
    return Handed(path, "hour.wav", Probe("audio", "WAV", "audio/wav", duration=HOUR_S), "wav")


async def test_leaving_early_ends_the_thread_and_leaves_no_file(
    handed: Handed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path / "home")
    began, ends = threading.Event(), list[float]()
    decode = sound._decode

    def watched(*given: Any) -> sound.Heard:
        began.set()
        heard = decode(*given)
        ends.append(heard.seconds)
        return heard

    monkeypatch.setattr(sound, "_decode", watched)

    async def listen() -> None:
        async with sound.opened_sound(settings, handed):
            pytest.fail("it was left before")

    task = asyncio.create_task(listen())
    await asyncio.to_thread(began.wait)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(ends) == 1  # the thread has ended already
    assert ends[0] < HOUR_S
    assert list(settings.spool.iterdir()) == []


async def test_a_long_sound_is_whole(handed: Handed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "LONGEST_S", 60.0)
    settings = Settings(home=tmp_path / "home")
    async with sound.opened_sound(settings, handed) as heard:
        assert (heard.seconds, heard.whole) == (60, False)
    monkeypatch.setattr(sound, "LONGEST_S", 2 * HOUR_S)
    async with sound.opened_sound(settings, handed) as heard:
        assert (heard.seconds, heard.whole) == (HOUR_S, True)
