"""What may be handed in to be judged: told by the bytes, before anything of it is decoded."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import Request

from configs.settings import Settings
from deployments.serving.handle import request_deadline, time_left
from graphs.authenticity.errors import UndecodableMedia, UnsupportedFileType
from graphs.authenticity.rooms import Room
from graphs.web.limits import file_too_large
from graphs.web.uploads.spool import SpooledUpload, spool_uploads
from vision.errors import InvalidMedia, MediaTooLarge
from vision.media.probe import Limits, Probe, probe
from vision.media.sniff import HEAD, MediaKind, sniff

MOST_IN_BATCH: Final = 10
PICTURES_WAITING: Final = 64
SOUNDS_AT_HAND: Final = 4
SOUNDS_WAITING: Final = 16
VIDEOS_AT_HAND: Final = 8
"""On disk; of them ``VIDEOS_AT_ONCE`` are decoded, and the others wait for their turn."""
VIDEOS_AT_ONCE: Final = 2
PATIENCE: Final = 0.5
"""Share of its time that a video waits for its turn: the rest is what it takes to look at it."""
SUPPORTED: Final[dict[MediaKind, tuple[str, ...]]] = {
    "image": (".jpg", ".jpeg", ".png", ".webp"),
    "video": (".mp4", ".avi", ".mov", ".webm", ".mkv"),
    "audio": (".wav", ".mp3", ".m4a", ".flac", ".ogg"),
}
_NAMES: Final[dict[MediaKind, frozenset[str]]] = {
    "image": frozenset({"JPEG", "PNG", "WEBP"}),
    "video": frozenset({"MP4", "AVI", "Matroska file"}),
    "audio": frozenset({"WAV", "MP3", "MP4", "FLAC", "OGG"}),
}


@dataclass(frozen=True, slots=True)
class Handed:
    """One file: its facts, and FFmpeg's name of its container, empty for an image."""

    path: Path
    filename: str
    facts: Probe
    demuxer: str


class Uploads:
    """Spools what routes of one gateway are sent: a bounded number of each kind at once, and a bounded number waits.

    Each kind has places of its own, so that pictures need not wait for videos.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        size = settings.max_analysis_bytes
        self._limits = Limits(size, size, size, settings.max_image_pixels)
        self._rooms: dict[MediaKind, Room] = {
            "image": Room("uploads of pictures", settings.max_uploads_at_once, PICTURES_WAITING),
            "audio": Room("sounds", SOUNDS_AT_HAND, SOUNDS_WAITING),
            "video": Room("videos", VIDEOS_AT_HAND, 0),
        }
        self._turns = Room("videos", VIDEOS_AT_ONCE, VIDEOS_AT_HAND)

    @asynccontextmanager
    async def spooled(
        self, request: Request, kind: MediaKind, field: str, most: int = 1
    ) -> AsyncIterator[list[SpooledUpload]]:
        """The files of a form on disk, until the block ends. Raises StageOverloaded, and as ``spool_uploads``.

        The request's time begins when they are here: how long that takes is its sender's line.
        """
        header, settings = request.headers.get("content-type", ""), self._settings
        limit = settings.max_analysis_bytes
        async with self._rooms[kind].entered(time_left()), AsyncExitStack() as held:
            spooling = spool_uploads(request.stream(), header, settings.spool, limit, field, max_files=most)
            try:
                files = await held.enter_async_context(spooling)
            except MediaTooLarge as error:
                raise MediaTooLarge(f"{file_too_large(limit)} ({error.message.rstrip('.')}.)") from error
            request_deadline.set(time.time() + settings.analysis_timeout_s)
            yield files

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The turn of a spooled video to be looked at. Raises StageOverloaded when it does not come soon enough."""
        left = time_left()
        async with self._turns.entered(None if left is None else PATIENCE * left):
            yield

    async def checked(self, upload: SpooledUpload, kind: MediaKind) -> Handed:
        """The file, once it turned out to be what the route takes.

        Raises UnsupportedFileType, UndecodableMedia and MediaTooLarge.
        """
        return await asyncio.to_thread(self._checked, upload, kind)

    def _checked(self, upload: SpooledUpload, kind: MediaKind) -> Handed:
        with upload.path.open("rb") as file:
            guess = sniff(file.read(HEAD))
        if guess.name not in _NAMES[kind]:
            raise UnsupportedFileType.of(guess.name if guess.kind == "refused" else f"a {guess.name}", SUPPORTED[kind])
        try:
            facts = probe(upload.path, self._limits)
        except InvalidMedia as error:
            raise UndecodableMedia(error.message) from error
        if facts.kind != kind:
            raise UnsupportedFileType.of(f"this {facts.format} is {facts.kind}", SUPPORTED[kind])
        return Handed(upload.path, upload.filename, facts, guess.demuxer)
