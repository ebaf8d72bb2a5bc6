"""Which asset a ``file_uuid`` is, for routes that need a video."""

from typing import Annotated

from fastapi import Path

from graphs.assets.models import ID_1, AssetId
from graphs.web.context import Context
from graphs.web.uploads.library import Library
from stores.records import Asset
from vision.errors import InvalidInput

FileUuid = Annotated[AssetId, Path(description="the asset id that the upload gave", examples=[ID_1])]


class Videos:
    """Look-up of videos among the assets; a ``file_uuid`` is an asset id."""

    def __init__(self, context: Context) -> None:
        self._library = Library(context)

    async def get(self, file_uuid: str) -> Asset:
        """Raises AssetNotFound, and InvalidInput for pictures and sound."""
        asset = await self._library.get(file_uuid)
        if asset.kind != "video":
            raise InvalidInput(f"{file_uuid} is {asset.kind} ({asset.format}); this route takes videos only.")
        return asset
