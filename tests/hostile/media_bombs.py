"""Films and sounds of few bytes that claim, or make a decoder do, more work or memory than any film of people does."""

import io
import struct
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
from PIL import Image

from tests.cases.files import audio_packets, box, boxes, mux_encoded, numbered, tone, video_packets
from tests.unit.vision.media.samples import end_real_time

TICK: Final = Fraction(1, 25)
BOMBS: Final[dict[str, tuple[str, Callable[[], bytes], bool]]] = {}
"""By name: the name of the file, what makes it, and whether it is refused; what is not is read soon."""


def bomb(filename: str, *, refused: bool = False) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    def register(function: Callable[[], bytes]) -> Callable[[], bytes]:
        BOMBS[function.__name__] = filename, function, refused
        return function

    return register


# --- one packet of endless work ---


def scans(side: int, repeats: int) -> bytes:
    """A grey progressive JPEG whose last scan is repeated."""
    file = io.BytesIO()
    Image.new("L", (side, side), 128).save(file, "JPEG", progressive=True, quality=50)
    data = file.getvalue()
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * repeats + b"\xff\xd9"


def muxed(
    packets: Iterable[bytes],
    codec: str,
    container: str,
    size: tuple[int, int] = (64, 64),
    extradata: bytes | None = None,
    pixel: str = "yuv420p",
) -> bytes:
    """A film of these packets, as they are; each is a key frame."""
    target = io.BytesIO()
    with av.open(target, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pixel
        if extradata:
            stream.codec_context.extradata = extradata
        for number, data in enumerate(packets):
            mux_encoded(output, stream, data, number, TICK)
    return target.getvalue()


@bomb("scans.mov", refused=True)
def mjpeg_scans_mov() -> bytes:
    return muxed([scans(8900, 3000)] * 2, "mjpeg", "mov", (8900, 8900), pixel="yuvj420p")


@bomb("scans.mkv", refused=True)
def mjpeg_scans_mkv() -> bytes:
    return muxed([scans(64, 0)] * 5 + [scans(4096, 8000)] * 3, "mjpeg", "matroska", pixel="yuvj420p")


@bomb("scans.avi", refused=True)
def mjpeg_scans_avi() -> bytes:
    return muxed([scans(8000, 4000)], "mjpeg", "avi", (8000, 8000), pixel="yuvj420p")


def encoded(codec: str, size: tuple[int, int], frames: int, options: dict[str, str]) -> tuple[list[bytes], bytes]:
    """Packets of a film that stands still, and the decoder's header."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = *size, "yuv420p"
    encoder.time_base, encoder.framerate = TICK, Fraction(25)
    encoder.options, encoder.thread_count = options, 2
    grey = np.full((size[1], size[0], 3), 128, np.uint8)
    packets = [bytes(p) for p in video_packets(encoder, [grey] * frames, range(frames), TICK)]
    end_real_time()
    return packets, encoder.extradata or b""


def with_sizes(nals: bytes) -> list[bytes]:
    """NAL units with start codes as NAL units with their sizes in front."""
    parts = [part for part in nals.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if part]
    return [struct.pack(">I", len(part)) + part for part in parts]


def bits(data: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in data.replace(b"\0\0\3", b"\0\0"))


def golomb(number: int) -> str:
    code = f"{number + 1:b}"
    return "0" * (len(code) - 1) + code


def escaped(code: str) -> bytes:
    """The bytes of a NAL unit without anything in them that looks like a start code."""
    code += "0" * (-len(code) % 8)
    out, zeros = bytearray(), 0
    for byte in (int(code[at : at + 8], 2) for at in range(0, len(code), 8)):
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def skipping(size: tuple[int, int], count: int) -> tuple[bytes, list[bytes]]:
    """The first packet of a film in H.264, and slices of the next picture: each skips from its block to the end."""
    options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "slices=1:threads=1:cabac=0"}
    (first, second, *_), _ = encoded("libx264", size, 3, options)
    (unit,) = (unit[4:] for unit in with_sizes(second) if unit[4] & 31 == 1)
    blocks = size[0] // 16 * (-(-size[1] // 16))
    code = bits(unit[1:]).rstrip("0")[:-1]
    head = code.removesuffix(golomb(blocks))
    assert head != code
    assert head[0] == "1"
    numbers = range(count)
    return first, [unit[:1] + escaped(golomb(n) + head[1:] + golomb(blocks - n) + "1") for n in numbers]


@bomb("slices.avi", refused=True)
def h264_slices_avi() -> bytes:
    first, slices = skipping((3840, 2160), 12_000)
    return muxed([first, b"".join(b"\0\0\1" + unit for unit in slices)], "h264", "avi", (3840, 2160))


@bomb("late_slices.avi")
def h264_slices_later() -> bytes:
    """Behind all that is looked at before the file is opened."""
    first, slices = skipping((3840, 2160), 12_000)
    filler = b"\0\0\1\x0c" + b"\xff" * 100_000
    late = b"".join(b"\0\0\1" + unit for unit in slices)
    return muxed([first] + [first + filler] * 60 + [late] * 4, "h264", "avi", (3840, 2160))


@bomb("slices.avi")
def mpeg2_slices_avi() -> bytes:
    packets, _ = encoded("mpeg2video", (3840, 2160), 3, {"g": "3"})
    second = packets[1]
    at = second.index(b"\0\0\1\1")
    return muxed([packets[0], second[:at] + second[at:] * 100], "mpeg2video", "avi", (3840, 2160))


@bomb("packets.avi", refused=True)
def mpeg4_pictures_avi() -> bytes:
    packets, extra = encoded("mpeg4", (3840, 2160), 3, {"g": "3"})
    return muxed([packets[0], packets[1] * 2000], "mpeg4", "avi", (3840, 2160), extra)


@bomb("frames.mkv", refused=True)
def av1_frames_mkv() -> bytes:
    packets, extra = encoded("libsvtav1", (1920, 1088), 4, {"preset": "12", "svtav1-params": "lp=1"})
    return muxed([packets[0], packets[1], packets[1] * 20_000], "libsvtav1", "matroska", (1920, 1088), extra)


# --- sounds ---


def repeated(packet: av.Packet, times: int) -> av.Packet:
    """A packet at the same time that holds another's bytes so often."""
    more = av.Packet(bytes(packet) * times)
    more.stream, more.time_base, more.duration = packet.stream, packet.time_base, packet.duration
    more.pts, more.dts = packet.pts, packet.dts
    return more


@bomb("blocks.m4a", refused=True)
def aac_blocks() -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=48000, layout="stereo")
        for number, packet in enumerate(audio_packets(stream, np.zeros(48000, np.float32), 48000, "stereo")):
            output.mux(repeated(packet, 500_000) if number == 20 else packet)
    return target.getvalue()


@bomb("blocks.mka", refused=True)
def flac_blocks() -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="matroska") as output:
        stream = output.add_stream("flac", rate=48000, layout="stereo")
        stream.options = {"frame_size": "65535"}
        for number, packet in enumerate(
            audio_packets(stream, np.zeros(65535 * 6, np.float32), 48000, "stereo", block=65535)
        ):
            output.mux(repeated(packet, 100_000) if number == 3 else packet)
    return target.getvalue()


def wav(channels: int, rate: int, data: bytes, width: int = 1) -> bytes:
    align = channels * width
    head = struct.pack("<HHIIHH", 1, channels & 65535, rate, rate * align & 0xFFFFFFFF, align & 65535, 8 * width)
    body = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@bomb("slow.wav")
def wav_one_hertz() -> bytes:
    return wav(1, 1, bytes(2_000_000))


@bomb("fast.wav", refused=True)
def wav_of_four_gigahertz() -> bytes:
    return wav(1, 4_000_000_000, bytes(2_000_000))


@bomb("channels.wav", refused=True)
def wav_channels() -> bytes:
    return wav(65535, 48000, bytes(65535 * 200))


@bomb("long.flac")
def flac_long() -> bytes:
    """Weeks of silence: blocks of 65,535 samples in a dozen bytes."""
    target = io.BytesIO()
    with av.open(target, "w", format="flac") as output:
        stream = output.add_stream("flac", rate=8000, layout="mono")
        stream.options = {"frame_size": "65535"}
        for packet in audio_packets(stream, np.zeros(65535 * 3000, np.float32), 8000, "mono", block=65535):
            output.mux(packet)
    return target.getvalue()


@bomb("links.ogg")
def ogg_links() -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="ogg") as output:
        stream = output.add_stream("libopus", rate=48000, layout="mono")
        for packet in audio_packets(stream, tone(0.06, 48000), 48000, "mono", block=960):
            output.mux(packet)
    return target.getvalue() * 9_000


# --- headers that claim ---


def film(container: str = "mp4", frames: int = 25, **muxer: str) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format=container, options=muxer) as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        output.mux(list(video_packets(stream, map(numbered, range(frames)), range(frames), TICK)))
    return target.getvalue()


def moov_of(data: bytes) -> tuple[int, int]:
    return next((start, size) for name, start, size in boxes(data, 0, len(data)) if name == b"moov")


def track(samples: int, number: int) -> bytes:
    """A track of one chunk that claims so many samples of no bytes."""
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    times = struct.pack(">IIIIII", 3, 0, 0, number, 0, samples)
    tkhd = box(b"tkhd", times + bytes(16) + matrix + struct.pack(">II", 96 << 16, 64 << 16))
    mdhd = box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 25, min(samples, 2**32 - 1), 0x55C4, 0))
    hdlr = box(b"hdlr", bytes(8) + b"vide" + bytes(13))
    shape = struct.pack(">HHIIIH", 96, 64, 0x480000, 0x480000, 0, 1)
    entry = box(b"avc1", bytes(6) + b"\0\1" + bytes(16) + shape + bytes(32) + struct.pack(">Hh", 24, -1))
    stbl = (
        box(b"stsd", struct.pack(">II", 0, 1) + entry)
        + box(b"stts", struct.pack(">IIII", 0, 1, samples, 1))
        + box(b"ctts", struct.pack(">IIII", 0, 1, samples, 1))
        + box(b"stsc", struct.pack(">IIIII", 0, 1, 1, samples, 1))
        + box(b"stsz", struct.pack(">III", 0, 1, samples))
        + box(b"stco", struct.pack(">III", 0, 1, 48))
    )
    minf = box(b"vmhd", bytes(12)) + box(b"dinf", box(b"dref", struct.pack(">II", 0, 1) + box(b"url ", b"\0\0\0\1")))
    return box(b"trak", tkhd + box(b"mdia", mdhd + hdlr + box(b"minf", minf + box(b"stbl", stbl))))


@bomb("samples.mp4", refused=True)
def mp4_samples() -> bytes:
    """Sixty tracks, each of ten million samples that a table of 20 bytes claims."""
    data = film()
    at, size = moov_of(data)
    tracks = b"".join(track(10_000_000, number) for number in range(2, 62))
    return data[:at] + box(b"moov", data[at + 8 : at + size] + tracks) + data[at + size :]


@bomb("billions.mp4", refused=True)
def mp4_billions() -> bytes:
    data = film()
    at, size = moov_of(data)
    return data[:at] + box(b"moov", data[at + 8 : at + size] + track(2**32 - 1, 2)) + data[at + size :]


@bomb("nested.mp4", refused=True)
def mp4_nested() -> bytes:
    data = film()
    at, size = moov_of(data)
    deep = box(b"free", b"")
    for _ in range(30_000):
        deep = box(b"udta", deep)
    return data[:at] + box(b"moov", data[at + 8 : at + size] + deep) + data[at + size :]


@bomb("boxes.mp4", refused=True)
def mp4_boxes() -> bytes:
    data = film()
    return data + box(b"free", b"") * 2_000_000


@bomb("edits.mp4", refused=True)
def mp4_edits() -> bytes:
    data = film()
    at, size = moov_of(data)
    body = data[at : at + size]
    edits = box(b"edts", box(b"elst", struct.pack(">II", 0, 1_000_000) + struct.pack(">Iihh", 1, 0, 1, 0) * 1_000_000))
    where = body.index(b"mdia") - 4
    trak = body.rindex(b"trak", 0, where) - 4
    (length,) = struct.unpack_from(">I", body, trak)
    inside = body[trak + 8 : where] + edits + body[where : trak + length]
    return data[:at] + box(b"moov", body[8:trak] + box(b"trak", inside) + body[trak + length :]) + data[at + size :]


@bomb("fragments.mp4", refused=True)
def mp4_fragments() -> bytes:
    """Fragments of millions of samples of no bytes."""
    data = film(movflags="frag_keyframe+empty_moov+default_base_moof")
    run = box(b"trun", struct.pack(">II", 0, 4_000_000))
    header = box(b"tfhd", struct.pack(">III", 0x020038, 1, 1) + struct.pack(">II", 1, 0))
    fragment = box(b"moof", box(b"mfhd", struct.pack(">II", 0, 1)) + box(b"traf", header + run * 8))
    return data + fragment * 20


@bomb("references.mov")
def mov_references() -> bytes:
    """A track whose data is another file on this machine."""
    data = film("mov")
    return data.replace(b"url \0\0\0\1", b"alis\0\0\0\0").replace(b"/dev/null", b"/etc/hosts")


def ebml(name: str, body: bytes) -> bytes:
    return bytes.fromhex(name) + struct.pack(">Q", len(body) | 1 << 56) + body


@bomb("nested.mkv")
def mkv_nested() -> bytes:
    data = film("matroska")
    deep = b""
    for _ in range(20_000):
        deep = ebml("7373", deep)
    return data + ebml("1254C367", deep)


@bomb("attachments.mkv")
def mkv_attachments() -> bytes:
    """Attached pictures of endless scans."""
    data = film("matroska")
    item = ebml("466E", b"cover.jpg") + ebml("4660", b"image/jpeg") + ebml("465C", scans(8000, 3000))
    item += ebml("46AE", b"\1")
    return data + ebml("1941A469", ebml("61A7", item) * 4)


@bomb("lacing.mkv")
def mkv_lacing() -> bytes:
    """Millions of frames of one byte, laced into blocks."""
    data = film("matroska")
    laced = b"\x81\0\0\x06" + bytes([255]) + bytes(256)  # fixed-size lacing, 256 frames
    cluster = ebml("1F43B675", ebml("E7", b"\0") + ebml("A3", laced) * 2_000)
    return data + cluster * 40


@bomb("cover.m4a", refused=True)
def m4a_cover() -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=48000, layout="mono")
        for packet in audio_packets(stream, tone(1, 48000), 48000, "mono"):
            output.mux(packet)
    data = target.getvalue()
    at, size = moov_of(data)
    item = box(b"covr", box(b"data", struct.pack(">II", 13, 0) + scans(8900, 3000)))
    art = box(b"udta", box(b"meta", bytes(4) + box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9)) + box(b"ilst", item)))
    inside = [(name, data[start : start + length]) for name, start, length in boxes(data, at + 8, at + size)]
    kept = [body for name, body in inside if name != b"udta"]
    return data[:at] + box(b"moov", b"".join(kept) + art) + data[at + size :]


QUICK = {"mjpeg_scans_avi", "aac_blocks", "flac_blocks", "mp4_samples", "mp4_billions", "mp4_fragments"}
"""Refused within milliseconds."""


def files() -> Iterator[Any]:
    """Yield every one for the corpus."""
    from tests.hostile.corpus import HostileFile

    for name, (filename, make, refused) in BOMBS.items():
        yield HostileFile(f"media/{name}", make, filename, refused=refused, quick=name in QUICK)
