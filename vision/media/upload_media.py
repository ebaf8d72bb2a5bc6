"""Facts of video and audio files."""

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from av.stream import Disposition

from stores.records import MediaKind
from vision.errors import InvalidMedia, MediaTooLarge
from vision.media.facts import Limits, Probe
from vision.media.sniff import Guess, is_webm
from vision.media.upload_container import BROKEN, armed, opened_media

_MAX_PACKETS: Final = 1_000_000  # counted; ten hours of 25 fps video
_MAX_COUNTING_S: Final = 10.0  # well inside the time after which the file seems to end
_MAX_TRIES: Final = 300  # packets without a decodable frame
_COVERS: Final = int(Disposition.attached_pic | Disposition.timed_thumbnails)

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


@dataclass(slots=True)
class _Reading:
    """One pass over a stream: its first frame, how many packets came, and the time in s at which they end."""

    frame: Any = None
    packets: int = 0
    end: float = 0.0
    complete: bool = False


def probe_media(path: Path, guess: Guess, head: bytes, limits: Limits) -> Probe:
    """See ``vision.media.probe.probe``."""
    with opened_media(path, guess, limits.max_image_pixels) as container:
        stream = _main_stream(container, limits.max_image_pixels)
        kind: MediaKind = stream.type if stream else "video"
        types = _TYPES.get((_flavour(container, guess, head), kind))
        if stream is None or types is None:
            raise InvalidMedia(f"This {guess.name} holds no picture or sound that can be used.")
        facts, size = Probe(kind, *types), path.stat().st_size
        if size > limits.bytes_of(kind):
            raise MediaTooLarge(
                f"This {facts.format} has {size / 2**20:.1f} MB; {kind} may have {limits.bytes_of(kind) / 2**20:g} MB."
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


def _flavour(container: Any, guess: Guess, head: bytes) -> str:
    if guess.demuxer == "mov" and container.metadata.get("major_brand", "qt  ") == "qt  ":
        return "qt"  # QuickTime files from before the ftyp box have no brand
    return "webm" if guess.demuxer == "matroska" and is_webm(head) else guess.demuxer


def _main_stream(container: Any, max_pixels: int) -> Any:
    """The first stream of moving pictures, else of sound; cover art is neither."""
    pictures = [stream for stream in container.streams.video if not int(stream.disposition) & _COVERS]
    decodable = [stream for stream in (*pictures, *container.streams.audio) if stream.codec_context]
    return armed(decodable[0], max_pixels) if decodable else None


def _read(container: Any, stream: Any, facts: Probe, *, to_the_end: bool) -> _Reading:
    """Raises ``InvalidMedia`` if none of the first packets gives a frame; later damage is tolerated."""
    reading, until = _Reading(), time.monotonic() + _MAX_COUNTING_S
    with suppress(*BROKEN):
        for packet in container.demux(stream):
            if reading.frame is None:
                with suppress(*BROKEN):
                    reading.frame = next(iter(packet.decode()), None)
            if packet.size and not packet.is_discard:
                reading.packets += 1
                end = (packet.pts or 0) + (packet.duration or 0)
                reading.end = max(reading.end, float(end * packet.time_base))
            if reading.packets >= (_MAX_TRIES if reading.frame is None else _MAX_PACKETS):
                break
            if reading.frame is not None and (not to_the_end or time.monotonic() > until):
                break
        else:
            reading.complete = True
    if reading.frame is None:  # a damaged end keeps the demuxer from flushing what the decoder holds back
        with suppress(*BROKEN):
            reading.frame = next(iter(stream.decode(None)), None)
    if reading.frame is None:
        raise InvalidMedia(
            f"Nothing in this {facts.format} can be decoded (codec {stream.codec_context.name}); "
            "export it as H.264 and AAC."
        )
    return reading


def _duration(container: Any, reading: _Reading) -> float | None:
    """Seconds as the container states them, else up to the end of the last packet."""
    stated = (container.duration or 0) / 1_000_000
    return stated if stated > 0 else reading.end or None
