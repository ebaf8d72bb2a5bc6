"""What may be handed in to be judged: told by the bytes, before anything of it is decoded."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import Request

from configs.settings import Settings
from deployments.errors import InvalidMedia
from deployments.handle import request_deadline
from graphs.authenticity.errors import UndecodableMedia, UnsupportedFileType
from graphs.intake.facts import Limits, Probe
from graphs.intake.probe import probe
from graphs.intake.sniff import HEAD, sniff
from graphs.intake.spool import SpooledUpload, spool_uploads
from ops.stores.records import MediaKind

MOST_IN_BATCH: Final = 10
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
    """Spools what routes of one gateway are sent, a bounded number at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        size = settings.max_analysis_bytes
        self._limits = Limits(size, size, size, settings.max_image_pixels)
        self._room = asyncio.Semaphore(settings.max_uploads_at_once)

    @asynccontextmanager
    async def spooled(self, request: Request, field: str, most: int) -> AsyncIterator[list[SpooledUpload]]:
        """The files of a form on disk, until the block ends. Raises as ``spool_uploads``.

        The request's time begins when they are here: how long that takes is its sender's line.
        """
        header, settings = request.headers.get("content-type", ""), self._settings
        async with (
            self._room,
            spool_uploads(
                request.stream(), header, settings.spool, settings.max_analysis_bytes, field, max_files=most
            ) as files,
        ):
            request_deadline.set(time.time() + settings.analysis_timeout_s)
            yield files

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
