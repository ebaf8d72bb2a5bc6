"""What is known of an upload before any model has seen it, and how much of it is allowed."""

from dataclasses import dataclass

from configs.settings import Settings
from stores.records import MediaKind


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes; ``max_image_pixels`` holds for one image and for one frame of a video."""

    max_image_bytes: int
    max_video_bytes: int
    max_audio_bytes: int
    max_image_pixels: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The limits of this process."""
        return cls(
            settings.max_image_bytes,
            settings.max_video_bytes,
            settings.max_audio_bytes,
            settings.max_image_pixels,
        )

    def bytes_of(self, kind: MediaKind) -> int:
        """Size limit of one kind of file."""
        return {
            "image": self.max_image_bytes,
            "video": self.max_video_bytes,
            "audio": self.max_audio_bytes,
        }[kind]


@dataclass(frozen=True, slots=True)
class Probe:
    """Facts of one file; what a kind does not have is None.

    ``width`` and ``height`` are pixels as shown, so after EXIF orientation or rotation. ``rotation`` is the
    clockwise turn, 0, 90, 180 or 270 degrees, that a player applies to decoded frames. ``duration``: seconds.

    ``frame_count`` is what the container states; else its packets, counted by demuxing; else, past a cap on
    packets and time, ``duration`` x ``fps``.
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
