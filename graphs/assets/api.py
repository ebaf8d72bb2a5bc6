"""Mounts the asset API, under /api/v1 and without that prefix."""

from fastapi import APIRouter, FastAPI

from deployments.analysis.anomalies import ANOMALIES
from deployments.analysis.clusters import CLUSTERS
from deployments.analysis.groups import GROUPS
from deployments.analysis.nearest import NEAREST
from deployments.embed.dinov3 import DINOV3
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.quality.blur import BLUR
from deployments.quality.brisque import BRISQUE
from deployments.quality.composition import COMPOSITION
from deployments.quality.exposure import EXPOSURE
from deployments.quality.nima import NIMA
from graphs.assets.analytics import analytics_router
from graphs.assets.characters import characters_router
from graphs.assets.configuration import Configuration, configuration_router
from graphs.assets.features import FeatureSource
from graphs.assets.grouping import Grouping
from graphs.assets.likeness import Comparison
from graphs.assets.media import media_router
from graphs.assets.model_info import model_info_router
from graphs.assets.quality import quality_router
from graphs.assets.scores import Measures
from graphs.assets.similarity import similarity_router
from graphs.indexing.faces import FaceSource
from graphs.web.context import Context
from graphs.web.schemas import ErrorBody
from graphs.web.uploads.library import Library

STAGES = tuple(
    ref.key
    for ref in (
        *(DINOV3, NEAREST, CLUSTERS, ANOMALIES, GROUPS),
        *(BLUR, BRISQUE, NIMA, EXPOSURE, COMPOSITION, FACES, IDENTITY),
    )
)
ERRORS = {
    400: "the request or the file is not what the route takes",
    404: "unknown asset id",
    413: "file or picture over the limits",
    422: "malformed request",
    429: "too many requests; Retry-After says when to come back",
    503: "a model or a store is not ready",
}


def mount(app: FastAPI, context: Context) -> None:
    """Add the asset routes to the application."""
    library = Library(context)
    features = FeatureSource(context, library)
    configuration = Configuration(context)
    measures = Measures(context, library)
    faces = FaceSource(context, library)
    comparison = Comparison(features, faces)
    router = APIRouter(responses={status: {"model": ErrorBody, "description": text} for status, text in ERRORS.items()})
    for part in (
        media_router(context, library, features),
        similarity_router(context, library, features, configuration),
        quality_router(library, features, measures, configuration),
        analytics_router(context, library, features),
        characters_router(library, comparison, Grouping(context, features, faces), configuration),
        configuration_router(context, configuration),
        model_info_router(context, STAGES),
    ):
        router.include_router(part)
    app.include_router(router, prefix="/api/v1")
    # The same routes where older clients look for them; documented once.
    app.include_router(router, include_in_schema=False)
