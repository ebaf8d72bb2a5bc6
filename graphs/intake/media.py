"""Probes video and audio with FFmpeg, which is given one open file and no way to reach another."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
from av.stream import Disposition

from deployments.errors import InvalidMedia, MediaTooLarge
from graphs.intake.facts import Limits, Probe
from graphs.intake.sniff import Guess, is_webm
from ops.stores.records import MediaKind

_TIMEOUT_S: Final = 20.0
_MAX_PACKETS: Final = 1_000_000  # counted; ten hours of 25 fps video
_MAX_TRIES: Final = 300  # packets without a decodable frame
_BROKEN: Final = (av.FFmpegError, ValueError, LookupError, ArithmeticError, RuntimeError, AttributeError)

_COVERS: Final = int(Disposition.attached_pic | Disposition.timed_thumbnails)

# The decoders worth trusting with a stranger's bytes, out of FFmpeg's five hundred.
CODECS: Final = (
    "h264,hevc,av1,libdav1d,vp8,vp9,mpeg4,msmpeg4,msmpeg4v2,mpeg1video,mpeg2video,h263,mjpeg,prores,dnxhd,"
    "rawvideo,dvvideo,ffv1,huffyuv,aac,alac,mp3,mp3float,mp2,mp2float,ac3,eac3,opus,libopus,vorbis,libvorbis,"
    "flac,amrnb,amrwb,adpcm_ms,adpcm_ima_wav,adpcm_ima_qt,pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,"
    "pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be"
)

# (container, kind) -> (format, content type); a pair that is not here is refused.
_TYPES: Final[dict[tuple[str, MediaKind], tuple[str, str]]] = {
    ("mov", "video"): ("MP4", "video/mp4"),
    ("qt", "video"): ("MOV", "video/quicktime"),
    ("avi", "video"): ("AVI", "video/x-msvideo"),
    ("webm", "video"): ("WEBM", "video/webm"),
    ("matroska", "video"): ("MKV", "video/x-matroska"),
    ("mov", "audio"): ("M4A", "audio/mp4"),
    ("qt", "audio"): ("M4A", "audio/mp4"),
    ("webm", "audio"): ("WEBM", "audio/webm"),
    ("matroska", "audio"): ("MKA", "audio/x-matroska"),
    ("wav", "audio"): ("WAV", "audio/wav"),
    ("mp3", "audio"): ("MP3", "audio/mpeg"),
    ("flac", "audio"): ("FLAC", "audio/flac"),
    ("ogg", "audio"): ("OGG", "audio/ogg"),
}


class _Source:
    """A file for FFmpeg that ends when the time is up: whatever FFmpeg is doing then stops by itself."""

    def __init__(self, file: BinaryIO, seconds: float) -> None:
        self._file = file
        self._until = time.monotonic() + seconds

    def read(self, size: int) -> bytes:
        return self._file.read(size) if time.monotonic() < self._until else b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return -1 if whence == 0 and offset < 0 else self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@dataclass(slots=True)
class _Reading:
    """One pass over a stream: its first frame, how many packets came, and the time in s at which they end."""

    frame: Any = None
    packets: int = 0
    end: float = 0.0
    complete: bool = False


def probe_media(path: Path, guess: Guess, head: bytes, limits: Limits) -> Probe:
    """See ``graphs.intake.probe.probe``."""
    with opened_media(path, guess, limits.max_image_pixels) as container:
        stream = _main_stream(container)
        kind: MediaKind = stream.type if stream else "video"
        types = _TYPES.get((_flavour(container, guess, head), kind))
        if stream is None or types is None:
            raise InvalidMedia(f"This {guess.name} holds no picture or sound that can be used.")
        facts, size = Probe(kind, *types), path.stat().st_size
        if size > limits.bytes_of(kind):
            raise MediaTooLarge(
                f"This {facts.format} has {size / 2**20:.1f} MB; "
                f"{kind} may have {limits.bytes_of(kind) / 2**20:g} MB."
            )
        if kind == "audio":
            return _probe_audio(container, stream, facts)
        if stream.width * stream.height > limits.max_image_pixels:
            raise MediaTooLarge(
                f"This {facts.format} has frames of {stream.width} x {stream.height} pixels; "
                f"the limit is {limits.max_image_pixels / 1e6:g} million pixels. Send it smaller."
            )
        return _probe_video(container, stream, facts, size)


def _probe_audio(container: Any, stream: Any, facts: Probe) -> Probe:
    reading = _read(container, stream, facts, to_the_end=not container.duration)
    return replace(facts, duration=_duration(container, reading), has_audio=True)


def _probe_video(container: Any, stream: Any, facts: Probe, size: int) -> Probe:
    stated = stream.frames if 0 < stream.frames <= size else 0  # no frame takes less than a byte
    reading = _read(container, stream, facts, to_the_end=not (stated and container.duration))
    duration = _duration(container, reading)
    rate = stream.average_rate or stream.guessed_rate
    fps = float(rate) if rate else None
    count = stated or (reading.packets if reading.complete else round((duration or 0) * (fps or 0)))
    frame = reading.frame
    turn = -90 * round(frame.rotation / 90) % 360  # FFmpeg turns anticlockwise
    width, height = (frame.width, frame.height) if turn % 180 == 0 else (frame.height, frame.width)
    return replace(
        facts,
        width=width,
        height=height,
        duration=duration,
        fps=fps,
        frame_count=count or None,
        rotation=turn,
        has_audio=bool(container.streams.audio),
    )


@contextmanager
def opened_media(path: Path, guess: Guess, max_pixels: int) -> Iterator[Any]:
    """The container, read through one file object: its demuxer forced, nothing else to be opened."""
    options = {
        "format_whitelist": guess.demuxer,
        "codec_whitelist": CODECS,
        "protocol_whitelist": "none",
        "probesize": "5000000",  # bytes
        "analyzeduration": "5000000",  # microseconds
        "max_streams": "64",
        "max_pixels": str(max_pixels),
    }
    with path.open("rb") as file:
        try:
            with av.open(
                _Source(file, _TIMEOUT_S),
                "r",
                format=guess.demuxer,
                options=options,
                metadata_errors="replace",
                timeout=_TIMEOUT_S,
                io_open=_refuse,
            ) as container:
                yield container
        except _BROKEN as error:
            raise InvalidMedia(
                f"This {guess.name} is damaged, cut short or only named like one; upload the original file."
            ) from error


def _refuse(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    raise PermissionError("an upload may not open other files")


def _flavour(container: Any, guess: Guess, head: bytes) -> str:
    if guess.demuxer == "mov" and container.metadata.get("major_brand", "qt  ") == "qt  ":
        return "qt"  # QuickTime files from before the ftyp box have no brand
    return "webm" if guess.demuxer == "matroska" and is_webm(head) else guess.demuxer


def _main_stream(container: Any) -> Any:
    """The first stream of moving pictures, else of sound; cover art is neither."""
    pictures = [stream for stream in container.streams.video if not int(stream.disposition) & _COVERS]
    decodable = [stream for stream in (*pictures, *container.streams.audio) if stream.codec_context]
    return decodable[0] if decodable else None


def _read(container: Any, stream: Any, facts: Probe, *, to_the_end: bool) -> _Reading:
    """Raises ``InvalidMedia`` if none of the first packets gives a frame; later damage is tolerated."""
    reading = _Reading()
    codec = stream.codec_context
    codec.thread_count = 1
    codec.options = {"codec_whitelist": CODECS, "max_pixels": container.options["max_pixels"]}
    with suppress(*_BROKEN):
        for packet in container.demux(stream):
            if reading.frame is None:
                with suppress(*_BROKEN):
                    reading.frame = next(iter(packet.decode()), None)
            if packet.size and not packet.is_discard:
                reading.packets += 1
                end = (packet.pts or 0) + (packet.duration or 0)
                reading.end = max(reading.end, float(end * packet.time_base))
            if reading.packets >= (_MAX_TRIES if reading.frame is None else _MAX_PACKETS):
                break
            if reading.frame is not None and not to_the_end:
                break
        else:
            reading.complete = True
    if reading.frame is None:
        raise InvalidMedia(
            f"Nothing in this {facts.format} can be decoded (codec {codec.name}); export it as H.264 and AAC."
        )
    return reading


def _duration(container: Any, reading: _Reading) -> float | None:
    """Seconds as the container states them, else up to the end of the last packet."""
    stated = (container.duration or 0) / 1_000_000
    return stated if stated > 0 else reading.end or None
