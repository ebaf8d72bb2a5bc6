"""The asset API: upload, features, similarity, search, quality, characters; under /api/v1 and without that prefix."""

from typing import Final

from fastapi import APIRouter

from configs.settings import Settings
from deployments.analysis.anomalies import ANOMALIES
from deployments.analysis.clusters import CLUSTERS
from deployments.analysis.groups import GROUPS
from deployments.analysis.nearest import NEAREST
from deployments.embed.clip import CLIP
from deployments.embed.dinov3 import DINOV3
from deployments.objects.detector import OBJECTS
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.quality.blur import BLUR
from deployments.quality.brisque import BRISQUE
from deployments.quality.composition import COMPOSITION
from deployments.quality.exposure import EXPOSURE
from deployments.quality.maps import MAPS
from deployments.quality.nima import NIMA
from graphs.assets.analytics import analytics_router
from graphs.assets.characters import characters_router
from graphs.assets.configuration import Configuration, configuration_router
from graphs.assets.contents import Contents
from graphs.assets.features import FeatureSource
from graphs.assets.grouping import Grouping
from graphs.assets.library import library_router
from graphs.assets.likeness import Comparison
from graphs.assets.media import media_router
from graphs.assets.model_info import model_info_router
from graphs.assets.objects import objects_router
from graphs.assets.pictures import pictures_router
from graphs.assets.quality import quality_router
from graphs.assets.scores import Measures
from graphs.assets.similarity import similarity_router
from graphs.assets.uploads import uploads_router
from graphs.assets.words import words_router
from graphs.indexing.faces import FaceSource
from graphs.indexing.picture_objects import ObjectSource
from graphs.web.api import Api, RateLimit, RouteLimits
from graphs.web.context import Context
from graphs.web.schemas import error_responses
from graphs.web.uploads.library import Library
from graphs.web.uploads.resumable import Resumable

ERRORS: Final = {
    400: "the request or the file is not what the route takes",
    404: "unknown asset id",
    408: "the body came too slowly, or stopped",
    413: "file or picture over the limits",
    422: "malformed request",
    429: "too many requests; Retry-After says when to come back",
    503: "a model or a store is not ready",
    504: "the time of the request ran out; Retry-After says when to come back",
    507: "the disk of the service is full; nothing was stored, and deleting works",
}
BATCH: Final = RouteLimits(RateLimit("assets-batch", 10))
CONTENT: Final = RouteLimits(RateLimit("assets-content", 600))
"""Where an embedded store serves the files; a bucket would count nothing either."""
PARTS: Final = RateLimit("assets-parts", 600)
UPLOAD_ROUTES: Final = ("create_upload", "upload_state", "append_to_upload", "delete_upload", "override_method")


def _upload_bytes(settings: Settings) -> int:
    return 65536 + max(settings.max_image_bytes, settings.max_video_bytes, settings.max_audio_bytes)


def _router(context: Context) -> APIRouter:
    library = Library(context)
    features = FeatureSource(context, library)
    configuration = Configuration(context)
    measures = Measures(context, library)
    faces = FaceSource(context, library)
    comparison = Comparison(features, faces)
    objects = ObjectSource(context, library)
    router = APIRouter(responses=error_responses(ERRORS))
    for part in (
        media_router(context, library, features),
        library_router(context, Contents(context, objects, faces)),
        pictures_router(context, library),
        uploads_router(Resumable(context, library)),
        similarity_router(context, library, features, configuration),
        words_router(context, library),
        objects_router(context, library, objects),
        quality_router(library, features, measures, configuration),
        analytics_router(context, library, features),
        characters_router(library, comparison, Grouping(context, features, faces), configuration),
        configuration_router(context, configuration),
        model_info_router(context, API.stage_keys),
    ):
        router.include_router(part)
    return router


API: Final = Api(
    title="Assets: upload, features, similarity, search, quality",
    router=_router,
    # Older clients look for the same routes without the prefix.
    prefixes=("/api/v1", ""),
    stages=(
        *(DINOV3, CLIP, NEAREST, CLUSTERS, ANOMALIES, GROUPS),
        *(BLUR, BRISQUE, NIMA, EXPOSURE, COMPOSITION, MAPS, FACES, IDENTITY, OBJECTS),
    ),
    ready_stages=(DINOV3,),
    routes={
        "upload_media": RouteLimits(RateLimit("assets-upload", 50), max_body=_upload_bytes, reads=True),
        "create_upload": RouteLimits(RateLimit("assets-upload", 50)),
        "upload_state": RouteLimits(PARTS),
        "delete_upload": RouteLimits(PARTS),
        "append_to_upload": RouteLimits(PARTS, max_body=_upload_bytes, reads=True),
        "override_method": RouteLimits(PARTS, max_body=_upload_bytes, reads=True),
        "batch_similarity": BATCH,
        "batch_quality_check": BATCH,
        "media_content": CONTENT,
        "media_poster": CONTENT,
        "media_thumbnail": CONTENT,
        "media_map": CONTENT,
    },
    reading=frozenset(
        [
            *("extract_features", "preprocess_image", "semantic_search", "text_search"),
            *("anomaly_detection", "feature_clustering"),
            *("calculate_similarity", "find_best_match", "batch_similarity"),
            *("analyze_quality", "analyze_image_metrics", "batch_quality_check", "analyze_image_composition"),
            "detect_objects",
            *("validate_consistency", "character_matching", "group_by_character"),
            *("validate_shot_consistency", "reference_enforcement"),
        ]
    ),
    administration=frozenset({"put_quality_threshold", "put_similarity_threshold"}),
    writing=frozenset({"upload_state"}),
    labelling=frozenset({"upload_media", "describe_uploads", *UPLOAD_ROUTES}),
)
