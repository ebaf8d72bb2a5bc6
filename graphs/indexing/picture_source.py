"""Get what models find in pictures on demand: from the document store, or from the models."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Final, Generic, TypeVar

from graphs.web.context import Context
from graphs.web.errors import AssetNotFound
from graphs.web.images import DecodedImage, ImageDecoder
from graphs.web.per_asset import PerAsset
from graphs.web.uploads.library import Library
from stores.records import Asset
from vision.errors import InvalidMedia, StageError

T = TypeVar("T")

INFO_TTL_S: Final = 15.0
ASSETS_AT_ONCE: Final = 4
"""Encoded pictures in memory at once: half of what the gateway holds decoded for all requests."""


class PictureSource(ABC, Generic[T]):
    """Get what models find in any number of assets, looking at each at most once at a time in this process.

    It is stored by asset, with the version of the models; that of a video is what is in its poster.
    """

    def __init__(self, context: Context, library: Library) -> None:
        self._context = context
        self._library = library
        self._pictures = ImageDecoder(context.settings.max_image_pixels)
        self._slots = asyncio.Semaphore(ASSETS_AT_ONCE)
        self._computed = PerAsset(self._compute)
        self._version = ""
        self._version_at = 0.0

    async def of(self, asset: Asset) -> T:
        """Return what is found in an asset. Raises its StageError."""
        found, failures = await self.many([asset])
        for error in failures.values():
            raise error
        return found[asset.asset_id]

    async def many(self, assets: Iterable[Asset]) -> tuple[dict[str, T], dict[str, StageError]]:
        """Return what is found by asset id, and the error of each asset whose picture cannot be used.

        Errors that may go away by themselves, of a stage or a store, are raised, and so is ModelNotLoaded.
        """
        wanted = {asset.asset_id: asset for asset in assets}
        found = await self._stored(await self.model_version(), wanted)
        missing = [asset for asset_id, asset in wanted.items() if asset_id not in found]
        computed, failures = await self._computed.many(missing)
        return found | computed, failures

    async def model_version(self) -> str:
        """Return the version under which is stored what the models find as they serve now.

        Raises ModelNotLoaded with a stage's reason, StageUnavailable when one does not answer.
        """
        if not self._version or time.monotonic() - self._version_at > INFO_TTL_S:
            self._version = await self._serving_version()
            self._version_at = time.monotonic()
        return self._version

    async def _compute(self, asset: Asset) -> T:
        version = await self.model_version()
        try:
            async with self._slots, self._pictures.decoded(await self._library.picture(asset)) as picture:
                found = await self._find(asset, picture, version)
        except InvalidMedia as error:
            await self._context.documents.set_asset_error(asset.asset_id, error.message)
            raise
        if not await self._put(asset, version, found):
            raise AssetNotFound([asset.asset_id])
        return found

    @abstractmethod
    async def _serving_version(self) -> str:
        """Ask the stages for their versions. Raises ModelNotLoaded and StageUnavailable."""

    @abstractmethod
    async def _stored(self, version: str, asset_ids: Mapping[str, Asset]) -> dict[str, T]:
        """Return what is stored of this version, by asset id."""

    @abstractmethod
    async def _find(self, asset: Asset, picture: DecodedImage, version: str) -> T:
        """Have the stages look at a picture. Raises StageError."""

    @abstractmethod
    async def _put(self, asset: Asset, version: str, found: T) -> bool:
        """Store what was found; False where the asset is gone."""
