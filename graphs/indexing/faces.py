"""Get the faces of pictures on demand: from the document store, or from the stages that detect and embed them."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TypeAlias

import numpy as np

from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY, FaceVector
from graphs.indexing.inference import BLANK, detector_version
from graphs.indexing.picture_source import PictureSource
from graphs.web.images import DecodedImage
from stores.records import PLACE_COLUMNS, Asset, PictureFaces
from vision.faces.face import Face

MAX_FACES: Final = 100
"""Faces kept of one picture, the largest ones."""

EmbeddedFace: TypeAlias = tuple[Face, FaceVector]


class FaceSource(PictureSource[tuple[EmbeddedFace, ...]]):
    """Get the faces of assets, largest first; none where none was detected."""

    async def _serving_version(self) -> str:
        detector, recognizer = await asyncio.gather(
            self._context.stage(FACES).ready_info(BLANK), self._context.stage(IDENTITY).ready_info((BLANK, ()))
        )
        return f"{detector_version(detector)}+{recognizer['model_version']}"

    async def _stored(self, version: str, asset_ids: Mapping[str, Asset]) -> dict[str, tuple[EmbeddedFace, ...]]:
        stored = await self._context.documents.get_faces(version, asset_ids)
        return {asset_id: _from_record(record) for asset_id, record in stored.items()}

    async def _find(self, asset: Asset, picture: DecodedImage, version: str) -> tuple[EmbeddedFace, ...]:
        detected = await self._context.stage(FACES)(picture.image)
        faces = tuple(sorted(detected, key=lambda face: -face.width * face.height)[:MAX_FACES])
        if not faces:
            return ()
        vectors = await self._context.stage(IDENTITY)((picture.image, faces))
        return tuple(zip(faces, vectors, strict=True))

    async def _put(self, asset: Asset, version: str, found: tuple[EmbeddedFace, ...]) -> bool:
        return await self._context.documents.put_faces(_to_record(asset.asset_id, version, found))


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
