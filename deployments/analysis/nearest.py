"""analysis/nearest: the assets of the whole library that are nearest to a vector."""

from typing import Final

from deployments.serving.stage import StageRef
from deployments.serving.vector_search import Forget, NearestQuery, SearchResult, VectorSearch
from stores.open import Stores
from stores.vectors import IndexSource

NEAREST: Final = StageRef[NearestQuery | Forget, SearchResult]("analysis/nearest")


class NearestAssets(VectorSearch[IndexSource]):
    """NearestQuery → SearchResult. Forget → one without neighbours, whose ``searched`` says how many vectors went."""

    key = NEAREST.key
    stores = ("documents", "vectors")

    def source(self, stores: Stores) -> IndexSource:
        return stores.documents

    async def forget(self, item: Forget) -> int:
        """Remove deleted assets from the spaces of all models that ever embedded them."""
        return await self._vectors.remove_all(item.asset_ids)
