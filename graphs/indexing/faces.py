"""Get the faces of pictures on demand: from the document store, or from the stages that detect and embed them."""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, TypeAlias

import numpy as np

from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY, FaceVector
from graphs.indexing.inference import BLANK
from graphs.web.context import Context
from graphs.web.errors import AssetNotFound
from graphs.web.images import ImageDecoder
from graphs.web.per_asset import PerAsset
from graphs.web.uploads.library import Library
from stores.records import PLACE_COLUMNS, Asset, PictureFaces
from vision.errors import InvalidMedia, StageError
from vision.faces.face import Face

INFO_TTL_S: Final = 15.0
ASSETS_AT_ONCE: Final = 4
"""Encoded pictures in memory at once: half of what the gateway holds decoded for all requests."""
MAX_FACES: Final = 100
"""Faces kept of one picture, the largest ones."""

EmbeddedFace: TypeAlias = tuple[Face, FaceVector]


class FaceSource:
    """Get the faces of any number of assets, detecting those of each at most once at a time in this process.

    Faces are stored by asset and by the models that found them; those of a video are the faces of its poster.
    """

    def __init__(self, context: Context, library: Library) -> None:
        self._context = context
        self._library = library
        self._pictures = ImageDecoder(context.settings.max_image_pixels)
        self._slots = asyncio.Semaphore(ASSETS_AT_ONCE)
        self._computed = PerAsset(self._compute)
        self._version = ""
        self._version_at = 0.0

    async def of(self, asset: Asset) -> tuple[EmbeddedFace, ...]:
        """Return the faces of an asset, largest first; none where none was detected. Raises its StageError."""
        faces, failures = await self.many([asset])
        for error in failures.values():
            raise error
        return faces[asset.asset_id]

    async def many(self, assets: Iterable[Asset]) -> tuple[dict[str, tuple[EmbeddedFace, ...]], dict[str, StageError]]:
        """Return faces by asset id, largest first, and the error of each asset whose picture cannot be used.

        Errors that may go away by themselves, of a stage or a store, are raised, and so is ModelNotLoaded.
        """
        wanted = {asset.asset_id: asset for asset in assets}
        stored = await self._context.documents.get_faces(await self.model_version(), wanted)
        faces = {asset_id: _from_record(record) for asset_id, record in stored.items()}
        missing = [asset for asset_id, asset in wanted.items() if asset_id not in faces]
        computed, failures = await self._computed.many(missing)
        return faces | computed, failures

    async def model_version(self) -> str:
        """Return the version that faces are stored under: detector, its threshold, and recognizer, as they serve now.

        Raises ModelNotLoaded with a stage's reason, StageUnavailable when one does not answer.
        """
        if not self._version or time.monotonic() - self._version_at > INFO_TTL_S:
            detector, recognizer = await asyncio.gather(
                self._context.stage(FACES).ready_info(BLANK), self._context.stage(IDENTITY).ready_info((BLANK, ()))
            )
            version = f"{detector['model_version']}:{detector.get('threshold', '')}"
            self._version = f"{version}+{recognizer['model_version']}"
            self._version_at = time.monotonic()
        return self._version

    async def _compute(self, asset: Asset) -> tuple[EmbeddedFace, ...]:
        version = await self.model_version()
        try:
            async with self._slots:
                faces = await self._detect(await self._library.picture(asset))
        except InvalidMedia as error:
            await self._context.documents.set_asset_error(asset.asset_id, error.message)
            raise
        if not await self._context.documents.put_faces(_to_record(asset.asset_id, version, faces)):
            raise AssetNotFound([asset.asset_id])
        return faces

    async def _detect(self, data: bytes) -> tuple[EmbeddedFace, ...]:
        async with self._pictures.decoded(data) as picture:
            detected = await self._context.stage(FACES)(picture.image)
            faces = tuple(sorted(detected, key=lambda face: -face.width * face.height)[:MAX_FACES])
            if not faces:
                return ()
            vectors = await self._context.stage(IDENTITY)((picture.image, faces))
        return tuple(zip(faces, vectors, strict=True))


def _to_record(asset_id: str, version: str, faces: tuple[EmbeddedFace, ...]) -> PictureFaces:
    places = [
        (
            *(face.x, face.y, face.width, face.height, face.confidence),
            *(number for point in face.landmarks for number in point),
            vector.quality,
        )
        for face, vector in faces
    ]
    return PictureFaces(
        asset_id=asset_id,
        model_version=version,
        places=np.array(places, np.float32).reshape(-1, PLACE_COLUMNS),
        vectors=np.array([vector.vector for _, vector in faces], np.float32),
        created_at=datetime.now(UTC),
    )


def _from_record(record: PictureFaces) -> tuple[EmbeddedFace, ...]:
    return tuple(
        (
            Face(x, y, width, height, confidence, tuple(zip(points[::2], points[1::2], strict=True))),
            FaceVector(vector, quality),
        )
        for (x, y, width, height, confidence, *points, quality), vector in zip(
            record.places.tolist(), record.vectors, strict=True
        )
    )
