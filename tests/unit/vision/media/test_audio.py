"""The sound of a stretch: gaps are silence, of overlaps the later counts, and every rate and layout becomes one."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vision.media.audio import Samples, Sound
from vision.media.container import MediaFile

RATE = 48_000


def write(
    path: Path, blocks: Iterable[tuple[float, float, float]], *, rate: int = RATE, layout: str = "stereo"
) -> Path:
    """PCM in Matroska: blocks of (start in seconds, seconds, level)."""
    with av.open(str(path), "w", format="matroska") as output:
        stream: Any = output.add_stream("pcm_s16le", rate=rate, layout=layout)
        for start, seconds, level in blocks:
            channels = len(stream.layout.channels)
            values = np.full((1, round(seconds * rate) * channels), round(level * 32767), np.int16)
            frame = av.AudioFrame.from_ndarray(values, format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, round(start * rate), Fraction(1, rate)
            for packet in stream.encode(frame):
                output.mux_one(packet)
    return path


def sound_of(path: Path, start: float, end: float, steps: Iterable[float]) -> Samples:
    media = MediaFile(path)
    sound = Sound(media, media.audio(), start, end)
    taken = np.concatenate([sound.take(step) for step in steps], 1)
    media.close()
    return taken


def levels(samples: Samples, rate: int = RATE) -> list[float]:
    """Mean of each tenth of a second, left."""
    return [round(float(part.mean()), 2) for part in np.array_split(samples[0], round(len(samples[0]) / rate * 10))]


def test_a_stretch_is_cut_to_the_sample(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", [(n / 10, 0.1, n / 20) for n in range(20)])
    taken = sound_of(path, 0.5, 1.3, [0.01, 0.4, 0.40001, 5.0])
    assert taken.shape == (2, round(0.8 * RATE))
    assert levels(taken) == pytest.approx([n / 20 for n in range(5, 13)], abs=0.01)
    assert np.array_equal(taken[0], taken[1])


def test_it_is_given_in_time(tmp_path: Path) -> None:
    media = MediaFile(write(tmp_path / "a.mkv", [(n / 10, 0.1, 0.5) for n in range(20)]))
    sound = Sound(media, media.audio(), 0.0, 1.0)
    assert [sound.take(until).shape[1] for until in (0.1, 0.1, 0.05, 0.25, 9.0, 9.0)] == [4800, 0, 0, 7200, 36000, 0]
    media.close()


def test_gaps_are_silent(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", [(0.2, 0.1, 0.5), (0.3, 0.1, 0.5), (0.7, 0.1, 0.25)])
    taken = sound_of(path, 0.0, 1.0, [0.33, 0.5, 1.0])
    assert levels(taken) == pytest.approx([0, 0, 0.5, 0.5, 0, 0, 0, 0.25, 0, 0], abs=0.01)


def test_of_an_overlap_the_later_part_counts(tmp_path: Path) -> None:
    blocks = [(0.0, 0.4, 0.5), (0.2, 0.4, 0.25), (0.6, 0.2, 0.75)]
    whole = sound_of(write(tmp_path / "a.mkv", blocks), 0.0, 0.8, [0.8])
    # What was taken before the overlap came to light stays as it is.
    steps = sound_of(tmp_path / "a.mkv", 0.0, 0.8, [0.3, 0.8])
    assert levels(whole) == pytest.approx([0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.75, 0.75], abs=0.01)
    assert levels(steps)[4:] == pytest.approx([0.25, 0.25, 0.75, 0.75], abs=0.01)


@pytest.mark.parametrize(
    ("rate", "layout", "kept"), [(44_100, "stereo", 44_100), (22_050, "mono", 48_000), (96_000, "5.1", 48_000)]
)
def test_any_rate_and_layout_becomes_stereo(rate: int, layout: str, kept: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", [(n / 10, 0.1, 0.3) for n in range(10)], rate=rate, layout=layout)
    media = MediaFile(path)
    sound = Sound(media, media.audio(), 0.2, 0.8)
    taken = sound.take(1.0)
    media.close()
    assert sound.rate == kept
    assert taken.shape == (2, round(0.6 * kept))
    assert taken.std(axis=1).max() < 0.02
    assert taken.mean() > 0.2
