"""The actors that make shots, traces and identities at the end of each video."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from configs.settings import settings
from deployments.serving.catalog import local_handle
from graphs.indexing.assigning import IDENTITIES
from graphs.indexing.finishing import Made, make, store
from graphs.indexing.models import CLIP, CUTS, EMBED, ShotModels
from graphs.indexing.models import FACES as PHOTO_FACES
from graphs.indexing.parts import Parts
from graphs.indexing.people import TRACKS
from graphs.indexing.serving import FACES, IDENTITY
from graphs.indexing.serving import Models as PeopleModels
from graphs.indexing.shots import ShotMaker
from graphs.indexing.video import same_models, whole_parts
from graphs.indexing.watch import Timeline
from graphs.shots.thumbnails import FRAMES
from graphs.web.context import Context
from graphs.web.gateway import open_context
from ops.bulk.actors import Models
from ops.bulk.rows import Opened
from stores.jobs import Json
from vision.errors import StageError, StageUnavailable

STAGES: Final = (EMBED, CLIP, TRACKS, IDENTITIES, FRAMES, FACES, IDENTITY, CUTS, PHOTO_FACES)
"""The last four only say which models there are."""

DIED: Final = "The worker that finished this video died; it is gone on with."


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """A video whose frames were all looked at: ``parts`` parts of ``span`` frames."""

    asset_id: str
    job_id: str
    payload: Mapping[str, Any]
    opened: Opened
    parts: int
    span: int


class Finisher:
    """Has its stages in its own process. Errors that are told to people are returned, so that they keep their class."""

    def __init__(self, models: Models) -> None:
        os.nice(models.niceness)
        self._models = models
        self._loading = asyncio.Lock()
        self._context: Context | None = None
        self._made: dict[str, Made] = {}

    async def infos(self) -> dict[str, dict[str, Any]]:
        """What each stage says of itself."""
        stages = (await self._ready()).stages
        return {key: await stage.info() for key, stage in stages.items()}

    async def make(self, order: Order) -> StageError | None:
        """Shots and traces, which are held here until they are stored or dropped."""
        context = await self._ready()
        try:
            models = await ShotModels.of(context)
            same_models(models.version, order.payload["shot_models"])
            timeline = Timeline()
            timeline.facts, timeline.times = order.opened.facts, order.opened.times
            timeline.step = order.opened.step
            parts = Parts(context.objects, context.settings.spool, order.asset_id, order.job_id)
            with whole_parts():
                found = await parts.all(order.parts)
                seen = ShotMaker(context, order.asset_id, timeline, found, parts, order.span, models, faces=True)
                self._made[order.job_id] = await make(context, seen)
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
            same_models(models.version, order.payload["models"])
            return await store(context, order.asset_id, made, models)
        except StageError as error:
            return error

    async def drop(self, job_id: str) -> None:
        """Forget what was made."""
        self._made.pop(job_id, None)

    async def _ready(self) -> Context:
        async with self._loading:
            if self._context is None:
                models = self._models
                handles = {key: await local_handle(models.find(key), models.configs.get(key)) for key in STAGES}
                self._context = open_context(settings(), handles)
            return self._context
