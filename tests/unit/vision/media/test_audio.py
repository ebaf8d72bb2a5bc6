"""The sound of a stretch: gaps are silence, of overlaps the later counts, and every rate and layout becomes one."""

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vision.media.audio import Samples, Sound, _Mixer, sound_duration
from vision.media.container import MediaFile
from vision.media.index import IndexBudget

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


@pytest.mark.parametrize("mono", [True, False])
@pytest.mark.parametrize("layout", ["mono", "stereo", "quad", "5.1", "7.1"])
def test_a_sound_is_as_loud_from_any_number_of_channels(layout: str, mono: bool, tmp_path: Path) -> None:
    media = MediaFile(write(tmp_path / "a.mkv", [(0.0, 1.0, 0.9)], layout=layout))
    taken = Sound(media, media.audio(), 0.0, 0.9, mono=mono).take(0.9)
    media.close()
    assert np.abs(taken - 0.9).max() < 0.001


def floats(path: Path, samples: Samples, codec: str = "pcm_f32le", container: str = "matroska") -> Path:
    """Mono samples at 48 kHz, 960 in a packet."""
    with av.open(str(path), "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=RATE, layout="mono")
        converter = av.AudioResampler(format=stream.codec_context.format.name, layout="mono", rate=RATE)
        for start in range(0, len(samples), 960):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 960], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            for converted in converter.resample(frame):
                output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    return path


def test_floats_that_are_no_sound(tmp_path: Path) -> None:
    samples = np.full(RATE, 0.5, np.float32)
    samples[1000:1003] = np.nan, np.inf, -np.inf
    samples[2000:3000] = 4.0
    taken = sound_of(floats(tmp_path / "a.mkv", samples), 0.0, 1.0, [1.0])[0]
    assert taken[[1000, 1001, 1002]].tolist() == [0.0, 1.0, -1.0]
    assert np.all(taken[2000:3000] == 1.0)
    assert np.all(taken[4000:] == 0.5)


@pytest.mark.parametrize(("codec", "container"), [("libopus", "webm"), ("flac", "matroska"), ("pcm_f32le", "matroska")])
def test_times_in_milliseconds_make_no_clicks(codec: str, container: str, tmp_path: Path) -> None:
    times = np.arange(RATE) / RATE
    # Packets of 960 samples take 20 ms; those of another size begin between milliseconds.
    path = floats(tmp_path / "a", np.sin(2 * np.pi * 300 * times).astype(np.float32) / 2, codec, container)
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.pts = packet.dts = (packet.pts or 0) + (packet.pts or 0) % 40 // 20 * 3  # up to 3 ms late
                packet.stream = stream
                target.mux(packet)
    taken = sound_of(tmp_path / "b.mkv", 0.2, 0.8, [0.6])[0]
    assert np.abs(np.diff(taken)).max() < 2 * np.pi * 300 / RATE / 2 * 1.3  # the steepest slope of the tone


def test_what_is_lost_is_counted(tmp_path: Path) -> None:
    blocks = [(0.0, 0.5, 0.5), (1.5, 0.5, 0.5), (2.0, 0.5, 0.5)]
    media = MediaFile(write(tmp_path / "a.mkv", blocks))
    sound = Sound(media, media.audio(), 0.0, 9.0)
    sound.take(9.0)
    media.close()
    assert (sound.reached, sound.lost_s) == (2.5 * RATE, pytest.approx(1.0))


def test_padding_at_the_end_of_an_mp4_is_cut(tmp_path: Path) -> None:
    path = floats(tmp_path / "a.m4a", np.full(RATE // 2 + 100, 0.5, np.float32), "aac", "ipod")
    media = MediaFile(path)
    assert sound_duration(media, IndexBudget(1000, 9.0)) == pytest.approx(0.5 + 100 / RATE, abs=0.001)  # rounded
    media.reopen()
    sound = Sound(media, media.audio(), 0.0, 2.0)
    sound.take(2.0)
    assert sound.reached / RATE == pytest.approx(0.5 + 100 / RATE, abs=0.011)
    media.close()


def mp3(seconds: int, **muxer: str) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mp3", options=muxer) as output:
        stream: Any = output.add_stream("libmp3lame", rate=32_000, layout="mono")
        for start in range(0, seconds * 32_000, 1152):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 32_000, start, Fraction(1, 32_000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (mp3(5), 5.0),
        (mp3(5) + mp3(2), 7.0),
        (mp3(5)[: len(mp3(5)) // 2], 2.5),
        (mp3(5, write_xing="0"), 5.0),
        (mp3(5).replace(b"Info\0\0\0\x0f\0\0", b"Info\0\0\0\x0f\0\x7f") + mp3(1), 6.0),
    ],
    ids=["table", "two", "cut", "none", "wrong"],
)
def test_a_table_is_believed_where_it_counts_the_bytes(data: bytes, seconds: float) -> None:
    media = MediaFile(io.BytesIO(data), demuxer="mp3")
    assert sound_duration(media, IndexBudget(10_000, 9.0)) == pytest.approx(seconds, abs=0.15)
    media.close()


def test_the_middle_of_a_long_sound_is_stepped_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", [(n / 10, 0.1, 0.3) for n in range(600)], rate=8000)
    media = MediaFile(path)
    assert sound_duration(media, IndexBudget(300, 9.0)) == pytest.approx(60.0)
    media.close()


@pytest.mark.parametrize("budget", [IndexBudget(40, 9.0), IndexBudget(10_000, -1.0)])
def test_past_the_budget_the_rest_is_taken_to_be_like_the_part_that_was_read(budget: IndexBudget) -> None:
    media = MediaFile(io.BytesIO(mp3(9, write_xing="0")), demuxer="mp3")
    assert sound_duration(media, budget) == pytest.approx(9.0, abs=0.5)
    media.close()


@pytest.mark.parametrize("layout", ["9 channels", "11 channels", "16 channels", "ambisonic 1"])
def test_channels_without_a_place_are_averaged(layout: str, tmp_path: Path) -> None:
    channels = av.AudioLayout(layout).nb_channels
    frame = av.AudioFrame.from_ndarray(np.full((1, 4800 * channels), 9830, np.int16), format="s16", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    for target, seen in (("mono", 1), ("stereo", 2)):
        blocks = [block.to_ndarray() for block in _Mixer(target, RATE).mix(frame)]
        assert np.concatenate(blocks, 1).shape == (seen, 4800)
        assert np.abs(blocks[0] - 0.3).max() < 0.001
