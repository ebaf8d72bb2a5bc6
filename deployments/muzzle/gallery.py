"""muzzle/gallery: the enrolled animals nearest to a muzzle code, from the vector store.

Works as analysis/nearest does, over the registry of animals: templates reach the registry first, and are carried into
the vector store before each search and between requests.
"""

from typing import Final

from configs.settings import settings
from deployments.analysis.nearest import Forget, Found, Nearest, NearestQuery
from deployments.serving.stage import StageRef
from stores.animals import Animals
from stores.open import open_animals, open_vectors
from stores.vectors import Vectors

GALLERY: Final = StageRef[NearestQuery | Forget, Found]("muzzle/gallery")


class MuzzleGallery(Nearest):
    """NearestQuery → Found. Forget → an empty Found."""

    key = GALLERY.key

    _documents: Animals

    def open_stores(self) -> tuple[Animals, Vectors]:
        return open_animals(settings().documents), open_vectors(settings().vectors)

    async def forget(self, item: Forget) -> None:
        """Take deleted animals out; one that was enrolled anew since then comes back in before the next search."""
        await super().forget(item)
        # An id may come back, as an asset's never does: its new template may have been carried in, and gone just now.
        await self._documents.mark_unindexed(item.model_version, item.asset_ids)
