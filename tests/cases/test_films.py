"""Whatever a film is, every route says of it what decoding it from its first byte to its last one shows.

``FILMS=2000`` in the environment tries 2,000 films; ``FILMS=300-400`` those of these numbers.
"""

import io
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from tests.cases.conftest import CaseService
from tests.cases.films import Film, drawn, number_in, write
from vision.media.index import SOUND_ON_S
from vision.media.reader import VideoReader

BEGIN, _, END = os.environ.get("FILMS", "0-40").rpartition("-")
SEEDS = range(int(BEGIN or 0), int(END))
ROUNDING_S = 0.002
"""Matroska counts in milliseconds; a part of a film begins at one that is rounded as well."""
SOUND_BLOCK_S = 0.1
"""An encoder of sound fills its last block up."""


@dataclass(frozen=True)
class Watched:
    """What a player shows.

    ``numbers``: what the pictures tell; ``times``: when they come, in seconds from the first one; ``end``: when the
    last one ends, as far as the file says; ``heard``: when the sound ends, or None.
    """

    numbers: list[int]
    times: list[float]
    end: float
    heard: float | None = None


def watched(source: Path | io.BytesIO, film: Film, *, demuxer: str | None = None, upright: bool = False) -> Watched:
    """Decode a film from its first packet to its last; ``upright`` says that its pictures need no turn."""
    covers = int(Disposition.attached_pic)
    heard = None
    with av.open(str(source) if isinstance(source, Path) else source, format=demuxer) as media:
        [stream] = [stream for stream in media.streams.video if not int(stream.disposition) & covers]
        # What an edit list puts before time 0 is there to decode the rest; of fragments FFmpeg does not drop it.
        shown = [frame for frame in media.decode(stream) if frame.pts >= 0]
        times = [float(frame.pts * frame.time_base) for frame in shown]
        last = float((shown[-1].duration or 0) * shown[-1].time_base)
        pictures = [frame.to_ndarray(format="rgb24") for frame in shown]
        if media.streams.audio:
            media.seek(0)
            sounds = media.decode(media.streams.audio[0])
            ends = (float(sound.pts * sound.time_base) + sound.samples / sound.sample_rate for sound in sounds)
            heard = max(ends, default=None)
    numbers = [number_in(picture if upright else film.upright(picture)) for picture in pictures]
    end = None if heard is None else heard - times[0]
    return Watched(numbers, [time - times[0] for time in times], times[-1] + last - times[0], end)


def picture_in(answer: httpx.Response, film: Film) -> np.ndarray:
    """The picture of an answer, as wide as a player shows it but for a pixel of rounding."""
    assert answer.status_code == 200, answer.text
    picture = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))
    height, width = picture.shape[:2]
    assert abs(width - height * film.shape) <= 1 + film.shape
    return picture


def clipped(answer: httpx.Response, film: Film) -> Watched:
    """The film that a clip is."""
    assert answer.status_code == 200, answer.text
    # Told by its content type: there is not enough of one picture for FFmpeg to guess.
    return watched(io.BytesIO(answer.content), film, demuxer="mpegts", upright=True)


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_route_says_what_a_player_shows(seed: int, served: CaseService, tmp_path: Path) -> None:
    await check(drawn(seed), served, tmp_path)


@pytest.mark.parametrize(
    "film",
    [
        # The last picture is shorter than the others.
        Film(frames=2, gap_s=1.5),
        Film("mpeg4", "mov", frames=3, gap_s=1.5, hidden=1),
        # AVI numbers pictures in the order in which they are stored.
        Film(container="avi", b_frames=1),
        Film(container="avi", b_frames=3, frames=23, rate=Fraction(50), interlaced=True),
        # Only MP4 hides pictures, and nobody expects these codecs in it.
        Film("mpeg2video", frames=2, hidden=1),
        Film("mpeg2video", "mov", frames=14, rate=Fraction(60), hidden=2, key_every=250, b_frames=3),
    ],
    ids=str,
)
async def test_films_that_were_described_wrongly(film: Film, served: CaseService, tmp_path: Path) -> None:
    await check(film, served, tmp_path)


@pytest.mark.parametrize(("codec", "copied"), [("h264", 200), ("hevc", 400)])
async def test_a_film_whose_key_frames_are_not_there(
    codec: str, copied: int, served: CaseService, tmp_path: Path
) -> None:
    film = Film(codec, frames=6, key_every=250)
    path = write(film, tmp_path)
    data = bytearray(path.read_bytes())
    at = data.index(b"stss") + 12
    data[at : at + 4] = (99).to_bytes(4, "big")  # the one key frame
    path.write_bytes(data)
    with VideoReader(path) as reader:
        assert [number_in(pixels) for _, _, pixels in reader.frames()] == [*range(6)]
        assert number_in(reader.pixels(reader.keyframe(0.2))) in range(6)
    asset = (await served.upload(path))["asset_id"]
    assert number_in(picture_in(await served.poster(asset), film)) in range(6)
    # FFmpeg finds those of H.264 by itself.
    assert (await served.of_file(asset, "video", start_frame=1, end_frame=2)).status_code == copied
    clip = await served.of_file(asset, "clip", start_frame=1, end_frame=2)
    assert clipped(clip, film).numbers == [1, 2]


async def check(film: Film, served: CaseService, folder: Path) -> None:
    path = write(film, folder)
    truth = watched(path, film)
    timed = not (film.container == "avi" and film.b_frames)  # there no file says when a frame is shown
    count, frame_s = len(truth.numbers), 1 / float(film.rate)
    assert truth.numbers == list(range(film.hidden, film.frames)), "the film is not what it should be"

    facts = await served.upload(path)
    asset = facts["asset_id"]
    assert facts["frame_count"] == count
    # How long the last picture lasts is told in MP4 without fragments only. It stays while sound goes on.
    slack = ROUNDING_S + (frame_s if film.container in ("mp4", "mov") else max(np.diff(truth.times), default=frame_s))
    goes_on = truth.heard is not None and truth.heard > truth.end + SOUND_ON_S
    end, rest = (truth.heard, SOUND_BLOCK_S) if goes_on else (truth.end, 0.0)
    assert facts["duration"] == pytest.approx(end, abs=slack + rest)
    assert count / facts["fps"] == pytest.approx(truth.end, abs=slack)
    assert abs(facts["width"] - facts["height"] * film.shape) <= 1 + film.shape

    poster = number_in(picture_in(await served.poster(asset), film))
    assert not timed or truth.times[truth.numbers.index(poster)] <= facts["duration"] / 2 + ROUNDING_S

    with VideoReader(path) as reader:
        counted = reader.index.counted
        if timed:
            assert np.abs(reader.times - truth.times).max() <= ROUNDING_S
        assert (reader.facts.frame_count, reader.facts.width, reader.facts.height) == (
            count,
            facts["width"],
            facts["height"],
        )
        assert [number_in(pixels) for _, _, pixels in reader.frames()] == truth.numbers

    first, last = count // 3, min(count // 3 + 5, count - 1)
    for frame in (count - 1, first, 0):
        thumbnail = picture_in(await served.of_file(asset, "thumbnail", frame=frame), film)
        assert number_in(thumbnail) == truth.numbers[frame]
        assert thumbnail.shape[1::-1] == (facts["width"], facts["height"])
    assert (await served.of_file(asset, "thumbnail", frame=count)).status_code == 400

    part = truth.numbers[first : last + 1]
    clip = await served.of_file(asset, "clip", start_frame=first, end_frame=last)
    shown = clipped(clip, film)
    assert shown.numbers == part
    if timed:
        assert np.abs(np.subtract(shown.times, truth.times[first : last + 1]) + truth.times[first]).max() <= ROUNDING_S
    if timed and count > 1:
        begin, end = truth.times[first], truth.times[first + 1]
        one = await served.of_file(asset, "clip", start_time=begin + frame_s / 4, end_time=end)
        assert clipped(one, film).numbers == part[:1]

    copy = await served.of_file(asset, "video", start_frame=first, end_frame=last)
    if copy.status_code == 400:
        # Where frames can only be counted, and where Matroska would show what an edit list hides.
        assert copy.json()["code"] == "INVALID_INPUT"
        assert (counted and not timed) or (film.hidden and film.codec == "mpeg2video")
    else:
        assert copy.status_code == 200, copy.text
        begins, shown = int(copy.headers["x-first-frame"]), watched(io.BytesIO(copy.content), film)
        asked = truth.numbers[begins : last + 1]
        assert begins <= first
        assert shown.numbers[: len(asked)] == asked
        # Others come along where those that were asked for are decoded by them.
        assert len(shown.numbers) <= len(asked) + film.b_frames
    await served.client.delete(f"/api/v1/media/{asset}")
