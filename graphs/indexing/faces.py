"""Faces of assets on demand: from the document store, or from the stages that find and embed them."""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, TypeAlias

import numpy as np

from deployments.people.identity import FaceVector
from graphs.assets.measures import FACES
from graphs.indexing.serving import BLANK
from graphs.web.context import Context
from graphs.web.errors import AssetNotFound
from graphs.web.images import ImageDecoder
from graphs.web.uploads.library import Library
from stores.records import PLACE_COLUMNS, Asset, PictureFaces
from vision.errors import InvalidMedia, ModelNotLoaded, StageError
from vision.faces.face import Face

IDENTITY = "people/identity"
INFO_TTL_S: Final = 15.0
ASSETS_AT_ONCE: Final = 4
"""Encoded pictures at hand at once: half of what the gateway holds decoded for all requests."""
MAX_FACES: Final = 100
"""Faces kept of one picture, the largest ones."""

SeenFace: TypeAlias = tuple[Face, FaceVector]


class FaceSource:
    """Gets the faces of any number of assets, looking for them at most once at a time in this process.

    Faces are kept by asset and by the models that found them; those of a video are the faces of its poster.
    """

    def __init__(self, context: Context, library: Library) -> None:
        self._context = context
        self._library = library
        self._pictures = ImageDecoder(context.settings.max_image_pixels)
        self._room = asyncio.Semaphore(ASSETS_AT_ONCE)
        self._computing: dict[str, asyncio.Task[tuple[SeenFace, ...]]] = {}
        self._version = ""
        self._version_at = 0.0

    async def of(self, asset: Asset) -> tuple[SeenFace, ...]:
        """Its faces, largest first; none where none was found. Raises the StageError of this asset."""
        found, failures = await self.many([asset])
        for error in failures.values():
            raise error
        return found[asset.asset_id]

    async def many(self, assets: Iterable[Asset]) -> tuple[dict[str, tuple[SeenFace, ...]], dict[str, StageError]]:
        """Faces by asset id, largest first, and the error of each asset whose picture could not be looked at.

        Errors of a stage or a store, which pass by themselves, are raised, and ModelNotLoaded without weights.
        """
        wanted = {asset.asset_id: asset for asset in assets}
        stored = await self._context.documents.get_faces(await self.model_version(), wanted)
        found = {asset_id: _seen(faces) for asset_id, faces in stored.items()}
        missing = [asset for asset_id, asset in wanted.items() if asset_id not in found]
        results = await asyncio.gather(*(self._compute_once(asset) for asset in missing), return_exceptions=True)
        failures: dict[str, StageError] = {}
        for asset, result in zip(missing, results, strict=True):
            if isinstance(result, tuple):
                found[asset.asset_id] = result
            elif isinstance(result, StageError) and not (result.retryable or isinstance(result, ModelNotLoaded)):
                failures[asset.asset_id] = result
            else:
                raise result
        return found, failures

    async def model_version(self) -> str:
        """Under which faces are kept: detector, its threshold, and recognizer, as they serve now.

        Raises ModelNotLoaded with a stage's reason, StageUnavailable when one does not answer.
        """
        if not self._version or time.monotonic() - self._version_at > INFO_TTL_S:
            stages = self._context.stages
            detector, recognizer = await asyncio.gather(
                stages[FACES].ready_info(BLANK), stages[IDENTITY].ready_info((BLANK, ()))
            )
            found = f"{detector['model_version']}:{detector.get('threshold', '')}"
            self._version = f"{found}+{recognizer['model_version']}"
            self._version_at = time.monotonic()
        return self._version

    async def _compute_once(self, asset: Asset) -> tuple[SeenFace, ...]:
        task = self._computing.get(asset.asset_id)
        if task is None:
            task = asyncio.create_task(self._compute(asset))
            self._computing[asset.asset_id] = task
            task.add_done_callback(lambda done: self._computed(asset.asset_id, done))
        # Shielded: one caller that leaves must not take the answer from the others.
        return await asyncio.shield(task)

    def _computed(self, asset_id: str, task: asyncio.Task[tuple[SeenFace, ...]]) -> None:
        self._computing.pop(asset_id, None)
        if not task.cancelled():
            # Looked at here because every caller may have left; asyncio would report it as lost.
            task.exception()

    async def _compute(self, asset: Asset) -> tuple[SeenFace, ...]:
        version = await self.model_version()
        try:
            async with self._room:
                seen = await self._look(await self._library.picture(asset))
        except InvalidMedia as error:
            await self._context.documents.set_asset_error(asset.asset_id, error.message)
            raise
        if not await self._context.documents.put_faces(_record(asset.asset_id, version, seen)):
            raise AssetNotFound([asset.asset_id])
        return seen

    async def _look(self, data: bytes) -> tuple[SeenFace, ...]:
        async with self._pictures.decoded(data) as picture:
            found: tuple[Face, ...] = await self._context.stages[FACES](picture.image)
            faces = tuple(sorted(found, key=lambda face: -face.width * face.height)[:MAX_FACES])
            if not faces:
                return ()
            vectors: tuple[FaceVector, ...] = await self._context.stages[IDENTITY]((picture.image, faces))
        return tuple(zip(faces, vectors, strict=True))


def _record(asset_id: str, version: str, seen: tuple[SeenFace, ...]) -> PictureFaces:
    places = [
        (
            *(face.x, face.y, face.width, face.height, face.confidence),
            *(number for point in face.landmarks for number in point),
            vector.quality,
        )
        for face, vector in seen
    ]
    return PictureFaces(
        asset_id=asset_id,
        model_version=version,
        places=np.array(places, np.float32).reshape(-1, PLACE_COLUMNS),
        vectors=np.array([vector.vector for _, vector in seen], np.float32),
        created_at=datetime.now(UTC),
    )


def _seen(record: PictureFaces) -> tuple[SeenFace, ...]:
    return tuple(
        (
            Face(x, y, width, height, confidence, tuple(zip(points[::2], points[1::2], strict=True))),
            FaceVector(vector, quality),
        )
        for (x, y, width, height, confidence, *points, quality), vector in zip(
            record.places.tolist(), record.vectors, strict=True
        )
    )
