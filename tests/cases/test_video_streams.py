"""Which of several streams of pictures is the video."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.cases.conftest import CaseFile, CaseService
from tests.cases.files import MILLI, add_video, box, boxes, numbered, saved, video_packets, write_video
from tests.cases.test_parts import number_in

RED = np.full((100, 100, 3), (200, 10, 10), np.uint8)


def with_cover(path: Path, kind: str) -> None:
    """Puts a cover before the track of an MP4."""
    data = path.read_bytes()
    at, size = next((start, size) for name, start, size in boxes(data, 0, len(data)) if name == b"moov")
    number = {"JPEG": 13, "PNG": 14}[kind]
    item = box(b"covr", box(b"data", number.to_bytes(4) + bytes(4) + saved(RED, kind)))
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    art = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", item)))
    inside = [(name, data[start : start + size]) for name, start, size in boxes(data, at + 8, at + size)]
    kept = [body for name, body in inside if name != b"udta"]
    path.write_bytes(data[:at] + box(b"moov", kept[0] + art + b"".join(kept[1:])) + data[at + size :])


def two_tracks(path: Path, first: str, pixel: str, pictures: int, frames: int = 30) -> None:
    """A stream of some red pictures before one of numbered frames."""
    with av.open(str(path), "w") as output:
        red = add_video(output, first, size=(100, 100), pixel=pixel, base=MILLI if first == "mjpeg" else None)
        film = add_video(output)
        output.mux(list(video_packets(red, [RED] * pictures, range(pictures), Fraction(1, 30), pixel)))
        output.mux(list(video_packets(film, map(numbered, range(frames)), range(frames), Fraction(1, 30))))


def made(folder: Path, name: str) -> Path:
    path = folder / name
    if name.startswith("cover"):
        write_video(path, 30)
        with_cover(path, "PNG" if "png" in name else "JPEG")
    elif name.startswith("unmarked png"):
        two_tracks(path, "png", "rgb24", 1)
    elif name.startswith("unmarked jpeg"):
        two_tracks(path, "mjpeg", "yuvj420p", 1)
    elif name.startswith("other codec"):
        two_tracks(
            path, "png" if path.suffix == ".mov" else "snow", "rgb24" if path.suffix == ".mov" else "yuv420p", 30
        )
    else:
        two_tracks(path, "libx264", "yuv420p", 30)
        data = path.read_bytes()
        with av.open(str(path)) as container:
            for packet in container.demux(container.streams[0]):
                if packet.size:
                    data = data.replace(bytes(packet), bytes(packet.size))
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "cover.mp4",
        "cover png.mp4",
        "cover.mov",
        "unmarked png.mov",
        "unmarked jpeg.mov",
        "unmarked jpeg.mkv",
        "other codec.mov",
        "other codec.mkv",
        "damaged.mp4",
        "damaged.mkv",
    ],
)
async def test_the_film_is_shown_not_what_stands_before_it(name: str, served: CaseService, tmp_path: Path) -> None:
    uploaded = await served.upload(made(tmp_path, name))
    assert (uploaded["frame_count"], uploaded["width"], uploaded["height"]) == (30, 96, 64)
    asset = uploaded["asset_id"]
    poster = await served.poster(asset)
    assert Image.open(io.BytesIO(poster.content)).size == (96, 64)
    for route, query in (
        ("thumbnail", {"frame": 7}),
        ("clip", {"start_frame": 7, "end_frame": 25}),
        ("video", {"start_frame": 7, "end_frame": 25}),
    ):
        answer = await served.of_file(asset, route, **query)
        assert answer.status_code == 200, answer.text
        if route == "thumbnail":
            assert number_in(np.asarray(Image.open(io.BytesIO(answer.content)))) == 7
            continue
        with av.open(io.BytesIO(answer.content)) as container:
            numbers = [number_in(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
        assert 7 in numbers[:8]
        assert numbers[-1] >= 25


async def test_the_first_of_two_tracks_that_can_be_played(case: CaseFile, served: CaseService) -> None:
    for maker, name, frames in (("unknown_first", "unknown_first.mov", 30), ("cover_first", "cover_first.mp4", 60)):
        uploaded = await served.upload(case(maker, name))
        assert uploaded["frame_count"] == frames
        answer = await served.of_file(uploaded["asset_id"], "thumbnail", frame=7)
        assert number_in(np.asarray(Image.open(io.BytesIO(answer.content)))) == 7
