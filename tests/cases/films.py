"""Films of every kind that people have: one dataclass says what a film is, ``write`` encodes it.

Each picture tells its own number (see ``tests.cases.files.numbered``), so that whoever decodes the film, whole or in
part, can say which picture came out and how it was turned.
"""

import random
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.stream import Disposition

from tests.cases.files import BITS, DARK, LIGHT, audio_packets, box, boxes, numbered, tone
from tests.unit.vision.media.samples import end_real_time

TICKS: Final = 90_000
"""Ticks a second of the times that go into a film; its container may round them."""

# Codec by FFmpeg's name: its encoder, pixel format, options, and the containers that hold it.
_MP4: Final = ("mp4", "fragmented", "mov", "mkv")
_CODECS: Final[dict[str, tuple[str, str, dict[str, str], tuple[str, ...]]]] = {
    "h264": ("libx264", "yuv420p", {"preset": "ultrafast", "crf": "18"}, (*_MP4, "avi")),
    "hevc": ("libx265", "yuv420p", {"preset": "ultrafast", "crf": "18"}, _MP4),
    "vp8": ("libvpx", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "b": "2000000"}, ("webm", "mkv")),
    "vp9": (
        "libvpx-vp9",
        "yuv420p",
        {"deadline": "realtime", "cpu-used": "8", "b": "2000000"},
        ("webm", "mkv", "mp4", "fragmented"),
    ),
    "av1": (
        "libsvtav1",
        "yuv420p",
        {"preset": "9", "crf": "10", "svtav1-params": "lp=1"},
        ("mp4", "fragmented", "mkv", "webm"),
    ),
    "mpeg4": ("mpeg4", "yuv420p", {"b": "4000000"}, (*_MP4, "avi")),
    "mpeg2video": ("mpeg2video", "yuv420p", {"b": "4000000"}, ("mp4", "mov", "mkv", "avi")),
    "mjpeg": ("mjpeg", "yuvj420p", {"b": "8000000"}, ("mp4", "mov", "mkv", "avi")),
    "prores": ("prores_ks", "yuv422p10le", {}, ("mov", "mkv")),
    "ffv1": ("ffv1", "yuv420p", {}, ("mkv", "avi")),
}
CODECS: Final = tuple(_CODECS)
_MUXERS: Final[dict[str, tuple[str, str, dict[str, str]]]] = {
    "mp4": ("mp4", "mp4", {}),
    "fragmented": ("mp4", "mp4", {"movflags": "frag_keyframe+delay_moov+default_base_moof"}),
    "mov": ("mov", "mov", {}),
    "mkv": ("mkv", "matroska", {}),
    "webm": ("webm", "webm", {}),
    "avi": ("avi", "avi", {}),
}
_SOUNDS: Final = {"mkv": "flac", "webm": "libopus", "avi": "libmp3lame"}
"""Encoder of the sound by container; AAC elsewhere."""
_RATES: Final = tuple(
    map(Fraction, ("83/10", "12", "15", "24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001", "60"))
)
_BROADCAST: Final = frozenset(map(Fraction, ("24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001", "60")))
"""The only rates of MPEG-2."""
_ISO: Final = ("mp4", "fragmented", "mov")
_PREDICTED: Final = ("h264", "hevc", "mpeg4", "mpeg2video")
"""Codecs that have B-frames."""
_PIXELS: Final = tuple(map(Fraction, ("4/3", "3/4", "16/15", "2")))


@dataclass(frozen=True)
class Film:
    """A film, described. Where a player shows it, it has the pictures ``hidden`` to ``frames`` - 1.

    ``size``: width and height of the upright pictures in stored pixels; ``rate``: frames a second; ``uneven``: some
    steps are two or three times as long; ``gap_s``: a pause in the middle; ``start_s``: time of the first picture that
    is shown; ``hidden``: pictures at the beginning that an edit list hides; ``key_every``: distance of key frames;
    ``pixel``: width over height of an upright pixel; ``turn``: degrees clockwise that a player turns the stored
    pictures by, before it mirrors them from left to right if they are ``mirrored``; ``sound``: from so many seconds
    after the first picture to so many after the last one; ``cover``: a picture of the film's cover, "first" or "last"
    in the header; ``timecode``: a data track beside the film.
    """

    codec: str = "h264"
    container: str = "mp4"
    size: tuple[int, int] = (96, 64)
    frames: int = 12
    rate: Fraction = Fraction(25)
    uneven: bool = False
    gap_s: float = 0.0
    start_s: float = 0.0
    hidden: int = 0
    key_every: int = 12
    b_frames: int = 0
    open_gop: bool = False
    interlaced: bool = False
    pixel: Fraction = Fraction(1)
    turn: int = 0
    mirrored: bool = False
    sound: tuple[float, float] | None = None
    cover: str = ""
    timecode: bool = False

    @property
    def base(self) -> Fraction:
        """Time base of the encoder: the rate where a codec or a container knows nothing finer."""
        counts = self.codec in ("mpeg2video", "mpeg4") or self.container == "avi"
        return 1 / self.rate if counts else Fraction(1, TICKS)

    @property
    def steps(self) -> list[int]:
        """When each picture comes, in frames of ``rate`` from the first one that is stored."""
        steps = [1 + (number * 7 % 3 if self.uneven else 0) for number in range(self.frames)]
        if self.gap_s:
            steps[(self.hidden + self.frames) // 2] += round(self.gap_s * self.rate)
        return np.cumsum([0, *steps[1:]]).tolist()

    @property
    def shape(self) -> Fraction:
        """Width over height, as shown."""
        return Fraction(*self.size) * self.pixel

    @property
    def suffix(self) -> str:
        return _MUXERS[self.container][0]

    def stored(self, number: int) -> np.ndarray:
        """The picture that a player turns into the upright one of this number."""
        picture = numbered(number, *self.size)
        picture = np.fliplr(picture) if self.mirrored else picture
        return np.ascontiguousarray(np.rot90(picture, self.turn // 90))

    def upright(self, stored: np.ndarray) -> np.ndarray:
        """A stored picture as a player shows it, but for the shape of its pixels."""
        picture = np.rot90(stored, -self.turn // 90)
        return np.ascontiguousarray(np.fliplr(picture) if self.mirrored else picture)


def write(film: Film, folder: Path) -> Path:
    """Encode a film into a file of this folder."""
    suffix, muxer, options = _MUXERS[film.container]
    path = folder / f"film.{suffix}"
    with av.open(str(path), "w", format=muxer, options=options) as output:
        stream = _video_stream(film, output)
        sound = None
        if film.sound:
            sound = output.add_stream(_SOUNDS.get(film.container, "aac"), rate=48_000, layout="mono")
        cover = _cover_stream(film, output)
        packets = list(_video_packets(film, stream))
        if sound is not None:
            packets += _sound_packets(film, sound)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in [*cover, *packets]:
            output.mux(packet)
    end_real_time()
    if film.cover == "first":
        _put_cover_first(path)
    return path


def number_in(picture: np.ndarray) -> int:
    """The number that an upright picture tells, of any size; raises ValueError for one that is turned or not clear."""
    height = len(picture)
    band = height // 3
    rows = picture[band // 4 : max(band * 3 // 4, band // 4 + 1)].mean(axis=(0, 2))
    # The middle of each block, as its borders may be blurred.
    levels = np.array(
        [block[len(block) // 4 :][: max(len(block) // 2, 1)].mean() for block in np.array_split(rows, BITS)]
    )
    if (np.abs(levels - (DARK[0] + LIGHT[0]) / 2) < 40).any():
        raise ValueError(f"these blocks are no number: {np.rint(levels).astype(int).tolist()}")
    below = picture[height * 5 // 9 : height * 8 // 9].astype(float)
    warm = [half.mean(axis=(0, 1)) @ (1, 0, -1) for half in np.array_split(below, 2, axis=1)]
    if not (warm[0] > 60 and warm[1] < -60):
        raise ValueError(f"orange is not at the left and blue not at the right: red over blue is {warm}")
    return int((levels > 128) @ (1 << np.arange(BITS)[::-1]))


def drawn(seed: int) -> Film:
    """The film of this number; films of ten numbers in a row have ten codecs."""
    rng = random.Random(seed)
    codec = CODECS[seed % len(CODECS)]
    container = rng.choice(_CODECS[codec][3])
    iso, whole, avi = container in _ISO, container in ("mp4", "mov"), container == "avi"
    frames = rng.randint(3 if codec == "hevc" else 1, 40)  # x265 gives no header for one picture or two
    b_frames = rng.choice((0, 0, 1, 3)) if codec in _PREDICTED else 0
    timed = not (avi and b_frames)  # what FFmpeg makes of such an AVI has no times that anybody could trust
    start_s = 0.0 if avi else rng.choice((0.0, 0.0, 0.4, 10.0))
    # Where PyAV does not give the muxer the shape of pixels, the codec has to tell it.
    shaped = iso or codec in ("h264", "hevc", "mpeg4", "mjpeg")
    return Film(
        codec=codec,
        container=container,
        size=rng.choice(((96, 64), (144, 96), (120, 92))),
        frames=frames,
        rate=rng.choice([rate for rate in _RATES if codec != "mpeg2video" or rate in _BROADCAST]),
        uneven=timed and codec != "mpeg2video" and rng.random() < 0.3,
        gap_s=rng.choice((0.0, 0.0, 1.5)) if timed else 0.0,
        start_s=start_s,
        hidden=rng.randint(0, frames // 2) if iso and not start_s else 0,
        key_every=rng.choice((1, 5, 12, 250)),
        b_frames=b_frames,
        open_gop=codec in ("h264", "hevc", "mpeg2video") and b_frames > 0 and rng.random() < 0.5,
        interlaced=codec in ("h264", "mpeg2video") and rng.random() < 0.2,
        pixel=rng.choice((Fraction(1), Fraction(1), *_PIXELS)) if shaped else Fraction(1),
        turn=rng.choice((0, 0, 90, 180, 270)) if iso else 0,
        mirrored=iso and rng.random() < 0.3,
        sound=(rng.choice((0.0, 0.5, -0.3)), rng.choice((0.0, 2.0, -0.3))) if rng.random() < 0.5 else None,
        cover=rng.choice(("", "", "first", "last")) if whole else "",
        timecode=whole and rng.random() < 0.3,
    )


def _video_stream(film: Film, output: Any) -> Any:
    encoder, pixel_format, options, _ = _CODECS[film.codec]
    stream = output.add_stream(encoder, rate=film.rate)
    stream.width, stream.height = film.stored(0).shape[1::-1]
    stream.pix_fmt = pixel_format
    context = stream.codec_context
    context.thread_count = 1
    context.time_base = stream.time_base = film.base
    context.sample_aspect_ratio = 1 / film.pixel if film.turn % 180 else film.pixel
    stream.options = options | _structure(film)
    if film.turn or film.mirrored:
        stream.set_display_rotation(-film.turn, hflip=film.mirrored)
    if film.timecode:
        stream.metadata["timecode"] = "00:00:00:00"
    return stream


def _structure(film: Film) -> dict[str, str]:
    """Options of the encoder for key frames, frames between them, and fields."""
    options = {"g": str(film.key_every), "bf": str(film.b_frames)}
    if film.codec == "h264":
        fields = "interlaced=1:tff=1" if film.interlaced else "interlaced=0"
        options["x264-params"] = f"open-gop={int(film.open_gop)}:scenecut=0:{fields}"
    elif film.codec == "hevc":
        options["x265-params"] = (
            f"log-level=none:open-gop={int(film.open_gop)}:scenecut=0:keyint={film.key_every}:bframes={film.b_frames}"
        )
        options = {"preset": "ultrafast", "x265-params": options["x265-params"]}
    elif film.codec not in ("mpeg4", "mpeg2video"):
        del options["bf"]
    elif film.interlaced:
        options["flags"] = "+ilme+ildct"
    return options


def _video_packets(film: Film, stream: Any) -> Any:
    pixel_format = _CODECS[film.codec][1]
    steps = film.steps
    ticks = [round(step / film.rate / film.base) for step in steps]
    first = steps[film.hidden] / film.rate
    for number in [*range(film.frames), None]:
        frame = None
        if number is not None:
            frame = av.VideoFrame.from_ndarray(film.stored(number), format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = ticks[number], film.base
        for packet in stream.encode(frame):
            yield _moved(packet, Fraction(film.start_s) - first)


def _moved(packet: Any, seconds: Fraction) -> Any:
    ticks = round(seconds / packet.time_base)
    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
    return packet


def _sound_packets(film: Film, stream: Any) -> Any:
    after, longer = film.sound or (0.0, 0.0)
    begin = max(film.start_s + after, 0.0)
    steps = film.steps
    end = film.start_s + float((steps[-1] + 1 - steps[film.hidden]) / film.rate) + longer
    samples = tone(max(end - begin, 0.1), 48_000)
    block = {"libmp3lame": 1152, "libopus": 960, "flac": 4096}.get(stream.codec_context.codec.name, 1024)
    for packet in audio_packets(stream, samples, 48_000, "mono", block=block):
        yield _moved(packet, Fraction(begin))


def _cover_stream(film: Film, output: Any) -> list[Any]:
    if not film.cover:
        return []
    stream = output.add_stream("png", rate=1)
    stream.width, stream.height, stream.pix_fmt = 100, 100, "rgb24"
    stream.disposition = Disposition.attached_pic
    red = np.full((100, 100, 3), (200, 10, 10), np.uint8)
    return [*stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")), *stream.encode(None)]


def _put_cover_first(path: Path) -> None:
    """Move the metadata of an MP4 before its tracks; their bytes lie before both."""
    data = path.read_bytes()
    at, size = next((start, size) for name, start, size in boxes(data, 0, len(data)) if name == b"moov")
    inside = [(name, data[start : start + size]) for name, start, size in boxes(data, at + 8, at + size)]
    inside.sort(key=lambda part: {b"mvhd": 0, b"udta": 1}.get(part[0], 2))
    path.write_bytes(data[:at] + box(b"moov", b"".join(body for _, body in inside)) + data[at + size :])
