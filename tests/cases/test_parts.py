"""Parts of videos over HTTP: what is on the screen at a time, and packets that are copied."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.cases.conftest import CaseFile, CaseService
from tests.cases.files import BITS, MILLI, add_video, audio_packets, copied, numbered, tone, video_packets, write_video


def number_in(picture: np.ndarray) -> int:
    """The number that a picture tells by the blocks on its top."""
    height, width = picture.shape[:2]
    row = picture[height // 6].astype(int).mean(axis=-1)
    bits = [row[round((bit + 0.5) * width / BITS)] > 125 for bit in range(BITS)]
    return sum(bool(bit) << place for place, bit in enumerate(reversed(bits)))


def streams_of(data: bytes) -> tuple[list[tuple[int, float]], float, float]:
    """Numbers and times of the pictures of a clip, seconds of its sound that can be heard, and the end of the file."""
    pictures, heard, end = [], 0.0, 0.0
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode():
            begins = float(frame.pts * frame.time_base)
            if isinstance(frame, av.VideoFrame):
                pictures.append((number_in(frame.to_ndarray(format="rgb24")), begins))
                end = max(end, begins)
            else:
                samples = frame.to_ndarray()
                heard += len(samples.T) / frame.sample_rate * float(np.sqrt((samples**2).mean()) > 0.2)
                end = max(end, begins + samples.shape[1] / frame.sample_rate)
        begun = container.start_time or 0
    return pictures, heard, end - begun / 1e6


def slides(path: Path, seconds: tuple[int, ...], sound_s: float, codec: str = "libx264", audio: str = "aac") -> Path:
    """Pictures 1, 2, … at these seconds, and a tone."""
    options = {"bf": "0", "g": "1"} if codec == "libx264" else {"deadline": "realtime", "cpu-used": "8", "g": "1"}
    rate = 16000 if audio == "aac" else 48000
    with av.open(str(path), "w") as output:
        pictures = add_video(output, codec, base=MILLI, options=options)
        sound = output.add_stream(audio, rate=rate, layout="mono")
        stamps = [1000 * second for second in seconds]
        output.mux(list(video_packets(pictures, map(numbered, range(1, 1 + len(stamps))), stamps, MILLI)))
        for packet in audio_packets(sound, tone(sound_s, rate), rate, "mono", block=960):
            output.mux(packet)
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    return {
        "mkv": slides(folder / "slides.mkv", (0, 6, 12), 40),
        "webm": slides(folder / "slides.webm", (0, 5), 31, "libvpx", "libopus"),
        "mov": slides(folder / "slides.mov", (0, 8, 16), 50),
    }


@pytest.mark.parametrize("action", ["clip", "video"])
@pytest.mark.parametrize(
    ("name", "part", "number", "end"),
    [("case", (25, 28), 3, 60), ("mkv", (30, 33), 3, 40), ("webm", (20.5, 23.5), 2, 31), ("mov", (40, 43), 3, 50)],
)
async def test_a_slide_stays_until_its_sound_ends(
    action: str,
    name: str,
    part: tuple[float, float],
    number: int,
    end: float,
    case: CaseFile,
    served: CaseService,
    films: dict[str, Path],
) -> None:
    uploaded = await served.upload(case("slides", "slides.mp4") if name == "case" else films[name])
    assert uploaded["duration"] == pytest.approx(end, abs=0.1)
    asset = uploaded["asset_id"]
    answer = await served.of_file(asset, action, start_time=part[0], end_time=part[1])
    assert answer.status_code == 200, answer.text
    pictures, heard, length = streams_of(answer.content)
    assert pictures[-1][0] == number
    assert heard >= 2.9
    if action == "clip" or name != "case":  # a copy has to begin at a key frame, of which that file has one
        assert len(pictures) == 1
        assert length == pytest.approx(3.0, abs=0.15)
    behind = await served.of_file(asset, action, start_time=end + 1, end_time=end + 2)
    assert behind.status_code == 400
    assert f"ends at {end}." in behind.text
    last = await served.of_file(asset, action, start_time=4, end_time=end)
    assert streams_of(last.content)[2] >= end - 4 - 0.15


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("tag", ["hvc1", "hev1"])
async def test_a_copy_keeps_the_name_of_its_codec(
    container: str, tag: str, served: CaseService, tmp_path: Path
) -> None:
    path = tmp_path / f"{tag}.{container}"
    write_video(path, 60, "libx265", options={"x265-params": "log-level=none:keyint=15:bframes=2"})
    path.write_bytes(path.read_bytes().replace(b"hev1", tag.encode()).replace(b"hvc1", tag.encode()))
    uploaded = await served.upload(path)
    answer = await served.of_file(uploaded["asset_id"], "video", start_frame=0, end_frame=40)
    with av.open(io.BytesIO(answer.content)) as container_:
        assert container_.streams.video[0].codec_context.codec_tag == tag
    assert [number for number, _ in streams_of(answer.content)[0]][:41] == list(range(41))


async def test_an_avc3_stream_stays_one(served: CaseService, tmp_path: Path) -> None:
    path = tmp_path / "avc3.mp4"
    write_video(path, 40, options={"g": "10", "bf": "2"})
    path.write_bytes(path.read_bytes().replace(b"avc1\0\0", b"avc3\0\0"))
    uploaded = await served.upload(path)
    answer = await served.of_file(uploaded["asset_id"], "video", start_frame=10, end_frame=20)
    assert b"avc3" in answer.content
    assert [number for number, _ in streams_of(answer.content)[0]][:11] == list(range(10, 21))


def stamped(number: int, like: int) -> Callable[[int, av.Packet], None]:
    """Gives one packet the stamps of another in a film of 30 frames a second."""

    def change(count: int, packet: av.Packet) -> None:
        if count == number:
            packet.pts = packet.dts = round(Fraction(like, 30) / packet.time_base)

    return change


@pytest.mark.parametrize("like", [69, 71])
@pytest.mark.parametrize("suffix", ["mkv", "webm"])
async def test_a_repeated_stamp_costs_one_frame_its_time(
    like: int, suffix: str, served: CaseService, tmp_path: Path
) -> None:
    path = tmp_path / f"film.{suffix}"
    codec, options = ("libx264", {"bf": "0"}) if suffix == "mkv" else ("libvpx-vp9", {"deadline": "realtime"})
    write_video(tmp_path / f"whole.{suffix}", 120, codec, options={"g": "20", **options})
    copied(tmp_path / f"whole.{suffix}", path, stamped(70, like))
    uploaded = await served.upload(path)
    assert uploaded["frame_count"] == 120
    asset = uploaded["asset_id"]
    answer = await served.of_file(asset, "video", start_frame=60, end_frame=119)
    assert answer.status_code == 200, answer.text
    pictures = streams_of(answer.content)[0]
    first = int(answer.headers["x-first-frame"])
    assert [number for number, _ in pictures] == list(range(first, 120))
    steps = np.diff([begins for _, begins in pictures])
    assert steps.min() > 0.015
    assert steps.max() < 0.055
