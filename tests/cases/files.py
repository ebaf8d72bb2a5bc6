"""Small media files, each with one property that real files have and most made-up ones lack.

Everything is seeded: two runs give the same pictures and sounds, though some muxers draw an id of their own.
"""

import io
import struct
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, PngImagePlugin

from tests.cases.colour import ADOBE, BT2020, P3, SRGB, hdr_patches, pq_encode, profile, srgb_encode, ten_bits, to_xyz

WIDTH, HEIGHT = 96, 64
BITS = 12
ORANGE, BLUE, DARK, LIGHT = (220, 120, 20), (20, 60, 200), (16, 16, 16), (235, 235, 235)
MILLI = Fraction(1, 1000)
CASES: dict[str, Callable[[Path], None]] = {}


def case(function: Callable[[Path], None]) -> Callable[[Path], None]:
    CASES[function.__name__] = function
    return function


# --- pictures and sounds ---


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture that tells its number: 12 bits as dark and light blocks on top, the highest at the left; below, the
    left half is orange and the right half blue, so that each way to turn or mirror it shows."""
    picture = np.empty((height, width, 3), np.uint8)
    band = height // 3
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        picture[:band, left:right] = LIGHT if number >> (BITS - 1 - bit) & 1 else DARK
    picture[band:, : width // 2] = ORANGE
    picture[band:, width // 2 :] = BLUE
    return picture


def patches(colours: list[tuple[int, int, int]], side: int = 40, columns: int = 4) -> np.ndarray:
    rows = [
        np.concatenate([np.full((side, side, 3), c, np.uint8) for c in colours[i : i + columns]], axis=1)
        for i in range(0, len(colours), columns)
    ]
    return np.concatenate(rows)


def photo(seed: int, width: int = 320, height: int = 240) -> np.ndarray:
    """Smooth random colours with some structure; PNG makes about 100 KB of it."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def tone(seconds: float, rate: int, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


# --- writers ---


def video_packets(stream, pictures, pts, base, pixel="yuv420p"):
    for stamp, picture in zip(pts, pictures, strict=False):
        frame = picture
        if isinstance(picture, np.ndarray):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel)
        frame.pts, frame.time_base = stamp, base
        yield from stream.encode(frame)
    yield from stream.encode(None)


def add_video(output, codec="libx264", rate=30, size=(WIDTH, HEIGHT), pixel="yuv420p", options=None, base=None, **rest):
    stream = output.add_stream(codec, rate=rate)
    stream.width, stream.height, stream.pix_fmt = *size, pixel
    stream.options = dict(options or {})
    stream.codec_context.thread_count = 1
    if base:
        stream.codec_context.time_base = base
    for name, value in rest.items():
        setattr(stream.codec_context, name, value)
    return stream


def write_video(
    path,
    frames=60,
    codec="libx264",
    rate=30,
    size=(WIDTH, HEIGHT),
    pixel="yuv420p",
    options=None,
    pts=None,
    base=None,
    muxer=None,
    container=None,
    pictures=None,
    **rest,
):
    """One stream of numbered pictures."""
    with av.open(str(path), "w", format=container, options=muxer or {}) as output:
        stream = add_video(output, codec, rate, size, pixel, options, base, **rest)
        drawn = (numbered(i, *size) for i in range(frames)) if pictures is None else pictures
        output.mux(list(video_packets(stream, drawn, pts or range(frames), base or Fraction(1, rate), pixel)))


def audio_packets(stream, samples, rate, layout, start=0, block=1024):
    """``samples``: float32 (n,), the same in each channel."""
    names = stream.codec_context.format.name
    channels = len(stream.codec_context.layout.channels)
    for at in range(0, len(samples), block):
        part = np.tile(samples[at : at + block], (channels, 1))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start + at, Fraction(1, rate)
        for ready in av.AudioResampler(format=names, layout=layout, rate=rate).resample(frame):
            ready.pts, ready.time_base = start + at, Fraction(1, rate)
            yield from stream.encode(ready)
    yield from stream.encode(None)


def mux_encoded(output, stream, data, pts, base, duration=1):
    """Muxes an encoded picture or sound, which needs none before it; times are in ``base`` seconds."""
    packet = av.Packet(data)
    packet.stream, packet.time_base, packet.is_keyframe = stream, base, True
    packet.pts = packet.dts = pts
    packet.duration = duration
    output.mux(packet)


def sound_bytes(samples, codec, container, rate, layout="mono", options=None, muxer=None, block=1024):
    target = io.BytesIO()
    with av.open(target, "w", format=container, options=muxer or {}) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        stream.options = dict(options or {})
        for packet in audio_packets(stream, samples, rate, layout, block=block):
            output.mux(packet)
    return target.getvalue()


def copied(source, target, change, muxer=None):
    """Copies the packets of the first video stream; ``change`` may move their times."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=muxer or {}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(p for p in old.demux(video=0) if p.size):
            change(number, packet)
            packet.stream = stream
            new.mux(packet)
    Path(source).unlink()


def boxes(data: bytes, start: int, end: int):
    while start < end:
        size, name = struct.unpack_from(">I4s", data, start)
        yield name, start, size
        start += size


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


def with_matrix(path: Path, *numbers: float) -> None:
    """Puts the display matrix a b u c d v x y w into the first track header."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    fixed = [round(n * (1 << 30 if i % 3 == 2 else 1 << 16)) for i, n in enumerate(numbers)]
    struct.pack_into(">9i", data, at, *fixed)
    path.write_bytes(data)


def saved(picture: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    target = io.BytesIO()
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    image.save(target, kind, **options)
    return target.getvalue()


# --- facts of a video ---


@case
def fragmented(folder: Path) -> None:
    write_video(folder / "fragmented.mp4", 120, options={"g": "15"}, muxer={"movflags": "frag_keyframe"})


@case
def edit_list(folder: Path) -> None:
    def earlier(_, packet):
        packet.pts -= round(1 / packet.time_base)
        packet.dts -= round(1 / packet.time_base)

    write_video(folder / "whole.mp4", 90, options={"g": "90", "bf": "0"})
    copied(folder / "whole.mp4", folder / "edit_list.mp4", earlier)


@case
def late_start(folder: Path) -> None:
    write_video(folder / "late_start.mkv", 60, pts=range(300, 360))
    write_video(
        folder / "late_start.webm",
        60,
        pts=range(300, 360),
        codec="libvpx-vp9",
        options={"deadline": "realtime", "cpu-used": "8"},
    )


@case
def live(folder: Path) -> None:
    steps = np.random.default_rng(1).choice([17, 33, 34, 50], 89)
    pts = [0, *np.cumsum(steps).tolist()]
    write_video(
        folder / "live.webm",
        90,
        codec="libvpx",
        rate=1000,
        pts=pts,
        base=MILLI,
        muxer={"live": "1"},
        options={"deadline": "realtime", "cpu-used": "8"},
    )


# --- sound ---


@case
def vbr_mp3(folder: Path) -> None:
    rate = 22050
    noise = (0.4 * np.random.default_rng(2).standard_normal(54 * rate)).astype(np.float32)
    samples = np.concatenate([np.zeros(6 * rate, np.float32), noise])
    (folder / "vbr.mp3").write_bytes(
        sound_bytes(
            samples,
            "libmp3lame",
            "mp3",
            rate,
            muxer={"write_xing": "0", "id3v2_version": "0"},
            options={"flags": "+qscale", "global_quality": str(118 * 5)},
            block=1152,
        )
    )


@case
def tagged_flac(folder: Path) -> None:
    tag = b"ID3\x03\0\0" + bytes([0, 0, 1, 0]) + bytes(128)
    (folder / "tagged.flac").write_bytes(tag + sound_bytes(tone(3, 22050), "flac", "flac", 22050, block=4096))


@case
def chained(folder: Path) -> None:
    parts = [sound_bytes(tone(3, 48000, hertz), "libopus", "ogg", 48000, block=960) for hertz in (440, 880)]
    (folder / "chained.ogg").write_bytes(b"".join(parts))


@case
def ac3_change(folder: Path) -> None:
    blocks = []
    for layout in ("stereo", "5.1"):
        raw = io.BytesIO()
        with av.open(raw, "w", format="ac3") as output:
            stream = output.add_stream("ac3", rate=48000, layout=layout)
            blocks += [bytes(p) for p in audio_packets(stream, tone(3, 48000), 48000, layout, block=1536)]
    with av.open(str(folder / "ac3_change.mkv"), "w") as output:
        pictures = add_video(output)
        sound = output.add_stream("ac3", rate=48000, layout="stereo")
        output.mux(list(video_packets(pictures, map(numbered, range(180)), range(180), Fraction(1, 30))))
        for number, block in enumerate(blocks):
            mux_encoded(output, sound, block, 1536 * number, Fraction(1, 48000), 1536)


@case
def bw64(folder: Path) -> None:
    target = io.BytesIO()
    with wave.open(target, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16000)
        writer.writeframes((tone(2, 16000) * 32767).astype("<i2").tobytes())
    data = target.getvalue()
    at = data.index(b"data")
    size = len(data) - at - 8
    sizes = b"ds64" + struct.pack("<IQQQI", 28, len(data) + 28, size, size // 2, 0)
    for name in (b"BW64", b"RF64"):
        whole = name + b"\xff" * 4 + b"WAVE" + sizes + data[12 : at + 4] + b"\xff" * 4 + data[at + 8 :]
        (folder / f"{name.decode().lower()}.wav").write_bytes(whole)


@case
def stereo(folder: Path) -> None:
    """The same tone in one channel and in two; neither clips."""
    for channels, name in ((1, "mono"), (2, "stereo")):
        with wave.open(str(folder / f"tone_{name}.wav"), "wb") as writer:
            writer.setnchannels(channels)
            writer.setsampwidth(2)
            writer.setframerate(16000)
            samples = (tone(2, 16000, level=0.9) * 32767).astype("<i2")
            writer.writeframes(np.repeat(samples[:, None], channels, axis=1).tobytes())


# --- which stream ---


@case
def cover_first(folder: Path) -> None:
    path = folder / "cover_first.mp4"
    write_video(path, 60)
    data = path.read_bytes()
    at, size = next((start, size) for name, start, size in boxes(data, 0, len(data)) if name == b"moov")
    cover = saved(np.full((100, 100, 3), (200, 10, 10), np.uint8), "JPEG")
    item = box(b"covr", box(b"data", struct.pack(">II", 13, 0) + cover))
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    art = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", item)))
    inside = [(name, data[start : start + size]) for name, start, size in boxes(data, at + 8, at + size)]
    kept = [body for name, body in inside if name != b"udta"]
    path.write_bytes(data[:at] + box(b"moov", kept[0] + art + b"".join(kept[1:])) + data[at + size :])


@case
def unknown_first(folder: Path) -> None:
    path = folder / "unknown_first.mov"
    with av.open(str(path), "w") as output:
        streams = [add_video(output), add_video(output)]
        for stream in streams:
            output.mux(list(video_packets(stream, map(numbered, range(30)), range(30), Fraction(1, 30))))
    data = bytearray(path.read_bytes())
    at = data.index(b"avc1", data.index(b"stsd"))
    data[at : at + 4] = b"zzzz"
    path.write_bytes(data)


# --- orientation, shape, fields, colour of video ---


@case
def mirrored(folder: Path) -> None:
    write_video(folder / "mirrored.mp4", 30)
    with_matrix(folder / "mirrored.mp4", -1, 0, 0, 0, 1, 0, WIDTH, 0, 1)
    write_video(folder / "flipped.mp4", 30)
    with_matrix(folder / "flipped.mp4", 1, 0, 0, 0, -1, 0, 0, HEIGHT, 1)
    write_video(folder / "half_turn.mp4", 30)
    half = 0.5**0.5
    with_matrix(folder / "half_turn.mp4", half, half, 0, -half, half, 0, 0, 0, 1)


@case
def anamorphic(folder: Path) -> None:
    write_video(folder / "anamorphic.mp4", 10, size=(144, 108), rate=25, sample_aspect_ratio=Fraction(4, 3))


@case
def interlaced(folder: Path) -> None:
    def moving(number: int) -> np.ndarray:
        picture = np.full((96, 128, 3), 32, np.uint8)
        for field in (0, 1):
            left = 6 * (2 * number + field) % 96
            picture[field::2, left : left + 24] = 224
        return picture

    write_video(
        folder / "interlaced.mp4",
        20,
        size=(128, 96),
        rate=25,
        pictures=map(moving, range(20)),
        options={"x264-params": "interlaced=1:tff=1", "crf": "14"},
    )


@case
def hdr_video(folder: Path) -> None:
    frames = (ten_bits(pq_encode(hdr_patches())) for _ in range(5))
    write_video(
        folder / "hdr_pq.mp4",
        5,
        "libx265",
        25,
        (128, 96),
        "yuv420p10le",
        pictures=frames,
        options={"crf": "12", "x265-params": "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"},
    )


@case
def size_change(folder: Path) -> None:
    packets = []
    for size, start in (((96, 64), 0), ((192, 128), 30)):
        encoder = av.CodecContext.create("libvpx", "w")
        encoder.width, encoder.height, encoder.pix_fmt = *size, "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, 30), Fraction(30)
        encoder.options = {"deadline": "realtime", "cpu-used": "8"}
        pictures = (numbered(start + i, *size) for i in range(30))
        packets += video_packets(encoder, pictures, range(start, start + 30), Fraction(1, 30))
    with av.open(str(folder / "size_change.webm"), "w") as output:
        stream = add_video(output, "libvpx")
        for packet in packets:
            packet.stream = stream
            output.mux(packet)


# --- parts ---


@case
def slides(folder: Path) -> None:
    with av.open(str(folder / "slides.mp4"), "w") as output:
        pictures = add_video(output, base=MILLI, options={"bf": "0"})
        sound = output.add_stream("aac", rate=16000, layout="mono")
        output.mux(list(video_packets(pictures, map(numbered, (1, 2, 3)), (0, 10000, 20000), MILLI)))
        for packet in audio_packets(sound, tone(60, 16000), 16000, "mono"):
            output.mux(packet)


@case
def apple_hevc(folder: Path) -> None:
    path = folder / "hvc1.mp4"
    write_video(path, 60, "libx265", options={"x265-params": "log-level=none:keyint=15:bframes=0"})
    path.write_bytes(path.read_bytes().replace(b"hev1", b"hvc1"))


@case
def repeated_pts(folder: Path) -> None:
    options = {"g": "30", "preset": "ultrafast", "bf": "0"}
    write_video(folder / "plain_3000.mkv", 3000, options=options)
    last = []

    def repeat(number, packet):
        if number == 1500:
            packet.pts = packet.dts = last[0]
        last[:] = [packet.pts]

    write_video(folder / "whole.mkv", 3000, options=options)
    copied(folder / "whole.mkv", folder / "repeated_pts.mkv", repeat)


@case
def one_pixel(folder: Path) -> None:
    write_video(
        folder / "one_pixel.mkv",
        10,
        "ffv1",
        size=(1, 1),
        pixel="yuv444p",
        pictures=[np.full((1, 1, 3), 100, np.uint8)] * 10,
    )


# --- pictures ---


@case
def long_text(folder: Path) -> None:
    picture = photo(3)
    (folder / "plain.png").write_bytes(saved(picture, "PNG"))
    for name, add in (("ztxt", "add_text"), ("itxt", "add_itxt")):
        info = PngImagePlugin.PngInfo()
        getattr(info, add)("workflow", "node " * 400_000, zip=True)
        (folder / f"long_{name}.png").write_bytes(saved(picture, "PNG", pnginfo=info))
    (folder / "long_icc.png").write_bytes(
        saved(picture, "PNG", icc_profile=profile(SRGB, 2.2, "long") + bytes(2_000_000))
    )


@case
def no_end(folder: Path) -> None:
    whole = saved(photo(4, 333, 217), "JPEG", quality=90)
    (folder / "whole.jpg").write_bytes(whole)
    (folder / "no_end.jpg").write_bytes(whole[:-2])


@case
def thumbnail_page(folder: Path) -> None:
    full = Image.fromarray(photo(5, 640, 480))
    small = full.resize((160, 120))
    (folder / "thumbnail_first.tif").write_bytes(
        saved(small, "TIFF", save_all=True, append_images=[full], tiffinfo={254: 1}, compression="tiff_adobe_deflate")
    )


@case
def profiles(folder: Path) -> None:
    """The same colours in three spellings."""
    rng = np.random.default_rng(6)
    colours = [tuple(c) for c in rng.uniform(0.15, 0.85, (12, 3))]
    linear = (
        np.concatenate(
            [np.concatenate([np.full((60, 80, 3), c) for c in colours[i : i + 4]], axis=1) for i in (0, 4, 8)]
        )
        ** 2.2
    )
    (folder / "colours_srgb.png").write_bytes(saved(np.rint(255 * srgb_encode(linear)).astype(np.uint8), "PNG"))
    for name, space, gamma in (("p3", P3, 2.2), ("adobe", ADOBE, 2.2), ("linear", SRGB, 1.0)):
        turn = np.linalg.inv(to_xyz(space)) @ to_xyz(SRGB)
        values = np.clip(linear @ turn.T, 0, 1) ** (1 / gamma)
        (folder / f"colours_{name}.png").write_bytes(
            saved(np.rint(255 * values).astype(np.uint8), "PNG", icc_profile=profile(space, gamma, name))
        )


@case
def hdr_heic(folder: Path) -> None:
    import pillow_heif

    values = np.rint(65535 * pq_encode(hdr_patches())).astype(np.uint16)
    values = np.ascontiguousarray(values.repeat(2, 0).repeat(2, 1))
    heif = pillow_heif.from_bytes("RGB;16", (values.shape[1], values.shape[0]), values.tobytes())
    heif.save(
        str(folder / "hdr_pq.heic"),
        quality=95,
        color_primaries=9,
        transfer_characteristics=16,
        matrix_coefficients=9,
        full_range_flag=1,
    )
    linear = np.clip(hdr_patches() @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(BT2020)).T / 203, 0, 1)
    plain = np.rint(255 * srgb_encode(linear)).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    (folder / "hdr_as_srgb.png").write_bytes(saved(plain, "PNG"))
