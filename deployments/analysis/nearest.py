"""analysis/nearest: the assets of the whole library that are nearest to a vector."""

from typing import Final

from configs.settings import settings
from deployments.serving.stage import StageRef
from deployments.serving.vector_search import Forget, NearestQuery, SearchResult, VectorSearch
from stores.open import open_documents, open_vectors
from stores.vectors import IndexSource, Vectors

NEAREST: Final = StageRef[NearestQuery | Forget, SearchResult]("analysis/nearest")


class NearestAssets(VectorSearch[IndexSource]):
    """NearestQuery → SearchResult. Forget → an empty one."""

    key = NEAREST.key

    def open_stores(self) -> tuple[IndexSource, Vectors]:
        return open_documents(settings().documents), open_vectors(settings().vectors)
