"""Which asset a ``file_uuid`` is, for routes that need a video."""

from deployments.errors import InvalidInput
from graphs.assets.library import Library
from graphs.context import Context
from ops.stores.records import Asset


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
