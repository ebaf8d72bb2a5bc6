"""muzzle/gallery: the enrolled animals nearest to a muzzle code; an animal is found once it is in the registry."""

from typing import Final

from deployments.serving.stage import StageRef
from deployments.serving.vector_search import Forget, NearestQuery, SearchResult, VectorSearch
from stores.animals import Animals
from stores.open import Stores

GALLERY: Final = StageRef[NearestQuery | Forget, SearchResult]("muzzle/gallery")


class MuzzleGallery(VectorSearch[Animals]):
    """NearestQuery → SearchResult. Forget → an empty one."""

    key = GALLERY.key
    stores = ("animals", "vectors")
    exact = True
    """Who an animal is depends on the best two of all; and a herd is smaller than a library."""

    def source(self, stores: Stores) -> Animals:
        return stores.animals

    async def forget(self, item: Forget) -> int:
        """Remove deleted animals; one that was enrolled again since then returns before the next search."""
        removed = await super().forget(item)
        # An id may come back, as an asset's never does: its new template may have been carried in, and gone just now.
        await self._source.mark_unindexed(item.model_version, item.asset_ids)
        return removed
