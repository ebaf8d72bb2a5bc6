"""NVDEC: which files it is tried on, its layouts of pictures, and what happens where it cannot decode.

The frames themselves are compared in ``test_reader``: by the hardware where there is one, else by ``pretend``.
"""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.vision.media.conftest import MakeVideo
from tests.unit.vision.media.hardware import pretend
from tests.unit.vision.media.samples import X264, Recipe, number_in, shown
from vision.media import nvdec
from vision.media.reader import VideoReader

RNG = np.random.default_rng(3)
COLOURS = [(2, 0, 2, 2), (1, 1, 1, 1), (5, 2, 6, 6), (9, 1, 16, 9), (0, 1, 13, 1), (14, 1, 18, 9)]
"""Matrix, range, curve, primaries by their codes in H.273; FFmpeg's scaler refuses the matrix 14."""


def samples(frame: Any, plane: int) -> NDArray[Any]:
    """The numbers of a plane, without the padding of its rows."""
    kind = np.uint16 if "10" in frame.format.name else np.uint8
    pairs = 2 if frame.format.name in ("nv12", "p010le") and plane else 1
    rows = np.frombuffer(frame.planes[plane], np.uint8).reshape(-1, frame.planes[plane].line_size).view(kind)
    return rows[: frame.planes[plane].height, : frame.planes[plane].width * pairs]


def filled(layout: str, size: tuple[int, int], planes: list[NDArray[Any]]) -> Any:
    frame = av.VideoFrame(*size, layout)
    for number, values in enumerate(planes):
        plane = frame.planes[number]
        rows = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
        rows[: values.shape[0], : values.shape[1]] = values
        plane.update(rows.tobytes())
    return frame


@pytest.mark.parametrize("layout", nvdec.LAYOUTS)
@pytest.mark.parametrize("size", [(320, 240), (322, 182), (641, 359)])
@pytest.mark.parametrize("colours", COLOURS)
def test_a_picture_of_the_hardware_keeps_all_its_numbers(
    layout: str, size: tuple[int, int], colours: tuple[int, int, int, int]
) -> None:
    if layout == "yuvj420p":
        colours = (colours[0], 2, *colours[2:])  # that is what the j stands for
    width, height = size
    deep = layout.endswith("10le")
    shapes = [(height, width), *[(-(-height // 2), -(-width // 2))] * 2]
    planes = [RNG.integers(0, 1024 if deep else 256, shape).astype(np.uint16 if deep else np.uint8) for shape in shapes]
    chroma = np.stack(planes[1:], -1).reshape(shapes[1][0], -1)
    shift = 6 if deep else 0
    picture = filled(nvdec.LAYOUTS[layout], size, [planes[0] << shift, chroma << shift])
    picture.colorspace, picture.color_range, picture.color_trc, picture.color_primaries = colours
    picture.pts, picture.time_base = 4711, Fraction(1, 90_000)
    got = nvdec.planar(picture, layout)
    assert got.format.name == layout
    for number, values in enumerate(planes):
        np.testing.assert_array_equal(samples(got, number), values)
    assert (got.pts, got.time_base) == (4711, Fraction(1, 90_000))
    assert (got.colorspace, got.color_range, got.color_trc, got.color_primaries) == colours


def test_a_picture_of_the_processor_is_left_as_it_is() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    assert nvdec.planar(frame, "yuv420p") is frame


@pytest.mark.parametrize(
    ("decoder", "codec", "layout", "wanted"),
    [
        ("auto", "h264", "yuv420p", True),
        ("nvdec", "hevc", "yuv420p10le", True),
        ("auto", "vp9", "yuv420p", True),
        ("auto", "h264", "yuvj420p", True),
        ("software", "h264", "yuv420p", False),
        ("nvdec", "libdav1d", "yuv420p", False),
        ("auto", "mjpeg", "yuvj420p", False),
        ("auto", "h264", "yuv444p", False),
        ("nvdec", "mpeg4", "yuv420p", False),
    ],
)
def test_it_is_tried_on_what_it_decodes_exactly(
    monkeypatch: pytest.MonkeyPatch, decoder: nvdec.Decoder, codec: str, layout: str, wanted: bool
) -> None:
    monkeypatch.setattr(nvdec, "is_available", lambda: True)
    assert nvdec.is_wanted(decoder, codec, layout) is wanted
    monkeypatch.setattr(nvdec, "is_available", lambda: False)
    assert not nvdec.is_wanted(decoder, codec, layout)


def test_there_is_none_where_the_gpus_are_hidden() -> None:
    script = "from vision.media import nvdec; print(nvdec.is_available())"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    answer = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE)
    assert answer.stdout.strip() == b"False"


@pytest.mark.parametrize("decoder", ["auto", "nvdec"])
def test_without_a_gpu_the_processor_decodes(
    monkeypatch: pytest.MonkeyPatch, video: MakeVideo, decoder: nvdec.Decoder
) -> None:
    monkeypatch.setattr(nvdec, "is_available", lambda: False)
    with VideoReader(video("b-frames"), decoder=decoder) as reader:
        assert reader.decoder == "software"
        assert [number_in(reader.frame(number)) for number in (59, 3, 40)] == [59, 3, 40]


def test_the_processor_is_asked_for_by_default(monkeypatch: pytest.MonkeyPatch, video: MakeVideo) -> None:
    pretend(monkeypatch)
    with VideoReader(video("b-frames")) as reader:
        assert reader.decoder == "software"
    with VideoReader(video("b-frames"), decoder="auto") as reader:
        assert reader.decoder == "nvdec"
    with VideoReader(video("av1"), decoder="nvdec") as reader:
        assert reader.decoder == "software"


def off_by_one(picture: Any) -> Any:
    for plane in picture.planes:
        plane.update((np.frombuffer(plane, np.uint8) ^ 16).tobytes())
    return picture


def refusing(picture: Any) -> Any:
    raise av.error.ExternalError(542398533, "no such profile")


def missing(**_: Any) -> Any:
    raise av.error.PermissionError(1, "Operation not permitted")


FILES = ["b-frames", "open gop in mpeg-ts", "hevc", "vp9", "rotated 90", "matroska"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("change", "reason"), [(off_by_one, "first frame differs"), (refusing, "")])
def test_a_file_that_it_decodes_wrongly_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    video: MakeVideo,
    name: str,
    change: Callable[[Any], Any],
    reason: str,
) -> None:
    pretend(monkeypatch, change)
    with caplog.at_level(logging.WARNING, "ray.serve"), VideoReader(video(name), decoder="auto") as reader:
        assert reader.decoder == "software"
        assert [number_in(pixels) for _, _, pixels in reader.frames()] == shown(name)
    (record,) = caplog.records
    assert "decoded by the processor" in record.getMessage()
    assert reason in record.getMessage()


def test_a_file_that_the_gpu_cannot_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, video: MakeVideo
) -> None:
    pretend(monkeypatch, opened=missing)
    with caplog.at_level(logging.WARNING, "ray.serve"), VideoReader(video("b-frames"), decoder="nvdec") as reader:
        assert reader.decoder == "software"
        assert number_in(reader.frame(31)) == 31
    assert len(caplog.records) == 1


@pytest.mark.parametrize("name", [*FILES, "edit list", "one key frame", "vfr"])
@pytest.mark.parametrize("pictures", [2, 17, 45])
def test_where_it_fails_in_the_middle_no_frame_is_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, video: MakeVideo, name: str, pictures: int
) -> None:
    left = [pictures]

    def failing(picture: Any) -> Any:
        left[0] -= 1
        return refusing(picture) if left[0] < 0 else picture

    pretend(monkeypatch, failing)
    expected = shown(name)
    with caplog.at_level(logging.WARNING, "ray.serve"), VideoReader(video(name), decoder="auto") as reader:
        assert reader.decoder == "nvdec"
        assert [(number, number_in(pixels)) for number, _, pixels in reader.frames()] == list(enumerate(expected))
        assert reader.decoder == "software"
        for number in (7, len(expected) - 1, 30, 0):
            assert number_in(reader.frame(number)) == expected[number]
    assert len(caplog.records) == 1


def test_frames_by_number_while_it_fails(monkeypatch: pytest.MonkeyPatch, video: MakeVideo) -> None:
    left = [30]

    def failing(picture: Any) -> Any:
        left[0] -= 1
        return refusing(picture) if left[0] < 0 else picture

    pretend(monkeypatch, failing)
    with VideoReader(video("b-frames"), decoder="auto") as reader:
        for number in (50, 3, 59, 24, 25, 58, 0, 41):
            assert number_in(reader.frame(number)) == number


@pytest.mark.parametrize("field", ["tff", "bff"])
def test_the_fields_of_interlaced_pictures_are_joined_alike(
    monkeypatch: pytest.MonkeyPatch, video: MakeVideo, field: str
) -> None:
    path = video(Recipe(frames=30, encoder=X264 | {"x264-params": f"{field}=1:keyint=10"}))
    with VideoReader(path) as reader:
        assert reader.interlaced
        expected = [pixels for _, _, pixels in reader.frames()]
    pretend(monkeypatch)
    with VideoReader(path, decoder="nvdec") as reader:
        assert reader.decoder == "nvdec"
        for number, (_, _, pixels) in enumerate(reader.frames()):
            np.testing.assert_array_equal(pixels, expected[number])
        for number in (21, 4, 29):
            np.testing.assert_array_equal(reader.frame(number), expected[number])


def test_a_file_whose_frames_can_only_be_counted(monkeypatch: pytest.MonkeyPatch, video: MakeVideo) -> None:
    data = video("mpeg-ts").read_bytes() + video("open gop in mpeg-ts").read_bytes()
    for left in (10**6, 80):
        rest = [left]

        def failing(picture: Any, rest: list[int] = rest) -> Any:
            rest[0] -= 1
            return refusing(picture) if rest[0] < 0 else picture

        with monkeypatch.context() as patch:
            pretend(patch, failing)
            with VideoReader(io.BytesIO(data), decoder="auto") as reader:
                assert reader.index.counted
                assert reader.decoder == "nvdec"
                assert [number_in(pixels) for _, _, pixels in reader.frames()] == [*range(60), *range(60)]
                assert reader.decoder == ("nvdec" if left > 1000 else "software")
