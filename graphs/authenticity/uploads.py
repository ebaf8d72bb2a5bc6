"""Files that are sent to be analyzed: how many are admitted at once, and which kinds, recognized by their bytes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import Request

from deployments.serving.handle import work_on
from deployments.serving.streams import in_time
from graphs.authenticity.errors import UndecodableMedia, UnsupportedFileType
from graphs.web.admission import Admission
from graphs.web.context import Context
from graphs.web.limits import file_too_large
from graphs.web.uploads.spool import SpooledUpload, spool_uploads
from vision.deadlines import request_deadline
from vision.errors import InvalidMedia, MediaTooLarge
from vision.media.probe import Limits, Probe, probe
from vision.media.sniff import MediaKind, sniff

MOST_IN_BATCH: Final = 10
IMAGES_WAITING: Final = 64
SOUNDS_AT_ONCE: Final = 4
SOUNDS_WAITING: Final = 16
VIDEOS_AT_ONCE: Final = 8
"""Videos on disk; ``VIDEOS_DECODED_AT_ONCE`` of them are decoded while the others wait."""
VIDEOS_DECODED_AT_ONCE: Final = 2
WAIT_SHARE: Final = 0.5
"""Share of its time that a video may wait to be decoded; the analysis needs the rest."""
SUPPORTED: Final[dict[MediaKind, tuple[str, ...]]] = {
    "image": (".jpg", ".jpeg", ".png", ".webp"),
    "video": (".mp4", ".avi", ".mov", ".webm", ".mkv"),
    "audio": (".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg"),
}
_NAMES: Final[dict[MediaKind, frozenset[str]]] = {
    "image": frozenset({"JPEG", "PNG", "WEBP"}),
    "video": frozenset({"MP4", "AVI", "Matroska file"}),
    "audio": frozenset({"WAV", "MP3", "MP4", "AAC", "FLAC", "OGG"}),
}


@dataclass(frozen=True, slots=True)
class Submission:
    """A file on disk that was sent to be analyzed; ``demuxer``: FFmpeg's name of its container, empty for an image."""

    path: Path
    filename: str
    facts: Probe
    demuxer: str


class Uploads:
    """Spools the files that the routes of one gateway receive.

    Each kind has its own admission, so images do not wait for videos.
    """

    def __init__(self, context: Context) -> None:
        settings = context.settings
        self._settings, self._spool = settings, context.spool
        size = settings.max_analysis_bytes
        self._limits = Limits(size, size, size, settings.max_image_pixels)
        self._admission: dict[MediaKind, Admission] = {
            "image": Admission("images", settings.max_uploads_at_once, IMAGES_WAITING),
            "audio": Admission("sounds", SOUNDS_AT_ONCE, SOUNDS_WAITING),
            "video": Admission("videos", VIDEOS_AT_ONCE, 0),
        }
        self._decoding = Admission("videos", VIDEOS_DECODED_AT_ONCE, VIDEOS_AT_ONCE)

    @asynccontextmanager
    async def spooled(
        self, request: Request, kind: MediaKind, field: str, most: int = 1
    ) -> AsyncIterator[list[SpooledUpload]]:
        """Spool the files of a form, and keep them until the block ends.

        The request's time begins when they have arrived, as their transfer takes as long as its sender's line needs.
        Raises StageOverloaded, and as ``spool_uploads``.
        """
        header, settings = request.headers.get("content-type", ""), self._settings
        limit, admission = settings.max_analysis_bytes, self._admission[kind]
        admission.refuse_when_full()
        async with AsyncExitStack() as held:
            spooling = spool_uploads(request.stream(), header, self._spool, limit, field, max_files=most)
            try:
                files = await held.enter_async_context(spooling)
            except MediaTooLarge as error:
                raise MediaTooLarge(f"{file_too_large(limit)} ({error.message.rstrip('.')}.)") from error
            request_deadline.set(time.time() + settings.analysis_timeout_s)
            await held.enter_async_context(admission.slot())
            yield files

    @asynccontextmanager
    async def decoding_slot(self) -> AsyncIterator[None]:
        """Wait until a spooled video may be decoded. Raises StageOverloaded when that takes too long."""
        async with self._decoding.slot(WAIT_SHARE):
            yield

    async def checked(self, upload: SpooledUpload, kind: MediaKind) -> Submission:
        """Probe a file and return it if it is of the kind that the route takes.

        Raises UnsupportedFileType, UndecodableMedia, MediaTooLarge and DeadlineExceeded.
        """
        work_on(f"upload {upload.sha256_hex}")
        return await in_time(asyncio.to_thread(self._checked, upload, kind))

    def _checked(self, upload: SpooledUpload, kind: MediaKind) -> Submission:
        with upload.path.open("rb") as file:
            guess = sniff(file)
        if guess.name not in _NAMES[kind]:
            raise UnsupportedFileType.of(guess.name if guess.kind == "refused" else f"a {guess.name}", SUPPORTED[kind])
        try:
            facts = probe(upload.path, self._limits)
        except InvalidMedia as error:
            raise UndecodableMedia(error.message) from error
        if facts.kind != kind:
            raise UnsupportedFileType.of(f"this {facts.format} is {facts.kind}", SUPPORTED[kind])
        return Submission(upload.path, upload.filename, facts, guess.demuxer)
