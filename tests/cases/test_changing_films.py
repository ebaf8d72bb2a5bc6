"""Films that change in the middle, or are broken there: what streams of them hold, and how one that fails ends."""

import io
import logging
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import httpx
import numpy as np
import pytest

from deployments.media import clips
from tests.cases.conftest import CaseService
from tests.cases.files import audio_packets, mux_encoded, numbered, tone, video_packets
from tests.cases.films import number_in
from tests.graphs.harness import listening

TICK = Fraction(1, 30)
Packets = list[bytes]
Sounds = list[tuple[bytes, Fraction]]


def pictures(codec: str, pixel: str, start: int, size: tuple[int, int] = (96, 64)) -> Packets:
    """Thirty numbered pictures, each a key frame that can follow anything."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = *size, pixel
    encoder.time_base, encoder.framerate, encoder.thread_count = TICK, Fraction(30), 1
    encoder.options = {
        "libx264": {"g": "1", "preset": "ultrafast", "crf": "12", "x264-params": "annexb=1:repeat-headers=1"},
        "mjpeg": {"color_range": "pc", "b": "8000000"},
    }[codec]
    drawn = (numbered(start + number, *size) for number in range(30))
    return [bytes(packet) for packet in video_packets(encoder, drawn, range(30), TICK, pixel)]


def sounds(codec: str, muxer: str, rate: int, layout: str) -> Sounds:
    """A second and a half of a tone."""
    with av.open(io.BytesIO(), "w", format=muxer) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        packets = list(audio_packets(stream, tone(1.5, rate), rate, layout))
        return [(bytes(packet), packet.duration * packet.time_base) for packet in packets if packet.duration]


def muxed(container: str, codec: str, film: Packets, sound_codec: str = "", sound: Sounds = ()) -> bytes:  # type: ignore[assignment]
    target = io.BytesIO()
    with av.open(target, "w", format=container) as output:
        video = output.add_stream(codec, rate=30)
        video.width, video.height, video.pix_fmt = 96, 64, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        audio = output.add_stream(sound_codec, rate=48000, layout="stereo") if sound else None
        time = Fraction(0)
        for data, duration in sound:
            mux_encoded(output, audio, data, round(time * 90000), Fraction(1, 90000), round(duration * 90000))
            time += duration
        for number, data in enumerate(film):
            mux_encoded(output, video, data, number, TICK)
    return target.getvalue()


def h264() -> Packets:
    return [packet for start in (0, 30, 60) for packet in pictures("libx264", "yuv420p", start)]


FILMS: dict[str, Callable[[], bytes]] = {
    "JPEG 4:2:0, 4:4:4, 4:2:2": lambda: muxed(
        "avi",
        "mjpeg",
        [p for n, pixel in enumerate(("yuvj420p", "yuvj444p", "yuvj422p")) for p in pictures("mjpeg", pixel, 30 * n)],
    ),
    "JPEG of three sizes": lambda: muxed(
        "matroska",
        "mjpeg",
        [
            p
            for n, size in enumerate(((96, 64), (192, 128), (144, 96)))
            for p in pictures("mjpeg", "yuvj420p", 30 * n, size)
        ],
    ),
    "H.264 4:2:0, 4:4:4, ten bits": lambda: muxed(
        "matroska",
        "libx264",
        [
            p
            for n, pixel in enumerate(("yuv420p", "yuv444p", "yuv422p10le"))
            for p in pictures("libx264", pixel, 30 * n)
        ],
    ),
    "MP3 44.1 kHz stereo, 48 kHz mono": lambda: muxed(
        "matroska",
        "libx264",
        h264(),
        "libmp3lame",
        sounds("libmp3lame", "mp3", 44100, "stereo") + sounds("libmp3lame", "mp3", 48000, "mono"),
    ),
    "AC-3 stereo, 5.1": lambda: muxed(
        "matroska", "libx264", h264(), "ac3", sounds("ac3", "ac3", 48000, "stereo") + sounds("ac3", "ac3", 32000, "5.1")
    ),
}


def numbers(data: bytes) -> Iterator[int]:
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode(video=0):
            yield number_in(frame.to_ndarray(format="rgb24"))


@pytest.mark.parametrize("name", FILMS)
async def test_a_film_that_changes_comes_out_whole(name: str, served: CaseService) -> None:
    asset = (await served.upload(FILMS[name](), "film.mkv"))["asset_id"]
    clip = await served.of_file(asset, "clip", start_frame=0, end_frame=89)
    assert clip.status_code == 200, clip.text
    assert list(numbers(clip.content)) == list(range(90))
    if "MP3" in name or "AC-3" in name:
        with av.open(io.BytesIO(clip.content)) as container:
            heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        thirds = [np.sqrt(np.mean(part**2)) for part in np.array_split(heard[4800:-4800], 6)]
        assert min(thirds) > 0.2  # a tone of 0.5 has 0.35; no part is silent


@pytest.mark.parametrize("name", ["JPEG of three sizes", "AC-3 stereo, 5.1", "JPEG 4:2:0, 4:4:4, 4:2:2"])
async def test_a_film_that_is_noise_from_sixty_percent_on_is_sent_up_to_there(name: str, served: CaseService) -> None:
    data = FILMS[name]()
    whole = len(data) * 6 // 10
    noise = np.random.default_rng(3).bytes(len(data) - whole)
    upload = await served.upload(data[:whole] + noise, "film.mkv")
    clip = await served.of_file(upload["asset_id"], "clip", start_frame=0, end_frame=39)
    assert clip.status_code == 200, clip.text
    assert list(numbers(clip.content)) == list(range(40))
    rest = await served.of_file(upload["asset_id"], "clip", start_time=0, end_time=10)
    assert rest.status_code == 200
    assert list(numbers(rest.content))[:40] == list(range(40))


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_a_stream_that_fails_is_cut_and_named_in_one_line(
    http: str, served: CaseService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asset = (await served.upload(muxed("matroska", "libx264", h264()), "film.mkv"))["asset_id"]
    encode = clips.encode

    def failing(*args: Any, **more: Any) -> Iterator[bytes]:
        sent = 0
        for chunk in encode(*args, **more):
            yield chunk
            sent += len(chunk)
            if sent > 5000:
                raise av.error.InvalidDataError(1, "Invalid data found when processing input")

    monkeypatch.setattr(clips, "encode", failing)
    caplog.set_level(logging.INFO, "ray.serve")
    url, got = f"/api/v1/file/{asset}/clip?start_frame=0&end_frame=89", 0

    async def read() -> None:
        nonlocal got
        async with (
            listening(served.app, http) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
            client.stream("GET", url) as answer,
        ):
            assert answer.status_code == 200
            async for chunk in answer.aiter_bytes():
                got += len(chunk)

    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        await read()
    assert got > 5000
    (line,) = [record for record in caplog.records if "stream" in record.getMessage()]
    assert line.getMessage() == (
        f"the stream of {asset} was cut: This video cannot be read on from some place in its middle: "
        "Invalid data found when processing input."
    )
    assert line.exc_info is None
