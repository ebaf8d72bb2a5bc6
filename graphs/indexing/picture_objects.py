"""Get the objects of pictures on demand: from the document store, or from the detector."""

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from deployments.objects.detector import OBJECTS
from graphs.indexing.inference import BLANK, detector_version
from graphs.indexing.picture_source import PictureSource
from graphs.web.images import DecodedImage
from stores.records import OBJECT_COLUMNS, Asset, PictureObjects
from vision.objects.detection import DetectedObject


class ObjectSource(PictureSource[PictureObjects]):
    """Get the objects of assets, surest first."""

    async def _serving_version(self) -> str:
        return detector_version(await self._context.stage(OBJECTS).ready_info(BLANK))

    async def _stored(self, version: str, asset_ids: Mapping[str, Asset]) -> dict[str, PictureObjects]:
        stored = await self._context.documents.get_objects(asset_ids)
        return {asset_id: record for asset_id, record in stored.items() if record.model_version == version}

    async def _find(self, asset: Asset, picture: DecodedImage, version: str) -> PictureObjects:
        found = await self._context.stage(OBJECTS)(picture.image)
        return _to_record(asset, version, (picture.width, picture.height), found.objects)

    async def _put(self, asset: Asset, version: str, found: PictureObjects) -> bool:
        return await self._context.documents.put_objects(found)


def _to_record(
    asset: Asset, version: str, size: tuple[int, int], objects: tuple[DetectedObject, ...]
) -> PictureObjects:
    places = [(each.x, each.y, each.width, each.height, each.confidence) for each in objects]
    return PictureObjects(
        asset_id=asset.asset_id,
        model_version=version,
        kind=asset.kind,
        width=size[0],
        height=size[1],
        labels=tuple(each.label for each in objects),
        places=np.array(places, np.float32).reshape(-1, OBJECT_COLUMNS),
        created_at=datetime.now(UTC),
    )
