"""Photos of a request: decoded from base64 or a form, checked, and encoded by the ensemble."""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import UploadFile

from deployments.muzzle.ensemble import ENSEMBLE
from deployments.serving.handle import work_on
from graphs.web.context import Context, task_group
from graphs.web.filenames import base_name, unescaped
from graphs.web.images import from_base64
from vision.errors import InvalidInput, InvalidMedia, MediaTooLarge, StageUnavailable
from vision.muzzle.ensemble import MuzzleEncoding

SIGNATURES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")

_DATA_URI = re.compile(r"data:[\w.+/;=-]{0,100};base64,")


@dataclass(frozen=True, slots=True)
class Photo:
    """Bytes of one photo; ``name`` is its field, or its file name where one was sent."""

    name: str
    data: bytes


class MuzzlePhotos:
    """Reads and encodes photos."""

    def __init__(self, context: Context) -> None:
        self._ensemble = context.stage(ENSEMBLE)
        self._max_bytes = context.settings.max_muzzle_photo_bytes

    async def from_text(self, field: str, data: str) -> Photo:
        """Decode base64, with or without a data-URI prefix. Raises MediaTooLarge and InvalidMedia, naming the field."""
        prefix = _DATA_URI.match(data[:128])
        text = data[prefix.end() :] if prefix else data
        try:
            decoded = await asyncio.to_thread(from_base64, text, self._max_bytes)
        except MediaTooLarge as error:
            raise MediaTooLarge(f"{field}: {error.message}") from None
        except InvalidMedia:
            raise InvalidMedia(
                f"{field} is no base64: A-Z a-z 0-9 + / and padding, without line breaks; "
                "a prefix like data:image/jpeg;base64, may stand before it."
            ) from None
        return self._checked(field, decoded)

    async def from_texts(self, field: str, photos: Sequence[str]) -> list[Photo]:
        """Decode each of a list of base64 texts. Raises as ``from_text`` does."""
        return [await self.from_text(f"{field}[{index}]", data) for index, data in enumerate(photos)]

    async def from_file(self, field: str, file: UploadFile) -> Photo:
        """Read a file of a form. Raises as ``from_text`` does."""
        if (file.size or 0) > self._max_bytes:
            raise MediaTooLarge(f"{field} has {file.size:,} bytes; the limit is {self._max_bytes:,}.")
        return self._checked(base_name(unescaped(file.filename or field)), await file.read())

    async def encode(self, photos: Sequence[Photo]) -> list[MuzzleEncoding]:
        """Encode all photos by one version of the models, in order. Raises the StageError of the first that fails."""
        async with task_group() as group:
            tasks = [group.create_task(self._encode(photo)) for photo in photos]
        encodings = [task.result() for task in tasks]
        if len({encoding.model_version for encoding in encodings}) > 1:
            raise StageUnavailable("The models are being exchanged; try again in a few seconds.")
        return encodings

    async def _encode(self, photo: Photo) -> MuzzleEncoding:
        work_on(f"muzzle photo {hashlib.sha256(photo.data).hexdigest()}")
        try:
            return await self._ensemble(photo.data)
        except (InvalidInput, InvalidMedia, MediaTooLarge) as error:
            raise type(error)(f"{photo.name}: {error.message}") from None

    def _checked(self, name: str, data: bytes) -> Photo:
        if not data.startswith(SIGNATURES):
            raise InvalidMedia(f"{name} is neither a JPEG nor a PNG image; send one of these.")
        return Photo(name, data)
