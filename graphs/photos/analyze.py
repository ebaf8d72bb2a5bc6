"""Routes that analyse pictures."""

from fastapi import APIRouter

from graphs.photos.analysis import PhotoAnalysis
from graphs.photos.batch import analyze_all, encoded
from graphs.photos.errors import PhotoBatchTooLarge
from graphs.photos.models import API_VERSION, AnalyzeAnswer, AnalyzeRequest, BatchAnalyzeAnswer, BatchAnalyzeRequest
from graphs.web.context import Context, Timer


def add_analyze_routes(router: APIRouter, context: Context) -> None:
    """analyze, analyze/batch."""
    analysis = PhotoAnalysis(context)

    @router.post("/analyze")
    async def analyze(request: AnalyzeRequest, clock: Timer) -> AnalyzeAnswer:
        """Sharpness, quality, aesthetics, emotions and embedding of one picture."""
        data = await encoded(context, request.image)
        result = await analysis.of(data, request.image, request, clock)
        return AnalyzeAnswer(api_version=API_VERSION, result=result)

    @router.post("/analyze/batch")
    async def analyze_batch(request: BatchAnalyzeRequest, clock: Timer) -> BatchAnalyzeAnswer:
        """The same for several pictures; one that fails has its error set, and the others their results."""
        limit = context.settings.max_batch_size
        if len(request.images) > limit:
            raise PhotoBatchTooLarge(len(request.images), limit)
        results = await analyze_all(context, analysis, request.images, request)
        failed = sum(result.error is not None for result in results)
        return BatchAnalyzeAnswer(
            api_version=API_VERSION,
            total=len(results),
            succeeded=len(results) - failed,
            failed=failed,
            results=results,
            total_processing_time_ms=clock.milliseconds,
        )
