"""The routes analyze/…; each answers with and without the slash at its end, as a redirect would lose the file."""

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from graphs.authenticity.answers import audio_answer, video_answer
from graphs.authenticity.heatmap import draw_heat_map
from graphs.authenticity.images import ImageAnalysis
from graphs.authenticity.provenance import media_provenance
from graphs.authenticity.reliability import Operation, Reliability
from graphs.authenticity.results import Results
from graphs.authenticity.schemas import AudioAnswer, BatchAnswer, BatchResult, ImageAnswer, VideoAnswer
from graphs.authenticity.sound import decoded_sound, examine_sound
from graphs.authenticity.uploads import MOST_IN_BATCH, Uploads
from graphs.authenticity.video import examine_video
from graphs.web.context import Clock, Context, Timer, task_group
from graphs.web.schemas import upload_body
from graphs.web.uploads.spool import SpooledUpload
from vision.errors import StageError

logger = logging.getLogger("ray.serve")

Route = Callable[[Any], Any]
FalseAlarms = Annotated[
    float | None,
    Query(
        ge=1e-6,
        lt=1,
        description="answer with the threshold that keeps the rate of false alarms below this, and the recall that is "
        "left; 422 where that was never measured, or on too few samples to tell",
    ),
]


def analyze_router(context: Context, results: Results) -> APIRouter:
    """Return the routes analyze/image, analyze/image/batch, analyze/video and analyze/audio."""
    router = APIRouter()
    uploads, images = Uploads(context), ImageAnalysis(context, results)
    reliability = Reliability.load(context.settings.reliability_file)

    def post(path: str, field: str, max_files: int = 1) -> Route:
        def add(handler: Any) -> Any:
            document = upload_body(field, max_files)
            router.post(path, openapi_extra=document)(handler)
            other = path.removesuffix("/") if path.endswith("/") else f"{path}/"
            router.post(other, include_in_schema=False, openapi_extra=document)(handler)
            return handler

        return add

    @post("/analyze/image/", "file")
    async def analyze_image(request: Request, clock: Timer, max_false_alarms: FalseAlarms = None) -> ImageAnswer:
        """Estimate how likely an image was manipulated, and explain why. JPEG, PNG or WebP, up to 100 MB."""
        reliability.refuse_unknown("image", max_false_alarms)
        operation = Operation(reliability, max_false_alarms)
        async with uploads.spooled(request, "image", "file") as (upload,):
            return await images.of(await uploads.checked(upload, "image"), clock, operation)

    @post("/analyze/image/batch", "files", MOST_IN_BATCH)
    async def analyze_images(request: Request, clock: Timer, max_false_alarms: FalseAlarms = None) -> BatchAnswer:
        """Analyze up to ten images; one that cannot be judged has its error set, and the others have verdicts."""
        reliability.refuse_unknown("image", max_false_alarms)
        operation = Operation(reliability, max_false_alarms)
        async with uploads.spooled(request, "image", "files", MOST_IN_BATCH) as files:
            batch = [await _batch_result(images, uploads, upload, operation) for upload in files]
        return BatchAnswer(
            batch_id=f"batch-{uuid.uuid4()}",
            total_files=len(batch),
            results=batch,
            processing_time_ms=round(clock.milliseconds),
        )

    @post("/analyze/video/", "file")
    async def analyze_video(
        request: Request,
        clock: Timer,
        num_frames: Annotated[int, Query(ge=1, le=256, description="frames to look at, spread over the video")] = 16,
        max_false_alarms: FalseAlarms = None,
    ) -> VideoAnswer:
        """Analyze a video by single frames, by how a face moves, and by the voice. MP4, AVI, MOV or WebM."""
        reliability.refuse_unknown("video", max_false_alarms)
        await context.quotas.refuse_video()
        async with (
            uploads.spooled(request, "video", "file") as (upload,),
            context.quotas.judging_video(),
            uploads.decoding_slot(),
        ):
            submission = await uploads.checked(upload, "video")
            async with task_group() as group:
                findings_task = group.create_task(examine_video(context, submission, num_frames))
                provenance_task = group.create_task(media_provenance(context, submission))
            findings = findings_task.result()
            answer = video_answer(
                submission, findings, provenance_task.result(), clock, Operation(reliability, max_false_alarms)
            )
            heat_map = None
            if findings.worst is not None:
                frame, pixels = findings.worst
                heat_map = await asyncio.to_thread(draw_heat_map, pixels, frame.image)
            await results.save(answer.analysis_id, answer, heat_map)
            return answer

    @post("/analyze/audio/", "file")
    async def analyze_audio(request: Request, clock: Timer, max_false_alarms: FalseAlarms = None) -> AudioAnswer:
        """Estimate how likely a voice is synthetic; NO_SPEECH where nobody speaks. WAV, MP3, M4A, AAC, FLAC or OGG."""
        reliability.refuse_unknown("audio", max_false_alarms)
        async with uploads.spooled(request, "audio", "file") as (upload,):
            submission = await uploads.checked(upload, "audio")
            provenance = await media_provenance(context, submission)
            async with decoded_sound(context.settings, submission) as sound:
                findings = await examine_sound(context, sound)
                answer = audio_answer(submission, findings, provenance, clock, Operation(reliability, max_false_alarms))
            await results.save(answer.analysis_id, answer, None)
            return answer

    return router


async def _batch_result(
    images: ImageAnalysis, uploads: Uploads, upload: SpooledUpload, operation: Operation
) -> BatchResult:
    try:
        answer = await images.of(await uploads.checked(upload, "image"), Clock(), operation)
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
        unavailable=answer.unavailable,
        operating_point=answer.operating_point,
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
