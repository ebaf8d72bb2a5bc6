"""Get the objects of pictures on demand: from the document store, or from the detector."""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import numpy as np

from deployments.objects.detector import OBJECTS
from graphs.indexing.inference import BLANK
from graphs.web.context import Context
from graphs.web.errors import AssetNotFound
from graphs.web.images import ImageDecoder
from graphs.web.per_asset import PerAsset
from graphs.web.uploads.library import Library
from stores.records import OBJECT_COLUMNS, Asset, PictureObjects
from vision.errors import InvalidMedia, StageError
from vision.objects.detection import DetectedObject

INFO_TTL_S: Final = 15.0
ASSETS_AT_ONCE: Final = 4
"""Encoded pictures in memory at once: half of what the gateway holds decoded for all requests."""


class ObjectSource:
    """Get the objects of any number of assets, detecting those of each at most once at a time in this process.

    Objects are stored by asset, with the version that found them; those of a video are the objects of its poster.
    """

    def __init__(self, context: Context, library: Library) -> None:
        self._context = context
        self._library = library
        self._pictures = ImageDecoder(context.settings.max_image_pixels)
        self._slots = asyncio.Semaphore(ASSETS_AT_ONCE)
        self._computed = PerAsset(self._compute)
        self._version = ""
        self._version_at = 0.0

    async def of(self, asset: Asset) -> PictureObjects:
        """Return the objects of an asset, surest first. Raises its StageError."""
        objects, failures = await self.many([asset])
        for error in failures.values():
            raise error
        return objects[asset.asset_id]

    async def many(self, assets: Iterable[Asset]) -> tuple[dict[str, PictureObjects], dict[str, StageError]]:
        """Return objects by asset id, and the error of each asset whose picture cannot be used.

        Errors that may go away by themselves, of a stage or a store, are raised, and so is ModelNotLoaded.
        """
        wanted = {asset.asset_id: asset for asset in assets}
        version = await self.model_version()
        stored = await self._context.documents.get_objects(wanted)
        objects = {asset_id: record for asset_id, record in stored.items() if record.model_version == version}
        missing = [asset for asset_id, asset in wanted.items() if asset_id not in objects]
        computed, failures = await self._computed.many(missing)
        return objects | computed, failures

    async def model_version(self) -> str:
        """Return the version that objects are stored under: of the weights, and the threshold, as they serve now.

        Raises ModelNotLoaded with the detector's reason, StageUnavailable when it does not answer.
        """
        if not self._version or time.monotonic() - self._version_at > INFO_TTL_S:
            info = await self._context.stage(OBJECTS).ready_info(BLANK)
            self._version = f"{info['model_version']}:{info.get('threshold', '')}"
            self._version_at = time.monotonic()
        return self._version

    async def _compute(self, asset: Asset) -> PictureObjects:
        version = await self.model_version()
        try:
            async with self._slots, self._pictures.decoded(await self._library.picture(asset)) as picture:
                found = await self._context.stage(OBJECTS)(picture.image)
                size = picture.width, picture.height
        except InvalidMedia as error:
            await self._context.documents.set_asset_error(asset.asset_id, error.message)
            raise
        record = _to_record(asset, version, size, found.objects)
        if not await self._context.documents.put_objects(record):
            raise AssetNotFound([asset.asset_id])
        return record


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
