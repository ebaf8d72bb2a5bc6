"""Streams that media/clips makes for a request: encoded clips and overlays, and copies of parts."""

from typing import Final

from fastapi import Request
from fastapi.responses import Response

from deployments.media.clips import CLIPS
from graphs.media.streams import Stream
from graphs.web.context import Context
from stores.records import Asset
from vision.media.plan import BoxTrack, ClipFacts, ClipPlan, ClipRequest

ENCODED: Final = {"clip": "video/mp2t", "overlay": "video/mp4"}


class Clips:
    """Answers with what a plan makes of a video."""

    def __init__(self, context: Context) -> None:
        self._stage = context.stage(CLIPS)

    async def answer(
        self, request: Request, video: Asset, plan: ClipPlan, cache: str, boxes: BoxTrack | None = None
    ) -> Response:
        """The stream for a GET, its headers for a HEAD; ``cache`` is what Cache-Control says.

        Raises InvalidInput for a part that the video does not have, InvalidMedia, and StageOverloaded when as many
        streams as the stage may have are running.
        """
        headers = {"accept-ranges": "none", "cache-control": cache, "x-content-type-options": "nosniff"}
        media_type = ENCODED.get(plan.action)
        if media_type is None or request.method == "HEAD":
            facts: ClipFacts = await self._stage(ClipRequest(video.asset_id, plan))
            media_type = facts.content_type
        if plan.action == "copy":
            headers |= {"x-first-frame": str(facts.first_frame), "x-start-time": f"{facts.start_time:.6f}"}
        if request.method == "HEAD":
            response = Response(media_type=media_type, headers=headers)
            del response.headers["content-length"]  # nobody knows it before it is made
            return response
        return Stream(self._stage.stream(ClipRequest(video.asset_id, plan, boxes)), media_type, headers)
