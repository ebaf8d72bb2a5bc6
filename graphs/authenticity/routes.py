"""The routes. Each answers with and without the slash at its end: a redirect would lose the file."""

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from graphs.authenticity.answers import audio_answer, video_answer
from graphs.authenticity.errors import NoHeatMap
from graphs.authenticity.heatmap import as_png, heat_map
from graphs.authenticity.images import ImageAnalysis
from graphs.authenticity.models import AnyAnswer, AudioAnswer, BatchAnswer, BatchResult, ImageAnswer, VideoAnswer
from graphs.authenticity.moving import watch
from graphs.authenticity.results import Results
from graphs.authenticity.sound import opened_sound
from graphs.authenticity.uploads import MOST_IN_BATCH, Uploads
from graphs.authenticity.voices import listen
from graphs.web.context import Clock, Context, Timer
from graphs.web.uploads.spool import SpooledUpload
from vision.errors import StageError

logger = logging.getLogger("ray.serve")

Route = Callable[[Any], Any]


def add_routes(router: APIRouter, context: Context) -> None:
    """analyze/image, analyze/image/batch, analyze/video, analyze/audio, results."""
    uploads, results = Uploads(context.settings), Results(context)
    images = ImageAnalysis(context, results)

    def post(path: str, field: str, **options: Any) -> Route:
        def add(handler: Any) -> Any:
            document = {"openapi_extra": _form(field), **options}
            router.post(path, **document)(handler)
            other = path.removesuffix("/") if path.endswith("/") else f"{path}/"
            router.post(other, include_in_schema=False, **document)(handler)
            return handler

        return add

    @post("/analyze/image/", "file")
    async def analyze_image(request: Request, clock: Timer) -> ImageAnswer:
        """How likely a picture was manipulated, and what speaks for it. JPEG, PNG or WebP, up to 100 MB."""
        async with uploads.spooled(request, "image", "file") as (upload,):
            return await images.of(await uploads.checked(upload, "image"), clock)

    @post("/analyze/image/batch", "files")
    async def analyze_images(request: Request, clock: Timer) -> BatchAnswer:
        """The same for up to ten pictures; one that cannot be judged has its error set, and the others verdicts."""
        async with uploads.spooled(request, "image", "files", MOST_IN_BATCH) as files:
            judged = [await _one(images, uploads, upload) for upload in files]
        return BatchAnswer(
            batch_id=f"batch-{uuid.uuid4()}",
            total_files=len(judged),
            results=judged,
            processing_time_ms=round(clock.milliseconds),
        )

    @post("/analyze/video/", "file")
    async def analyze_video(
        request: Request,
        clock: Timer,
        num_frames: Annotated[int, Query(ge=1, le=256, description="frames to look at, spread over the video")] = 16,
    ) -> VideoAnswer:
        """The same for a video: single frames, how a face moves, and the voice. MP4, AVI, MOV or WebM."""
        async with uploads.spooled(request, "video", "file") as (upload,), uploads.turn():
            handed = await uploads.checked(upload, "video")
            found = await watch(context, handed, num_frames)
            answer = video_answer(handed, found, clock)
            picture = None
            if found.worst is not None:
                frame, pixels = found.worst
                picture = await asyncio.to_thread(heat_map, pixels, frame.picture)
            await results.keep(answer.analysis_id, answer, picture)
            return answer

    @post("/analyze/audio/", "file")
    async def analyze_audio(request: Request, clock: Timer) -> AudioAnswer:
        """How likely a voice was made by a machine; NO_SPEECH where nobody speaks. WAV, MP3, M4A, FLAC or OGG."""
        async with uploads.spooled(request, "audio", "file") as (upload,):
            handed = await uploads.checked(upload, "audio")
            async with opened_sound(context.settings, handed) as heard:
                answer = audio_answer(handed, await listen(context, heard), clock)
            await results.keep(answer.analysis_id, answer, None)
            return answer

    @router.get("/results/{analysis_id}", response_model=AnyAnswer)
    async def get_result(analysis_id: str) -> Response:
        """An earlier answer, word for word, until it expires."""
        kept = await results.get(analysis_id)
        return Response(kept.answer, media_type="application/json")

    @router.get("/results/{analysis_id}/heatmap.png", response_class=Response)
    async def get_heat_map(analysis_id: str) -> Response:
        """Where the picture, or the most suspicious frame, stands out in error level and noise, and its faces."""
        kept = await results.get(analysis_id)
        if kept.picture is None:
            raise NoHeatMap("This analysis has no picture to show.")
        return Response(await asyncio.to_thread(as_png, kept.picture), media_type="image/png")


async def _one(images: ImageAnalysis, uploads: Uploads, upload: SpooledUpload) -> BatchResult:
    try:
        answer = await images.of(await uploads.checked(upload, "image"), Clock())
    except StageError as error:
        return _failed(upload, error.message)
    except Exception:
        logger.exception("unhandled error in a batch")
        return _failed(upload, "The service failed on this image; its log has the cause.")
    return BatchResult(
        filename=answer.filename,
        classification=answer.classification,
        risk_score=answer.risk_score,
        confidence=answer.confidence,
        analysis_id=answer.analysis_id,
    )


def _failed(upload: SpooledUpload, reason: str) -> BatchResult:
    return BatchResult(
        filename=upload.filename,
        classification=None,
        risk_score=None,
        confidence=None,
        analysis_id=None,
        error=reason,
    )


def _form(field: str) -> dict[str, Any]:
    """The OpenAPI body of a form with one file, or several, in this part."""
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    several = {"type": "array", "items": file, "minItems": 1, "maxItems": MOST_IN_BATCH}
    part = file if field == "file" else several
    schema = {"type": "object", "required": [field], "properties": {field: part}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
