"""model-info: which model serves, how, and what its numbers mean."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from deployments.analysis.anomalies import ANOMALIES
from deployments.analysis.clusters import CLUSTERS
from deployments.analysis.nearest import NEAREST
from deployments.embed.dinov3 import DINOV3
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.quality.blur import BLUR
from deployments.quality.brisque import BRISQUE
from deployments.quality.composition import COMPOSITION
from deployments.quality.nima import NIMA
from deployments.serving.stage import StageRef
from graphs.assets.scores import EXPLAINED
from graphs.assets.verdicts import EXPLAINED as VERDICTS
from graphs.web.context import Context, Timer
from graphs.web.health import stage_infos


class ServingModel(BaseModel):
    """The embedding model in service; None where it is not known because none is loaded."""

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
    """``scores``: how each is formed; ``stages`` has the words of every stage of the graph about itself."""

    # "model_config" is the contract's name and pydantic's own; hence the alias.
    model_config = ConfigDict(populate_by_name=True)

    serving: ServingModel = Field(alias="model_config")
    capabilities: dict[str, bool]
    scores: dict[str, dict[str, Any]]
    limits: dict[str, float]
    status: str
    stages: dict[str, dict[str, Any]]
    processing_time: float


def info_router(context: Context, stages: Sequence[str]) -> APIRouter:
    """model-info."""
    router = APIRouter(tags=["assets: configuration"])

    @router.get("/model-info", response_model=ModelInfo)
    async def model_info(clock: Timer) -> Response:
        """The model that serves, what it can do, and its limits."""
        everything = await stage_infos(context)
        infos = {key: everything[key] for key in stages}
        embed = infos[DINOV3.key]
        settings = context.settings
        loaded = {key: bool(info.get("loaded")) for key, info in infos.items()}

        def ready(*refs: StageRef[Any, Any]) -> bool:
            return all(loaded[ref.key] for ref in refs)

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
            capabilities={
                "feature_extraction": ready(DINOV3),
                "similarity": ready(DINOV3),
                "semantic_search": ready(DINOV3, NEAREST),
                "clustering": ready(DINOV3, CLUSTERS),
                "anomaly_detection": ready(DINOV3, ANOMALIES),
                "quality_analysis": ready(DINOV3, BLUR, BRISQUE, NIMA),
                "composition_analysis": ready(COMPOSITION, FACES),
                "character_analysis": ready(DINOV3, FACES, IDENTITY),
            },
            scores=EXPLAINED | VERDICTS,
            limits={
                "max_batch_assets": settings.max_batch_assets,
                "max_image_bytes": settings.max_image_bytes,
                "max_image_pixels": settings.max_image_pixels,
                "max_video_bytes": settings.max_video_bytes,
            },
            status="ready" if all(loaded.values()) else "degraded" if ready(DINOV3) else "not_loaded",
            stages=everything,
            processing_time=clock.seconds,
        )
        return JSONResponse(answer.model_dump(by_alias=True))

    return router
