"""The actors that make shots, traces and identities at the end of each video."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from configs.settings import settings
from deployments.analysis.identities import IDENTITIES
from deployments.analysis.tracks import TRACKS
from deployments.embed.clip import CLIP
from deployments.embed.dinov3 import DINOV3
from deployments.media.frames import FRAMES
from deployments.people.faces import FACES
from deployments.people.identity import IDENTITY
from deployments.people.video_faces import VIDEO_FACES
from deployments.serving.catalog import local_handle
from deployments.shots.cuts import CUTS
from graphs.indexing.checkpoint import Parts, retrying_lost_parts
from graphs.indexing.decode import Timeline
from graphs.indexing.finalize import Draft, draft_index, store_index
from graphs.indexing.jobs import check_models
from graphs.indexing.people import PeopleModels
from graphs.indexing.shots import ShotBuilder, ShotModels
from graphs.web.context import Context
from graphs.web.gateway import open_context
from ops.bulk.actors import Models
from stores.jobs import Json
from vision.errors import StageError, StageUnavailable

STAGES: Final = (DINOV3, CLIP, TRACKS, IDENTITIES, FRAMES, VIDEO_FACES, IDENTITY, CUTS, FACES)
"""The last four only say which models there are."""

DIED: Final = "The worker that finished this video died; it is gone on with."


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """A video whose frames were all looked at: ``parts`` parts of ``span`` frames."""

    asset_id: str
    job_id: str
    payload: Mapping[str, Any]
    timeline: Timeline
    parts: int
    span: int


class Finisher:
    """Has its stages in its own process. Errors that are told to people are returned, so that they keep their class."""

    def __init__(self, models: Models) -> None:
        os.nice(models.niceness)
        self._models = models
        self._loading = asyncio.Lock()
        self._context: Context | None = None
        self._made: dict[str, Draft] = {}

    async def infos(self) -> dict[str, dict[str, Any]]:
        """What each stage says of itself."""
        stages = (await self._ready()).stages
        return {key: await stage.info() for key, stage in stages.items()}

    async def make(self, order: Order) -> StageError | None:
        """Shots and traces, which are held here until they are stored or dropped."""
        context = await self._ready()
        try:
            models = await ShotModels.of(context)
            check_models(models.version, order.payload["shot_models"])
            parts = Parts(context.objects, context.settings.spool, order.asset_id, order.job_id)
            with retrying_lost_parts():
                observations = await parts.read(order.parts)
                builder = ShotBuilder(
                    context, order.asset_id, order.timeline, observations, parts, order.span, models, faces=True
                )
                self._made[order.job_id] = await draft_index(context, builder)
        except StageError as error:
            return error
        return None

    async def store(self, order: Order) -> Json | StageError:
        """Say whose the traces are, and store everything."""
        context, made = await self._ready(), self._made.pop(order.job_id, None)
        if made is None:
            return StageUnavailable(DIED)
        try:
            models = await PeopleModels.of(context)
            check_models(models.version, order.payload["models"])
            return await store_index(context, order.asset_id, made, models)
        except StageError as error:
            return error

    async def drop(self, job_id: str) -> None:
        """Forget what was made."""
        self._made.pop(job_id, None)

    async def _ready(self) -> Context:
        async with self._loading:
            if self._context is None:
                models = self._models
                keys = [ref.key for ref in STAGES]
                handles = {key: await local_handle(models.find(key), models.configs.get(key)) for key in keys}
                self._context = open_context(settings(), handles)
            return self._context
