"""Types an uploaded file by its bytes and probes it, before it is stored or shown to a model.

Facts of a video are those of ``VideoReader``, so an upload says of a file what every later request says.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from configs.settings import Settings
from vision.errors import InvalidMedia, MediaTooLarge
from vision.images import examine
from vision.media.audio import sound_duration
from vision.media.container import TIMEOUT_S, MediaFile
from vision.media.index import IndexBudget
from vision.media.reader import VideoReader
from vision.media.sniff import HEAD, SUPPORTED, Guess, MediaKind, is_webm, sniff

BUDGET: Final = IndexBudget(packets=1_000_000, seconds=10.0)
"""Ten hours of 25 fps video, in well under ``TIMEOUT_S``, after which the file appears to end."""
TRUSTED: Final = 30.0
"""How many times more or less than what was read so far gives a container may state, as bit rates vary."""
POSTER_SIDE: Final = 1280
POSTER_QUALITY: Final = 90

# Image formats whose content type is not their name.
_IMAGE_TYPES: Final = {"HEIF": "image/heic"}

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
    ("w64", "audio"): ("WAV", "audio/wav"),
    ("mp3", "audio"): ("MP3", "audio/mpeg"),
    ("aac", "audio"): ("AAC", "audio/aac"),
    ("flac", "audio"): ("FLAC", "audio/flac"),
    ("ogg", "audio"): ("OGG", "audio/ogg"),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes; ``max_image_pixels`` holds for one image and for one frame of a video."""

    max_image_bytes: int
    max_video_bytes: int
    max_audio_bytes: int
    max_image_pixels: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the limits of this process."""
        return cls(
            settings.max_image_bytes,
            settings.max_video_bytes,
            settings.max_audio_bytes,
            settings.max_image_pixels,
        )

    def bytes_of(self, kind: MediaKind) -> int:
        """Return the size limit of one kind of file."""
        return {
            "image": self.max_image_bytes,
            "video": self.max_video_bytes,
            "audio": self.max_audio_bytes,
        }[kind]

    def check(self, kind: MediaKind, name: str, size: int) -> None:
        """Raise MediaTooLarge when a file of this kind has too many bytes; ``name`` is its format."""
        if size > self.bytes_of(kind):
            whose = "an image" if kind == "image" else kind
            raise MediaTooLarge(
                f"This {name} has {size / 2**20:.1f} MB; {whose} may have {self.bytes_of(kind) / 2**20:g} MB."
            )

    def check_frame(self, name: str, width: int, height: int) -> None:
        """Raise MediaTooLarge when a frame of a video of format ``name`` has too many pixels."""
        if width * height > self.max_image_pixels:
            raise MediaTooLarge(
                f"This {name} has frames of {width} x {height} pixels; "
                f"the limit is {self.max_image_pixels / 1e6:g} million pixels. Send it smaller."
            )


@dataclass(frozen=True, slots=True)
class Probe:
    """Facts of one file; what a kind does not have is None.

    ``width`` and ``height`` are pixels as shown, so after EXIF orientation or rotation. ``rotation`` is the clockwise
    turn, 0, 90, 180 or 270 degrees, that a player applies to decoded frames. ``duration``: seconds, of a video those
    of its shown frames; ``fps``: frames a second on average.

    Frames of a video are counted from its packets. Past a cap on packets and time (``BUDGET``) count and duration are
    those that the container states, if they agree with the share of the bytes that was read, or what that gives.
    """

    kind: MediaKind
    format: str
    content_type: str
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    fps: float | None = None
    frame_count: int | None = None
    rotation: int | None = None
    has_audio: bool | None = None


def probe(path: Path, limits: Limits, *, poster: Path | None = None) -> Probe:
    """Return what the file at ``path`` is: its first frame (or sound) has been decoded when this returns.

    Of a video, ``poster`` is written: the key frame at or before its middle as a JPEG, upright, no side over 1280
    pixels. Blocks for milliseconds to seconds: run it in a thread. Raises InvalidMedia and MediaTooLarge; an
    ``OSError`` means that the spool cannot be read or written.
    """
    with path.open("rb") as file:
        guess = sniff(file)
        file.seek(0)
        head = file.read(HEAD)
    if not head:
        raise InvalidMedia("The file is empty.")
    if guess.kind == "refused":
        raise InvalidMedia(f"{guess.name} is no supported format; send {SUPPORTED}.")
    if guess.kind == "container":
        return _probe_container(path, guess, head, limits, poster)
    limits.check("image", guess.name, path.stat().st_size)
    return _probe_image(path.read_bytes(), limits.max_image_pixels)


def _probe_image(data: bytes, max_pixels: int) -> Probe:
    facts = examine(data, max_pixels)
    name = facts.format
    return Probe("image", name, _IMAGE_TYPES.get(name, f"image/{name.lower()}"), facts.width, facts.height)


def _probe_container(path: Path, guess: Guess, head: bytes, limits: Limits, poster: Path | None) -> Probe:
    max_pixels = limits.max_image_pixels
    opened_file = MediaFile(path, demuxer=guess.demuxer, max_pixels=max_pixels, total_s=TIMEOUT_S, label=guess.name)
    with opened_file as media, media.errors():
        kind = media.kind
        types = _TYPES.get((_flavour(media, guess, head), kind)) if kind else None
        if kind is None or types is None:
            raise InvalidMedia(f"This {guess.name} holds no picture or sound that can be used.")
        facts, size = Probe(kind, *types), path.stat().st_size
        limits.check(kind, facts.format, size)
        if kind == "audio":
            return replace(facts, duration=sound_duration(media, BUDGET), has_audio=True)
        stream = min((media.container.streams[n] for n in media.videos), key=lambda s: s.width * s.height)
        limits.check_frame(facts.format, stream.width, stream.height)
        return _probe_video(media, facts, size, limits, poster)


def _flavour(media: MediaFile, guess: Guess, head: bytes) -> str:
    if guess.demuxer == "mov" and media.container.metadata.get("major_brand", "qt  ") == "qt  ":
        return "qt"  # QuickTime files from before the ftyp box have no brand
    return "webm" if guess.demuxer == "matroska" and is_webm(head) else guess.demuxer


def _probe_video(media: MediaFile, facts: Probe, size: int, limits: Limits, poster: Path | None) -> Probe:
    with VideoReader(media, threads=1, budget=BUDGET) as reader:
        limits.check_frame(facts.format, reader.facts.width, reader.facts.height)
        if poster is not None:
            _write_poster(reader, poster)
        read = reader.facts
        facts = replace(
            facts,
            width=read.width,
            height=read.height,
            duration=read.duration,
            fps=read.fps,
            frame_count=read.frame_count,
            rotation=read.rotation,
            has_audio=read.has_audio,
        )
        return facts if reader.index.complete else replace(facts, **_estimated(media, reader, size))


def _estimated(media: MediaFile, reader: VideoReader, size: int) -> dict[str, Any]:
    """Return duration and number of frames of a file of ``size`` bytes that was not read whole.

    They are those that the container states where the part that was read makes them likely.
    """
    read = reader.index.bytes_read
    grows = size / read if 0 < read < size else 1.0

    def likely(stated: float, estimate: float) -> float:
        return stated if estimate / TRUSTED <= stated <= estimate * TRUSTED else estimate

    duration = likely(media.stated_s or 0.0, reader.facts.duration * grows)
    frames = likely(media.container.streams[reader.stream].frames, duration * reader.facts.fps)
    return {"duration": duration, "frame_count": round(frames)}


def _write_poster(reader: VideoReader, path: Path) -> None:
    from PIL import Image

    image = Image.fromarray(reader.pixels(reader.keyframe(reader.facts.duration / 2)))
    image.thumbnail((POSTER_SIDE, POSTER_SIDE))
    image.save(path, "JPEG", quality=POSTER_QUALITY)
