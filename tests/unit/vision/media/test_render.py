"""Pictures that are stored in another way than they are shown, by many codecs and containers."""

import io
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.context import Flags

from tests.cases.colour import hdr_patches, pq_encode, ten_bits
from tests.cases.files import BLUE, ORANGE, add_video, numbered, video_packets, with_matrix, write_video
from tests.unit.vision.media.samples import combing
from vision.colour import BT709, BT2020, HLG, PQ, to_srgb
from vision.errors import MediaTooLarge
from vision.images import Pixels
from vision.media.decord_reader import decord_objections
from vision.media.encoder import encode
from vision.media.plan import Box, BoxTrack, ClipPlan
from vision.media.probe import Limits, probe
from vision.media.reader import VideoReader
from vision.media.render import Deinterlacer, Renderer

Shape = tuple[int, int]
FAST = {"preset": "ultrafast", "bf": "0"}
QUIET = "log-level=none"
LIMITS = Limits(10**7, 10**7, 10**7, 200_000)
PATCHES = np.array([[255, 255, 255], [128, 128, 128], [200, 40, 30], [30, 180, 50], [40, 60, 210], [16, 16, 16]])
WIDE = 64
"""Pixels of a side of a patch."""
WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Of red and blue in the luminance, by the matrix's code in H.273."""


def encoded(path: Path, plan: ClipPlan, boxes: BoxTrack | None = None) -> bytes:
    with VideoReader(path) as reader:
        return b"".join(encode(reader, partial(path.open, "rb"), plan, boxes))


def sides(picture: Pixels) -> tuple[bool, bool]:
    """Whether the lower left is orange, and the lower right blue."""
    height, width = picture.shape[:2]
    left, right = (picture[height * 5 // 6, width * place // 8].astype(int) for place in (1, 7))
    return bool(np.abs(left - ORANGE).max() < 25), bool(np.abs(right - BLUE).max() < 25)


# --- orientation ---


def matrix(angle: float, scale: float = 1.0, mirrored: bool = False) -> Sequence[float]:
    turn = np.exp(1j * np.deg2rad(angle)) * scale
    a, b = turn.real, turn.imag
    return (-a if mirrored else a, -b if mirrored else b, 0, -b, a, 0, 0, 0, 1)


@pytest.mark.parametrize("scale", [1.0, 0.25, 3.0])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("angle", "right"), [(0, 0), (90, 90), (180, 180), (270, 270), (20, 0), (100, 90), (-40, 0)])
def test_any_matrix_turns_by_right_angles(
    angle: float, right: int, mirrored: bool, scale: float, tmp_path: Path
) -> None:
    write_video(tmp_path / "film.mp4", 2, options=FAST)
    with_matrix(tmp_path / "film.mp4", *matrix(angle, scale, mirrored))
    with av.open(str(tmp_path / "film.mp4")) as file:
        stored = next(file.decode(video=0)).to_ndarray(format="rgb24")
    with VideoReader(tmp_path / "film.mp4") as reader:
        expected = np.rot90(np.fliplr(stored) if mirrored else stored, -right // 90)
        assert np.array_equal(reader.frame(0), expected)
        turned_before_mirroring = -right % 360 if mirrored else right
        assert reader.facts.rotation == (0 if mirrored and right == 180 else turned_before_mirroring)


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "mkv"), ("libvpx", "webm"), ("mjpeg", "mov")])
@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_other_containers_turn_too(codec: str, suffix: str, degrees: int, tmp_path: Path) -> None:
    path = tmp_path / f"film.{suffix}"
    pixel = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    with av.open(str(path), "w") as output:
        stream = add_video(output, codec, pixel=pixel)
        stream.set_display_rotation(degrees)
        pictures = (np.ascontiguousarray(np.rot90(numbered(number), -degrees // 90)) for number in range(3))
        stream.width, stream.height = (96, 64) if degrees == 180 else (64, 96)
        output.mux(list(video_packets(stream, pictures, range(3), Fraction(1, 30), pixel)))
    with VideoReader(path) as reader:
        assert (reader.facts.width, reader.facts.height) == (96, 64)
        assert reader.facts.rotation == -degrees % 360
        assert sides(reader.frame(1)) == (True, True)


# --- shape of pixels ---


ASPECTS: dict[str, tuple[str, Shape, Fraction, Shape, dict[str, Any]]] = {
    "avi": ("mpeg4", (144, 120), Fraction(12, 11), (157, 120), {}),
    "mp4": ("libx265", (144, 120), Fraction(8, 9), (144, 135), {"options": {"x265-params": QUIET}}),
    "mkv": ("libx264", (96, 64), Fraction(2), (192, 64), {"options": FAST}),
    "mov": ("prores_ks", (96, 64), Fraction(1, 2), (96, 128), {"pixel": "yuv422p10le"}),
}


@pytest.mark.parametrize("suffix", ASPECTS)
def test_pixels_come_out_square(suffix: str, tmp_path: Path) -> None:
    codec, stored, aspect, shown, options = ASPECTS[suffix]
    path = tmp_path / f"film.{suffix}"
    write_video(path, 3, codec, 25, stored, sample_aspect_ratio=aspect, **options)
    facts = probe(path, LIMITS)
    assert (facts.width, facts.height) == shown
    with VideoReader(path) as reader:
        assert reader.frame(1).shape[1::-1] == shown
        assert sides(reader.frame(1)) == (True, True)
        assert reader.pixels(reader.picture(1), (50, 40)).shape == (40, 50, 3)


def test_the_shape_that_matroska_names_goes_before_that_of_the_codec(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    write_video(path, 3, size=(96, 64), options=FAST, sample_aspect_ratio=Fraction(3, 2))
    with VideoReader(path) as reader:
        assert (reader.facts.width, reader.facts.height) == (144, 64)
    no_unit, width = bytes.fromhex("54b28104"), bytes.fromhex("54b08180")  # DisplayUnit unknown, DisplayWidth 128
    assert path.read_bytes().count(no_unit) == 1
    path.write_bytes(path.read_bytes().replace(no_unit, width))
    with VideoReader(path) as reader:
        assert (reader.facts.width, reader.facts.height) == (128, 64)
        assert sides(reader.frame(2)) == (True, True)


@pytest.mark.parametrize("aspect", [Fraction(1, 100_000), Fraction(50_000, 1), Fraction(9), Fraction(2000, 2001)])
def test_shapes_that_no_camera_has_are_ignored(aspect: Fraction, tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", 2, options=FAST, sample_aspect_ratio=aspect)
    facts = probe(tmp_path / "film.mp4", LIMITS)
    assert (facts.width, facts.height) == (96, 64)


def test_the_limit_of_pixels_holds_for_what_is_shown(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", 2, size=(320, 240), options=FAST, sample_aspect_ratio=Fraction(4))
    with pytest.raises(MediaTooLarge, match="1280 x 240 pixels"):
        probe(tmp_path / "film.mp4", LIMITS)


def test_boxes_are_drawn_where_they_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    grey = [np.full((120, 144, 3), 90, np.uint8)] * 4
    write_video(path, 4, size=(144, 120), pictures=grey, options=FAST, sample_aspect_ratio=Fraction(5, 3))
    track = BoxTrack.of((number, Box(160, 30, 60, 60, "", 3)) for number in range(4))
    with VideoReader(io.BytesIO(encoded(path, ClipPlan("overlay"), track))) as overlay:
        assert (overlay.facts.width, overlay.facts.height) == (240, 120)
        drawn = np.abs(overlay.frame(1).astype(int) - 90).max(2) > 60
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    assert (columns[0], columns[-1]) == pytest.approx((160, 219), abs=2)
    assert (rows[0], rows[-1]) == pytest.approx((30, 89), abs=2)


# --- interlacing ---


def fields(number: int, first: int, width: int = 128, height: int = 96) -> Pixels:
    """A bar that moves between the two fields, the one with rows ``first``, ``first`` + 2, … being the earlier."""
    picture = np.full((height, width, 3), 32, np.uint8)
    for place in (0, 1):
        left = 6 * (2 * number + place) % (width - 32)
        picture[(first + place) % 2 :: 2, left : left + 24] = 224
    return picture


INTERLACED: dict[str, tuple[str, int, dict[str, Any]]] = {
    "tff.mkv": ("libx264", 0, {"options": {"x264-params": "interlaced=1:tff=1", "crf": "10"}}),
    "bff.mp4": ("libx264", 1, {"options": {"x264-params": "interlaced=1:bff=1", "crf": "10"}}),
    "mpeg2.mkv": ("mpeg2video", 0, {"bit_rate": 8_000_000, "flags": 1}),
    "mpeg4.avi": ("mpeg4", 0, {"bit_rate": 8_000_000, "flags": 1}),
    "prores.mov": ("prores_ks", 0, {"pixel": "yuv422p10le", "flags": 1}),
}


@pytest.mark.parametrize("name", INTERLACED)
def test_fields_are_joined_however_a_frame_is_reached(name: str, tmp_path: Path) -> None:
    codec, first, options = INTERLACED[name]
    if options.get("flags"):
        options = options | {"flags": Flags.interlaced_dct | Flags.interlaced_me | Flags.global_header}
    pictures = [fields(number, first) for number in range(20)]
    write_video(tmp_path / name, 20, codec, 25, (128, 96), pictures=pictures, **options)
    with VideoReader(tmp_path / name) as reader:
        row = [pixels for _, _, pixels in reader.frames()]
        assert reader.interlaced
        assert "it is interlaced" in decord_objections(reader, tmp_path / name)
        assert max(map(combing, row)) < 0.5
        # The bar stays as bright and as sharp at its sides as it was.
        assert min(np.abs(np.diff(pixels.mean(2), axis=1)).max() for pixels in row) > 150
        order = random.Random(5).sample(range(20), 20)
        assert all(np.array_equal(reader.frame(number), row[number]) for number in order)
        assert all(np.array_equal(pixels, row[number]) for number, _, pixels in reader.frames(1, None, 4))
        assert combing(reader.pixels(reader.keyframe(0.4))) < 0.5


def test_what_is_called_interlaced_and_stands_still_stays_sharp(tmp_path: Path) -> None:
    stripes = np.zeros((96, 128, 3), np.uint8)
    stripes[::3] = 200
    options = {"x264-params": "interlaced=1:tff=1", "crf": "4"}
    write_video(tmp_path / "still.mp4", 6, size=(128, 96), pictures=[stripes] * 6, options=options)
    with VideoReader(tmp_path / "still.mp4") as reader:
        assert reader.interlaced
        for _, _, pixels in reader.frames():
            assert np.abs(pixels.astype(int) - stripes).mean() < 3


def joined(path: Path, parts: Sequence[tuple[Shape, str, dict[str, str], Sequence[Pixels]]], codec: str) -> None:
    """Write streams of ``codec``, each of size, pixel format, options and pictures, one behind the other as one."""
    base, packets, start = Fraction(1, 30), [], 0
    for size, pixel, options, pictures in parts:
        encoder: Any = av.CodecContext.create(codec, "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.options = *size, pixel, dict(options)
        encoder.time_base, encoder.framerate, encoder.thread_count = base, 1 / base, 1
        packets += video_packets(encoder, pictures, range(start, start + len(pictures)), base, pixel)
        start += len(pictures)
    with av.open(str(path), "w") as output:
        stream = add_video(output, codec, 30, *parts[0][:3])
        for packet in packets:
            packet.stream = stream
            output.mux(packet)


def test_fields_that_begin_in_mid_stream_are_joined_too(tmp_path: Path) -> None:
    plain = (128, 96), "yuv420p", FAST, [numbered(number, 128, 96) for number in range(10)]
    woven = {"x264-params": "interlaced=1:tff=1", "crf": "10", "bf": "0"}
    path = tmp_path / "film.mkv"
    joined(path, [plain, ((128, 96), "yuv420p", woven, [fields(number, 0) for number in range(10)])], "libx264")
    with VideoReader(path) as reader:
        row = [pixels for _, _, pixels in reader.frames()]
    assert max(map(combing, row[10:])) < 0.5
    for order in (range(19, -1, -1), (15, 19, 10, 11, 18)):
        with VideoReader(path) as reader:
            assert all(np.array_equal(reader.frame(number), row[number]) for number in order)


@pytest.mark.parametrize("layout", ["yuv410p", "yuv411p", "nv12", "uyvy422", "pal8", "gbrp10le", "gray16be", "bgr0"])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (15, 300), (17, 16), (97, 65)])
def test_fields_of_any_format_and_size_are_joined_or_left(size: Shape, layout: str) -> None:
    frames = [av.VideoFrame(*size, layout) for _ in range(3)]
    for frame in frames:
        for plane in frame.planes:
            plane.update(bytes([80]) * plane.buffer_size)
    joined_frame = Deinterlacer().joined(*frames)
    assert (joined_frame is frames[1]) == (min(size) < 16)
    assert Renderer(joined_frame, None).pixels(joined_frame).shape == (*size[::-1], 3)


# --- changes in mid-stream ---


@pytest.mark.parametrize(
    ("name", "codec", "options", "pixels"),
    [
        ("h264.mp4", "libx264", FAST, ("yuv420p", "yuv420p")),
        ("h264.mkv", "libx264", FAST, ("yuv420p", "yuv444p")),
        ("vp9.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, ("yuv420p", "yuv420p")),
        ("mjpeg.avi", "mjpeg", {}, ("yuvj420p", "yuvj422p")),
    ],
)
def test_all_frames_have_the_size_of_the_first(
    name: str, codec: str, options: dict[str, str], pixels: tuple[str, str], tmp_path: Path
) -> None:
    sizes = (96, 64), (192, 112)
    parts = [
        (size, pixel, options, [numbered(10 * place + number, *size) for number in range(10)])
        for place, (size, pixel) in enumerate(zip(sizes, pixels, strict=True))
    ]
    joined(tmp_path / name, parts, codec)
    with VideoReader(tmp_path / name) as reader:
        assert {picture.width for _, picture in reader.pictures()} == {96, 192}
        assert [(number, frame.shape, sides(frame)) for number, _, frame in reader.frames()] == [
            (number, (64, 96, 3), (True, True)) for number in range(20)
        ]
        assert reader.frame(15).shape == (64, 96, 3)
    with VideoReader(io.BytesIO(encoded(tmp_path / name, ClipPlan("clip")))) as clip:
        assert {frame.shape for _, _, frame in clip.frames()} == {(64, 96, 3)}
        assert sides(clip.frame(16)) == (True, True)


# --- sizes that encoders do not like ---


@pytest.mark.parametrize(
    ("size", "clip_size"), [((1, 1), (2, 2)), ((1, 40), (2, 40)), ((97, 65), (96, 64)), ((17_000, 4), (16_384, 2))]
)
@pytest.mark.parametrize("plan", [ClipPlan("clip"), ClipPlan("overlay", caption="CLIP")])
def test_videos_of_any_size_have_clips(size: Shape, clip_size: Shape, plan: ClipPlan, tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    pictures = [np.full((*size[::-1], 3), 100, np.uint8)] * 6
    write_video(path, 6, "rawvideo", 25, size, pictures=pictures)
    with av.open(io.BytesIO(encoded(path, plan))) as clip:
        frames = list(clip.decode(video=0))
    assert {(frame.width, frame.height) for frame in frames} == {clip_size}
    assert len(frames) == 6


# --- colours ---


def shown(pixels: Pixels) -> Pixels:
    """The lower middle of each patch of a row, where no caption is, uint8 (n, 3)."""
    height, width = pixels.shape[:2]
    return pixels[height * 7 // 8, (np.arange(len(PATCHES)) * 2 + 1) * width // (2 * len(PATCHES))]


def yuv(layout: str, code: int, full: bool, colours: np.ndarray = PATCHES) -> av.VideoFrame:
    """A row of patches in YUV, computed here."""
    frame = av.VideoFrame(WIDE * len(colours), WIDE, layout)
    bits = frame.format.components[0].bits
    red, blue = WEIGHTS[code]
    rgb = np.repeat(np.repeat(colours[None] / 255, WIDE, 0), WIDE, 1)
    luma = rgb @ np.array([red, 1 - red - blue, blue])
    chroma = [(rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)]
    most, step = 2**bits - 1, 2 ** (bits - 8)
    levels = [luma * most if full else (16 + 219 * luma) * step]
    levels += [part * most + 2 ** (bits - 1) if full else (128 + 224 * part) * step for part in chroma]
    kind = np.uint8 if bits == 8 else np.uint16
    for plane, values in zip(frame.planes, levels, strict=False):
        thinned = values[:: WIDE // plane.height, :: frame.width // plane.width]
        lines = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
        lines[:, : thinned.shape[1]] = np.clip(np.rint(thinned), 0, most)
        plane.update(lines.tobytes())
    frame.colorspace, frame.color_range = code, 2 if full else 1
    return frame


@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("code", WEIGHTS)
def test_every_matrix_and_range(code: int, full: bool, layout: str) -> None:
    frame = yuv(layout, code, full)
    renderer = Renderer(frame, None)
    # swscale's tables for 8 bits are right within three levels.
    assert np.abs(shown(renderer.pixels(frame)).astype(int) - PATCHES).max() <= 3
    assert np.abs(shown(renderer.pixels(frame, (192, 32))).astype(int) - PATCHES).max() <= 5
    luma = PATCHES @ [WEIGHTS[code][0], 1 - sum(WEIGHTS[code]), WEIGHTS[code][1]]
    grey = renderer.luminance(frame, (192, 32))[16, (np.arange(6) * 2 + 1) * 16]
    assert np.abs(grey - luma).max() <= 2


@pytest.mark.parametrize("layout", ["gray", "gray10le"])
@pytest.mark.parametrize("full", [False, True])
def test_grey_has_a_range_too(full: bool, layout: str) -> None:
    greys = np.repeat(PATCHES[:, 1:2], 3, 1)
    frame = yuv(layout, 5, full, greys)
    renderer = Renderer(frame, None)
    assert np.abs(shown(renderer.pixels(frame)).astype(int) - greys).max() <= 1
    grey = renderer.luminance(frame, (192, 32))[16, (np.arange(6) * 2 + 1) * 16]
    assert np.abs(grey - greys[:, 0]).max() <= 2


@pytest.mark.parametrize(
    ("size", "primaries", "code"), [((64, 48), 2, 5), ((1280, 4), 2, 1), ((8, 720), 2, 1), ((64, 48), 9, 9)]
)
@pytest.mark.parametrize("named", [2, 3, 8, 14])
def test_a_matrix_that_is_not_named_or_unknown_is_that_of_the_size(
    named: int, size: Shape, primaries: int, code: int
) -> None:
    frame = av.VideoFrame(*size, "yuv444p")
    for plane, level in zip(frame.planes, (100, 90, 160), strict=True):
        plane.update(bytes([level]) * plane.buffer_size)
    frame.color_primaries, frame.colorspace, frame.color_trc = primaries, named, 13
    guessed = Renderer(frame, None).pixels(frame)[0, 0]
    frame.colorspace = code
    assert np.array_equal(Renderer(frame, None).pixels(frame)[0, 0], guessed)


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel", "options"),
    [
        ("mp4", "libx264", "yuv420p", {"crf": "4"}),
        ("mkv", "libx264", "yuvj444p", {"crf": "4"}),
        ("mov", "libx264rgb", "rgb24", {"crf": "4"}),
        ("mkv", "ffv1", "bgr0", {}),
        ("avi", "rawvideo", "bgr24", {}),
        ("mp4", "libx265", "gray", {"x265-params": QUIET, "crf": "4"}),
        ("avi", "mjpeg", "yuvj422p", {"qmin": "1", "qmax": "1"}),
    ],
)
def test_colours_of_files_and_their_clips(
    suffix: str, codec: str, pixel: str, options: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / f"film.{suffix}"
    colours = np.repeat(PATCHES[:, 1:2], 3, 1) if pixel == "gray" else PATCHES
    frame = yuv("yuv444p", 5, False, colours).reformat(format=pixel, dst_color_range=2 if "j" in pixel else 1)
    drawn = [frame] * 3
    if pixel == "gray":  # swscale's grey has the full range, and x265 says that it is limited
        drawn = [yuv("gray", 5, False, colours)] * 3
    write_video(path, 3, codec, 25, (frame.width, frame.height), pixel, pictures=drawn, options=options)
    with VideoReader(path) as reader:
        assert np.abs(shown(reader.frame(1)).astype(int) - colours).max() <= 5
    for plan in (ClipPlan("clip"), ClipPlan("overlay", caption="c")):
        with VideoReader(io.BytesIO(encoded(path, plan))) as clip:
            assert np.abs(shown(clip.frame(1)).astype(int) - colours).max() <= 8


def in_hlg(nits: np.ndarray) -> np.ndarray:
    """Linear BT.2020 in cd/m² as the signal of HLG: BT.2100, the inverse of its OOTF and of its curve."""
    light = nits / 1000
    luminance = np.maximum(light @ np.array([0.2627, 0.6780, 0.0593]), 1e-9)[..., None]
    scene = light * luminance ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def x265(transfer: str, primaries: str = "bt2020", matrix: str = "bt2020nc") -> dict[str, str]:
    names = f"colorprim={primaries}:transfer={transfer}:colormatrix={matrix}"
    return {"crf": "10", "x265-params": f"{QUIET}:{names}"}


Encode = Callable[[np.ndarray], np.ndarray]
HDR: dict[str, tuple[str, str, dict[str, str], int, Encode]] = {
    "hlg.mp4": ("libx265", "yuv420p10le", x265("arib-std-b67"), HLG, in_hlg),
    "pq.mkv": ("libx265", "yuv420p12le", x265("smpte2084"), PQ, pq_encode),
    "pq.mov": ("prores_ks", "yuv422p10le", {}, PQ, pq_encode),
    "pq.mp4": ("libx264", "yuv420p10le", {"crf": "10"}, PQ, pq_encode),
    "wide.mp4": ("libx265", "yuv420p10le", x265("bt2020-10"), 14, lambda nits: np.clip(nits / 1000, 0, 1) ** 0.5),
    "wide.mkv": ("ffv1", "yuv444p10le", {}, 1, lambda nits: np.clip(nits / 1000, 0, 1) ** 0.5),
}


@pytest.mark.parametrize("name", HDR)
def test_hdr_and_wide_gamuts_of_other_kinds(name: str, tmp_path: Path) -> None:
    codec, pixel, options, transfer, encode_light = HDR[name]
    signal = encode_light(hdr_patches())
    frames = []
    for _ in range(3):
        frame = ten_bits(signal).reformat(format=pixel)
        frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = BT2020, BT2020, transfer, 1
        frames.append(frame)
    tags = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": transfer, "color_range": 1}
    path = tmp_path / name
    write_video(path, 3, codec, 25, (128, 96), pixel, pictures=frames, options=options, **tags)
    middles = np.ix_((24, 72), (32, 96))
    expected = 255 * to_srgb(signal, transfer, BT2020)[middles]
    with VideoReader(path) as reader:
        picture = reader.picture(1)
        assert np.abs(reader.frame(1)[middles] - expected).max() < 9
        assert np.abs(reader.pixels(picture, (64, 48))[12::24, 16::32] - expected).max() < 9
        grey = expected @ [0.299, 0.587, 0.114]
        assert np.abs(reader.luminance(picture, (64, 48))[12::24, 16::32] - grey).max() < 6
        assert "its colours are not those of sRGB" in decord_objections(reader, path)
    for plan in (ClipPlan("clip"), ClipPlan("overlay", caption="c")):
        with VideoReader(io.BytesIO(encoded(path, plan))) as clip:
            picture = clip.picture(1)
            assert (picture.colorspace, picture.color_primaries, picture.color_trc) == (BT709, BT709, BT709)
            assert np.abs(clip.frame(1)[middles][1] - expected[1]).max() < 9


def test_what_is_drawn_on_a_frame_does_not_stay_in_the_decoder() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as output:
        stream = output.add_stream("cinepak", rate=25)  # it decodes to RGB, so nothing has to be converted
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        for number in range(4):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8))))
        output.mux(stream.encode(None))
    with VideoReader(io.BytesIO(file.getvalue())) as reader:
        for number in range(4):
            reader.frame(number)[:] = 255
            assert np.abs(reader.frame(number).astype(int) - 40 * number).max() <= 2
