"""Sound as phones, recorders and stations write it: how long it lasts, how loud it is, and that all of it is heard."""

import io
import struct
from collections.abc import AsyncIterator
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cases.conftest import CaseFile, CaseService
from tests.cases.files import add_video, audio_packets, numbered, sound_bytes, tone, video_packets
from tests.graphs.authenticity import AuthenticityService, serving_authenticity
from tests.graphs.harness import settings_in

Blocks = list[tuple[bytes, Fraction]]
"""Encoded packets and their seconds."""

TONE = 0.5 / 2**0.5
"""RMS of ``tone``."""
RAW, OPUS, AC3 = ("flac", 16000, "mono"), ("libopus", 48000, "mono"), ("ac3", 48000, "stereo")


BLOCK = {"libopus": 960, "ac3": 1536, "libmp3lame": 1152, "vorbis": 64}
"""Samples that an encoder takes at once, where these are not 1024."""


def id3(size: int) -> bytes:
    """Return an ID3v2 tag with a text of so many bytes."""
    return b"ID3\x03\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + b"x" * size


def wav(samples: NDArray[np.float32], rate: int, kind: str, *, channels: int = 1, size: int | None = None) -> bytes:
    """Return a WAV of ``u1`` or signed (i) or float (f) samples of so many bytes; ``size``: what its header claims."""
    order, letter, width = "<" if kind[0] == "u" else kind[0], kind[-2], int(kind[-1])
    many = np.repeat(samples[:, None], channels, 1).ravel()
    if letter == "f":
        data = many.astype(kind).tobytes()
    elif letter == "u":
        data = (many * 127 + 128).astype("u1").tobytes()
    else:
        places = slice(4 - width, 4) if order == "<" else slice(0, width)
        data = (many * (2**31 - 1)).astype(f"{order}i4").view("u1").reshape(-1, 4)[:, places].tobytes()
    tag, frame = 3 if letter == "f" else 1, channels * width
    form = struct.pack(f"{order}IHHIIHH", 16, tag, channels, rate, rate * frame, frame, 8 * width)
    sizes = [struct.pack(f"{order}I", claimed) for claimed in (size or len(data) + 36, len(data))]
    if size is not None:
        sizes = 2 * [struct.pack(f"{order}I", size)]
    name = b"RIFX" if order == ">" else b"RIFF"
    return name + sizes[0] + b"WAVEfmt " + form + b"data" + sizes[1] + data


@cache
def coded(seconds: float, codec: str, container: str, rate: int, layout: str = "mono") -> bytes:
    """Return a file with ``tone``."""
    muxer = {"id3v2_version": "0"} if container == "mp3" else {}
    options = {"strict": "-2"} if codec == "vorbis" else {}
    return sound_bytes(tone(seconds, rate), codec, container, rate, layout, options, muxer, BLOCK.get(codec, 1024))


@cache
def packets(seconds: float, codec: str, rate: int, layout: str) -> Blocks:
    """Return packets with ``tone``, each of which can be decoded by itself."""
    with av.open(io.BytesIO(), "w", format="matroska") as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        coded = list(audio_packets(stream, tone(seconds, rate), rate, layout, block=BLOCK.get(codec, 1024)))
    return [(bytes(packet), Fraction(BLOCK.get(codec, 1024), rate)) for packet in coded]


def muxed(
    blocks: Blocks, codec: str, rate: int, layout: str, container: str, *, start: int = 0, frames: int = 0
) -> bytes:
    """Return a file with these packets from ``start`` seconds on, beside numbered pictures at 30 a second."""
    target = io.BytesIO()
    with av.open(target, "w", format=container) as output:
        pictures = add_video(output) if frames else None
        sound = output.add_stream(codec, rate=rate, layout=layout)
        if pictures is not None:
            output.mux(list(video_packets(pictures, map(numbered, range(frames)), range(frames), Fraction(1, 30))))
        at = Fraction(start)
        for data, seconds in blocks:
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = sound, Fraction(1, rate), True
            packet.pts = packet.dts = round(at * rate)
            packet.duration = round(seconds * rate)
            output.mux(packet)
            at += seconds
    return target.getvalue()


@pytest.fixture(scope="module")
async def judge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AuthenticityService]:
    with settings_in(tmp_path_factory.mktemp("authenticity")) as config:
        async with serving_authenticity(config) as service:
            yield service


@pytest.mark.parametrize(
    ("maker", "name", "kind", "seconds", "rms"),
    [
        ("vbr_mp3", "vbr.mp3", "MP3", pytest.approx(60.0, abs=0.3), None),
        ("tagged_flac", "tagged.flac", "FLAC", pytest.approx(3.0, abs=0.01), TONE),
        ("chained", "chained.ogg", "OGG", pytest.approx(6.0, abs=0.1), TONE),
        ("bw64", "bw64.wav", "WAV", pytest.approx(2.0), TONE),
        ("bw64", "rf64.wav", "WAV", pytest.approx(2.0), TONE),
        ("stereo", "tone_mono.wav", "WAV", pytest.approx(2.0), 0.636),
        ("stereo", "tone_stereo.wav", "WAV", pytest.approx(2.0), 0.636),
    ],
)
async def test_cases(
    case: CaseFile,
    served: CaseService,
    judge: AuthenticityService,
    maker: str,
    name: str,
    kind: str,
    seconds: Any,
    rms: float | None,
) -> None:
    uploaded = await served.upload(case(maker, name))
    assert (uploaded["format"], uploaded["duration"]) == (kind, seconds)
    heard = await judge.judged("audio/", case(maker, name).read_bytes(), name)
    assert heard["audio_info"]["duration_seconds"] == seconds
    assert heard["audio_info"]["seconds_analyzed"] == pytest.approx(uploaded["duration"], abs=0.05)
    if rms is not None:
        assert heard["audio_features"]["rms_energy"] == pytest.approx(rms, abs=0.01)


@cache
def others() -> dict[str, tuple[bytes, str, float]]:
    """Return more files of the same kinds, their format and their seconds."""
    flac, ogg_flac = coded(3, "flac", "flac", 22050), coded(3, "flac", "ogg", 22050)
    opus, stereo_opus = coded(2, "libopus", "ogg", 48000), coded(2, "libopus", "ogg", 48000, "stereo")
    aac, mp3 = coded(3, "aac", "adts", 44100), coded(3, "libmp3lame", "mp3", 44100)
    return {
        "FLAC behind two tags, one of them long": (id3(300_000) + id3(10) + flac, "FLAC", 3),
        "AAC behind a tag": (id3(5000) + aac, "AAC", 3),
        "AAC that changes its rate": (aac + coded(3, "aac", "adts", 22050), "AAC", 6),
        "MP3 behind two tags": (id3(90_000) + id3(10) + mp3, "MP3", 3),
        "MP3 with tables, and another one behind it": (mp3 + coded(3, "libmp3lame", "mp3", 48000), "MP3", 6),
        "MP3 with a table that was cut": (mp3[:14_000], "MP3", 1.73),
        "MP3 that begins within a frame": (mp3[700:], "MP3", 2.95),
        "FLAC in Ogg, twice": (2 * ogg_flac, "OGG", 6),
        "links of other codecs, rates and layouts": (opus + ogg_flac + stereo_opus, "OGG", 7),
        "Vorbis, then Opus": (coded(1.5, "vorbis", "ogg", 44100, "stereo") + opus, "OGG", 3.5),
        "W64": (coded(3, "pcm_s24le", "w64", 44100), "WAV", 3),
        "big-endian WAV": (wav(tone(3, 16000), 16000, ">i2"), "WAV", 3),
        "WAV of 24 bits that a recorder did not close": (wav(tone(3, 16000), 16000, "<i3", size=0xFFFFFFFF), "WAV", 3),
        "float WAV without a size": (wav(tone(3, 48000), 48000, "<f4", size=0), "WAV", 3),
        "WAV of 8 bits and six channels": (wav(tone(3, 11025), 11025, "u1", channels=6), "WAV", 3),
        "WAV that was cut": (wav(tone(4, 16000), 16000, "<i2")[: 44 + 96_000], "WAV", 3),
        "mu-law": (coded(3, "pcm_mulaw", "wav", 8000), "WAV", 3),
        "M4A at a low rate": (coded(3, "aac", "ipod", 8000), "M4A", 3),
        "Opus from 30 s on": (muxed(packets(2, "libopus", 48000, "mono"), *OPUS, "ogg", start=30), "OGG", 2),
        "FLAC in Ogg from 30 s on": (muxed(packets(2.048, "flac", 16000, "mono"), *RAW, "ogg", start=30), "OGG", 2.05),
        "MKA from 30 s on": (muxed(packets(2, "ac3", 48000, "stereo"), *AC3, "matroska", start=30), "MKA", 2),
    }


async def test_others_of_their_kinds(served: CaseService) -> None:
    for name, (data, kind, seconds) in others().items():
        uploaded = await served.upload(data, "sound")
        facts = (uploaded["format"], uploaded["duration"])
        assert facts == (kind, pytest.approx(seconds, abs=0.11)), name  # MP3 and AAC have no place for their padding


async def test_all_of_them_are_heard_alike(judge: AuthenticityService) -> None:
    for name, (data, kind, seconds) in others().items():
        if kind == "MKA":
            continue  # not a kind that is judged
        heard = await judge.judged("audio/", data, "sound")
        assert heard["audio_info"]["seconds_analyzed"] == pytest.approx(seconds, abs=0.11), name
        assert heard["audio_features"]["rms_energy"] == pytest.approx(TONE, rel=0.08), name


@pytest.mark.parametrize("codec", ["libopus", "flac", "aac"])
async def test_what_could_not_be_heard_is_said(judge: AuthenticityService, codec: str) -> None:
    container = {"libopus": "ogg", "flac": "flac", "aac": "adts"}[codec]
    data = sound_bytes(tone(10, 48000), codec, container, 48000, block=960 if codec == "libopus" else 1024)
    first, last = len(data) * 2 // 5, len(data) * 3 // 5
    heard = await judge.judged("audio/", data[:first] + bytes(last - first) + data[last:], "sound")
    told = [factor for factor in heard["explanation"]["factors"] if "missing or cannot be decoded" in factor]
    assert len(told) == 1
    assert 1.8 < float(told[0].split()[0]) < 3.2  # a page of Ogg holds a second
    whole = await judge.judged("audio/", data, "sound")
    assert not any("missing" in factor for factor in whole["explanation"]["factors"])


def sound_in(data: bytes) -> tuple[int, NDArray[np.float32]]:
    """Return the number of pictures of a clip and its sound, float32 (2, n), at 48 kHz."""
    with av.open(io.BytesIO(data)) as clip:
        frames = sum(1 for _ in clip.decode(video=0))
    with av.open(io.BytesIO(data)) as clip:
        parts = [frame.to_ndarray() for frame in clip.decode(audio=0)]
    return frames, np.concatenate(parts, 1)


def changes() -> dict[str, tuple[Blocks, tuple[str, int, str], str]]:
    """Return sounds of 6 s that change, as their first stream header says, and their container."""
    stereo, surround = packets(3, "ac3", 48000, "stereo"), packets(3, "ac3", 48000, "5.1")
    slow, mono = packets(3, "ac3", 32000, "mono"), packets(3, "libmp3lame", 48000, "mono")
    return {
        "5.1 becomes stereo": (surround + stereo, ("ac3", 48000, "5.1"), "matroska"),
        "stereo becomes 5.1 in MP4": (stereo + surround, ("ac3", 48000, "stereo"), "mp4"),
        "another rate and mono": (stereo + slow, ("ac3", 48000, "stereo"), "matroska"),
        "a lower rate first": (slow + surround, ("ac3", 32000, "mono"), "matroska"),
        "MP3 becomes stereo": (mono + packets(3, "libmp3lame", 44100, "stereo"), ("mp3", 48000, "mono"), "matroska"),
    }


def assert_a_tone_of_six_seconds(clip: bytes) -> None:
    frames, sound = sound_in(clip)
    assert frames == 180
    assert sound.shape[1] / 48_000 == pytest.approx(6.0, abs=0.05)
    for second in range(6):
        part = sound[:, second * 48_000 : (second + 1) * 48_000]
        # A lossy codec eases in and out where the sound changes.
        assert np.sqrt((part**2).mean(1)) == pytest.approx([TONE, TONE], abs=0.03)


async def test_a_clip_has_all_of_a_sound_that_changes(case: CaseFile, served: CaseService) -> None:
    films = {name: muxed(*parts[:1], *parts[1], parts[2], frames=180) for name, parts in changes().items()}
    for data in [case("ac3_change", "ac3_change.mkv").read_bytes(), *films.values()]:
        asset = (await served.upload(data, "film"))["asset_id"]
        clip = await served.of_file(asset, "clip", start_frame=0, end_frame=179)
        assert clip.status_code == 200
        assert_a_tone_of_six_seconds(clip.content)


async def test_the_first_sound_that_can_be_decoded_is_heard(served: CaseService) -> None:
    target = io.BytesIO()
    with av.open(target, "w", format="mov") as output:
        pictures = add_video(output)
        sounds = [output.add_stream("aac", rate=48_000, layout="mono") for _ in range(2)]
        output.mux(list(video_packets(pictures, map(numbered, range(180)), range(180), Fraction(1, 30))))
        for sound in sounds:
            for packet in audio_packets(sound, tone(6, 48_000), 48_000, "mono"):
                output.mux(packet)
    data = bytearray(target.getvalue())
    at = data.index(b"mp4a", data.index(b"stsd", data.index(b"smhd")))
    data[at : at + 4] = b"zzzz"
    asset = (await served.upload(bytes(data), "film.mov"))["asset_id"]
    assert_a_tone_of_six_seconds((await served.of_file(asset, "clip", start_frame=0, end_frame=179)).content)
