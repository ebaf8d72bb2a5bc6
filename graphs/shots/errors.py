"""Errors of the shot routes beside those of stages and assets."""

from vision.errors import StageError


class ShotNotFound(StageError):
    """A shot that was never stored, or was taken out of the library, or went with its video."""

    code = "SHOT_NOT_FOUND"
    status = 404

    def __init__(self, shot_id: str) -> None:
        super().__init__(f"There is no shot {shot_id}; GET /api/v1/shot-library lists those there are.")


class AnalysisCancelled(StageError):
    """Somebody cancelled the job of an analysis while it was waited for."""

    code = "ANALYSIS_CANCELLED"
    status = 409

    def __init__(self) -> None:
        super().__init__("The analysis was cancelled; asked for again it begins anew.")


class NotAnalyzed(StageError):
    """A video whose shots nobody looked for yet."""

    code = "NOT_ANALYZED"
    status = 409

    def __init__(self, video_asset_id: str) -> None:
        super().__init__(
            f"The shots of {video_asset_id} are not known yet; POST /api/v1/analyze-video-shots with it finds them."
        )
