"""muzzle/gallery: the enrolled animals nearest to a muzzle code, from the vector store.

Works as analysis/nearest does, over the registry of animals: templates reach the registry first, and are carried into
the vector store before each search and between requests.
"""

from configs.settings import settings
from deployments.analysis.nearest import Nearest
from ops.stores.open import open_animals
from ops.stores.vectors import IndexSource


class MuzzleGallery(Nearest):
    """NearestQuery → Found. Forget → an empty Found."""

    key = "muzzle/gallery"

    def open_source(self) -> IndexSource:
        return open_animals(settings().documents)
