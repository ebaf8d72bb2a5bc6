"""muzzle/gallery: the enrolled animals nearest to a muzzle code, from the vector store.

Works as analysis/nearest does, over the registry of animals: templates reach the registry first, and are carried into
the vector store before each search and between requests.
"""

from configs.settings import settings
from deployments.analysis.nearest import Nearest
from ops.stores.open import open_animals, open_vectors
from ops.stores.vectors import IndexSource, Vectors


class MuzzleGallery(Nearest):
    """NearestQuery → Found. Forget → an empty Found."""

    key = "muzzle/gallery"

    def open_stores(self) -> tuple[IndexSource, Vectors]:
        return open_animals(settings().documents), open_vectors(settings().vectors)
