"""Answers that are kept, so that they can be had again until they expire."""

import logging
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel

from graphs.authenticity.errors import AnalysisNotFound
from graphs.web.context import Context
from stores.analyses import Analysis
from stores.documents import StoreError

logger = logging.getLogger("ray.serve")

SWEEP_S: Final = 3600.0


class Results:
    """Keeps answers for the time of the settings; now and then it removes those that have expired."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept = timedelta(days=context.settings.analysis_keep_days)
        self._swept = time.monotonic() - SWEEP_S

    async def keep(self, analysis_id: str, answer: BaseModel, picture: bytes | None) -> None:
        """Store an answer under its id. Raises StoreError."""
        now = datetime.now(UTC)
        kept = Analysis(analysis_id, answer.model_dump_json(), picture, now, now + self._kept)
        await self._context.analyses.put(kept)
        if time.monotonic() - self._swept > SWEEP_S:
            self._swept = time.monotonic()
            with suppress(StoreError):  # the next sweep does it
                gone = await self._context.analyses.delete_expired(now)
                logger.info("%d analyses expired", gone)

    async def get(self, analysis_id: str) -> Analysis:
        """Raises AnalysisNotFound."""
        found = await self._context.analyses.get(_canonical(analysis_id), datetime.now(UTC))
        if found is None:
            raise AnalysisNotFound("There is no analysis with this id, or it has expired; analyze the file again.")
        return found


def _canonical(analysis_id: str) -> str:
    try:
        return str(uuid.UUID(analysis_id))
    except ValueError:
        return analysis_id
