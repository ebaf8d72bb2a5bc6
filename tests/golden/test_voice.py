"""forensics/voice and forensics/speech with real weights: the published scores of AASIST, and who speaks where.

Clips come from the folder ``media`` beside VISION_MODELS_DIR.
"""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from configs import settings as settings_module
from deployments.forensics.speech import Config as SpeechConfig
from deployments.forensics.speech import SpeechDetector
from deployments.forensics.voice import Config, Voice, VoiceDetector
from tests.tolerances import FP32_DEEP, assert_close, decimals
from vision.errors import ModelNotLoaded
from vision.forensics.voice_domain import Domain
from vision.forensics.voices import RATE, SAMPLES

# OpenVINO converts by torch.jit.
pytestmark = [pytest.mark.numeric, pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")]

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def media() -> Path:
    if not os.environ.get("VISION_MODELS_DIR"):
        pytest.skip("VISION_MODELS_DIR is not set")
    media = Path(os.environ["VISION_MODELS_DIR"]).parent / "media" / "audio_spoof"
    if not media.is_dir():
        pytest.skip("no folder media beside VISION_MODELS_DIR")
    return media


@pytest.fixture(scope="module")
def voices(media: Path) -> Iterator[VoiceDetector]:
    yield from _loaded(VoiceDetector(Config()))


@pytest.fixture(scope="module")
def speech(media: Path) -> Iterator[SpeechDetector]:
    yield from _loaded(SpeechDetector(SpeechConfig()))


def _loaded(stage: Any) -> Iterator[Any]:
    settings_module.settings.cache_clear()
    threads = torch.get_num_threads()
    try:
        stage.load()
    except ModelNotLoaded as error:
        pytest.skip(error.message)
    yield stage
    torch.set_num_threads(threads)


def samples(path: Path) -> Array:
    """A clip at 16 kHz, as it is decoded."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        blocks = [block for frame in container.decode(audio=0) for block in resampler.resample(frame)]
        return np.concatenate([block.to_ndarray()[0] for block in [*blocks, *resampler.resample(None)]])


def scored(stage: VoiceDetector, clips: list[Array]) -> list[Voice]:
    results = stage.predict_batch([stage.prepare(clip[:SAMPLES]) for clip in clips])
    return [voice for voice in results if isinstance(voice, Voice)]


def test_the_published_scores_come_out(voices: VoiceDetector, media: Path) -> None:
    with (media / "asvspoof_tts" / "metadata.csv").open(newline="") as file:
        published = {row["Sample_ID"]: float(row["Spoofing_Score"]) for row in csv.DictReader(file)}
    assert len(published) == 20
    clips = [samples(media / "asvspoof_tts" / f"{name}.flac") for name in published]
    scores = [voice.score for voice in scored(voices, clips)]
    assert_close(scores, list(published.values()), FP32_DEEP + decimals(4))


def test_a_score_does_not_depend_on_its_batch(voices: VoiceDetector, media: Path) -> None:
    clips = [samples(media / "asvspoof_tts" / f"Sample_0{number}.flac") for number in (1, 4, 9)]
    together = [voice.score for voice in scored(voices, clips)]
    alone = [scored(voices, [clip])[0].score for clip in clips]
    assert_close(together, alone, FP32_DEEP)


def test_a_recording_is_likely_and_a_made_voice_is_not(voices: VoiceDetector, media: Path) -> None:
    folder = media / "asvspoof_tts"
    recorded, made = scored(voices, [samples(folder / f"{name}.flac") for name in ("LA_E_9296375", "Sample_04")])
    assert recorded.probability < 0.1
    assert made.probability > 0.9


def test_outside_its_domain_it_is_wrong_and_says_so(voices: VoiceDetector, media: Path) -> None:
    clips = [samples(path) for path in sorted((media / "wavefake" / "real").glob("*.wav"))]
    assert min(voice.probability for voice in scored(voices, clips)) > 0.8
    assert "LJSpeech" in voices.info()["worth"]


def test_what_it_was_not_made_for_is_known_by_its_sound(voices: VoiceDetector, media: Path) -> None:
    def domain_of(clip: Array) -> Domain:
        starts = range(0, max(1, len(clip) - SAMPLES + 1), SAMPLES)
        domains = [voice.domain for voice in scored(voices, [clip[start:] for start in starts])]
        return Domain.of_windows([domain for domain in domains if domain is not None])

    known = [samples(media / "asvspoof_tts" / f"LA_E_{name}.flac") for name in (4311043, 8411060, 9296375, 9297933)]
    assert [domain_of(clip).outside for clip in known] == [[]] * 4
    for path in sorted((media / "wavefake" / "real").glob("*.wav")):
        (reason,) = domain_of(samples(path)).outside
        assert "unlike in a studio" in reason
    for rate, codec in ((8000, "pcm_mulaw"), (8000, "pcm_s16le")):
        narrow = np.concatenate([telephoned(clip, rate, codec) for clip in known])
        assert any("as on a telephone" in reason for reason in domain_of(narrow).outside)
    film = media.parent / "shots" / "transnetv2_test.mp4"
    assert any("unlike all that it knows" in reason for reason in domain_of(samples(film)[: 20 * RATE]).outside)


def telephoned(clip: Array, rate: int, codec: str) -> Array:
    """Return a clip after a telephone: at a lower rate, coded, and back at 16 kHz."""
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as output:
        stream = output.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(clip[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
        for block in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(block))
        output.mux(stream.encode(None))
    with av.open(io.BytesIO(file.getvalue())) as container:
        back = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
        blocks = [block for frame in container.decode(audio=0) for block in back.resample(frame)]
        return np.concatenate([block.to_ndarray()[0] for block in [*blocks, *back.resample(None)]])


def test_speech_is_heard(speech: SpeechDetector, media: Path) -> None:
    clip = samples(media / "wavefake" / "real" / "LJ001-0001.wav")
    (chances,) = speech.predict_batch([clip])
    assert isinstance(chances, np.ndarray)
    assert len(chances) == -(-len(clip) // 512)
    assert (chances >= 0.5).mean() > 0.85


def test_silence_noise_and_music_are_no_speech(speech: SpeechDetector) -> None:
    times = np.arange(10 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * pitch * times) for pitch in (220, 277, 330, 440)) * np.exp(-4 * (times % 0.5)) / 8
    noise = np.random.default_rng(0).normal(0, 0.05, 10 * RATE)
    for sound in (np.zeros(10 * RATE), noise, chord):
        (chances,) = speech.predict_batch([sound.astype(np.float32)])
        assert isinstance(chances, np.ndarray)
        assert chances.max() < 0.5
