"""Stored answers, which can be read until they expire, and their routes."""

import asyncio
import json
import logging
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel

from graphs.authenticity.errors import AnalysisNotFound, NoHeatMap
from graphs.authenticity.heatmap import Panel, as_png
from graphs.authenticity.schemas import AnyAnswer
from graphs.web.context import Context
from stores.analyses import Analysis
from stores.errors import StoreError

logger = logging.getLogger("ray.serve")

SWEEP_S: Final = 3600.0


class Results:
    """Stores answers for the time of the settings, and removes expired ones about every ``SWEEP_S`` seconds."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lifetime = timedelta(days=context.settings.analysis_keep_days)
        self._swept = time.monotonic() - SWEEP_S

    async def save(self, analysis_id: str, answer: BaseModel, heat_map: bytes | None) -> None:
        """Store an answer under its id. Raises StoreError."""
        now = datetime.now(UTC)
        analysis = Analysis(analysis_id, answer.model_dump_json(), heat_map, now, now + self._lifetime)
        await self._context.analyses.put(analysis)
        if time.monotonic() - self._swept > SWEEP_S:
            self._swept = time.monotonic()
            with suppress(StoreError):  # the next sweep does it
                expired = await self._context.analyses.delete_expired(now)
                logger.info("%d analyses expired", expired)

    async def get(self, analysis_id: str) -> Analysis:
        """Return a stored analysis. Raises AnalysisNotFound."""
        analysis = await self._context.analyses.get(_canonical(analysis_id), datetime.now(UTC))
        if analysis is None:
            raise AnalysisNotFound("There is no analysis with this id, or it has expired; analyze the file again.")
        return analysis


def results_router(results: Results) -> APIRouter:
    """Return the routes results and results/…/heatmap.png."""
    router = APIRouter()

    @router.get("/results/{analysis_id}", response_model=AnyAnswer)
    async def get_result(analysis_id: str) -> Response:
        """Return an earlier answer unchanged, until it expires."""
        analysis = await results.get(analysis_id)
        return Response(analysis.answer, media_type="application/json")

    @router.get("/results/{analysis_id}/heatmap.png", response_class=Response)
    async def get_heat_map(
        analysis_id: str,
        panel: Annotated[Panel | None, Query(description="one panel alone, in the shape of the image")] = None,
    ) -> Response:
        """Show where the image, or the most suspicious frame, stands out in error level and noise, and its faces."""
        analysis = await results.get(analysis_id)
        if analysis.picture is None:
            raise NoHeatMap("This analysis has no heat map; only images and videos have one.")
        if panel is not None and not _has_panels(analysis):
            raise NoHeatMap("Only the heat map of an image that was measured has panels; ask for the whole one.")
        return Response(await asyncio.to_thread(as_png, analysis.picture, panel), media_type="image/png")

    return router


def _has_panels(analysis: Analysis) -> bool:
    answer = json.loads(analysis.answer)
    return answer["media_type"] == "image" and answer["signals"]["forensic"]["features"] is not None


def _canonical(analysis_id: str) -> str:
    try:
        return str(uuid.UUID(analysis_id))
    except ValueError:
        return analysis_id
