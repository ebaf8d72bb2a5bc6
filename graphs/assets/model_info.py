"""The route model-info: which models serve, and what their scores mean."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from deployments.analysis.anomalies import ANOMALIES
from deployments.analysis.clusters import CLUSTERS
from deployments.analysis.nearest import NEAREST
from deployments.embed.clip import CLIP, no_text
from deployments.embed.dinov3 import DINOV3
from deployments.objects.detector import OBJECTS
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.quality.blur import BLUR
from deployments.quality.brisque import BRISQUE
from deployments.quality.composition import COMPOSITION
from deployments.quality.maps import MAPS
from deployments.quality.nima import NIMA
from deployments.serving.stage import StageRef
from graphs.assets import likeness, scores
from graphs.web.context import Context, Timer
from graphs.web.states import usable


class ServingModel(BaseModel):
    """The embedding model in service; what is not known is null."""

    model_name: str | None
    model_version: str | None
    architecture: str | None
    patch_size: int | None
    embedding_dim: int
    device: str | None
    engine: str | None
    batch_size: int | None
    weights: str | None = Field(description="where the weights came from")
    licence: str | None
    centred: bool | None = Field(description="whether a reference mean is subtracted before cosines are taken")


class ModelInfo(BaseModel):
    """``scores``: how each is formed; ``stages``: what every stage of the gateway says about itself."""

    # The contract calls a field "model_config", which is a name of pydantic's; hence the alias.
    model_config = ConfigDict(populate_by_name=True)

    serving: ServingModel = Field(alias="model_config")
    capabilities: dict[str, bool]
    unavailable: dict[str, str] = Field(description="why, for each capability that is not there")
    scores: dict[str, dict[str, Any]]
    limits: dict[str, float]
    status: str
    stages: dict[str, dict[str, Any]]
    processing_time: float


CAPABILITIES: Final[Mapping[str, tuple[StageRef[Any, Any], ...]]] = {
    "feature_extraction": (DINOV3,),
    "similarity": (DINOV3,),
    "semantic_search": (DINOV3, NEAREST),
    "text_search": (CLIP, NEAREST),
    "clustering": (DINOV3, CLUSTERS),
    "anomaly_detection": (DINOV3, ANOMALIES),
    "quality_analysis": (DINOV3, BLUR, BRISQUE, NIMA),
    "composition_analysis": (COMPOSITION, FACES),
    "maps": (MAPS,),
    "character_analysis": (DINOV3, FACES, IDENTITY),
    "object_detection": (OBJECTS,),
}
"""The stages that each takes."""


def _missing(refs: Sequence[StageRef[Any, Any]], infos: Mapping[str, Mapping[str, Any]]) -> str:
    """Return why one of these stages cannot be used; empty when all can."""
    for ref in refs:
        info = infos[ref.key]
        if not usable(info):
            return str(info.get("error") or f"{ref.key} is not loaded")
    return ""


def model_info_router(context: Context, stages: Sequence[str]) -> APIRouter:
    """Return the route model-info; ``stages`` are the keys of those that the asset API calls."""
    router = APIRouter(tags=["assets: configuration"])

    @router.get("/model-info", response_model=ModelInfo)
    async def model_info(clock: Timer) -> Response:
        """Return the models that serve, what they can do, and the limits."""
        all_infos = await context.states.stages()
        infos = {key: all_infos[key] for key in stages}
        embed = infos[DINOV3.key]
        settings = context.settings
        loaded = {key: usable(info) for key, info in infos.items()}

        unavailable = {name: reason for name, refs in CAPABILITIES.items() if (reason := _missing(refs, infos))}
        if "text_search" not in unavailable and not infos[CLIP.key].get("text"):
            unavailable["text_search"] = no_text()
        answer = ModelInfo(
            serving=ServingModel(
                model_name=embed.get("model"),
                model_version=embed.get("model_version"),
                architecture=embed.get("architecture"),
                patch_size=embed.get("patch_size"),
                embedding_dim=384,
                device=embed.get("device"),
                engine=embed.get("engine"),
                batch_size=embed.get("max_batch_size"),
                weights=embed.get("weights"),
                licence=embed.get("licence"),
                centred=embed.get("centred"),
            ),
            capabilities={name: name not in unavailable for name in CAPABILITIES},
            unavailable=unavailable,
            scores=scores.EXPLAINED | likeness.EXPLAINED,
            limits={
                "max_batch_assets": settings.max_batch_assets,
                "max_image_bytes": settings.max_image_bytes,
                "max_image_pixels": settings.max_image_pixels,
                "max_video_bytes": settings.max_video_bytes,
            },
            status="ready" if all(loaded.values()) else "degraded" if loaded[DINOV3.key] else "not_loaded",
            stages=all_infos,
            processing_time=clock.seconds,
        )
        return JSONResponse(answer.model_dump(by_alias=True))

    return router
