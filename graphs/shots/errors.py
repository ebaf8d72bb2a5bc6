"""Errors of the shot routes beside those of stages and assets."""

from vision.errors import StageError


class ShotNotFound(StageError):
    """A shot that was never stored, or was deleted, alone or with its video."""

    code = "SHOT_NOT_FOUND"
    status = 404

    def __init__(self, shot_id: str) -> None:
        super().__init__(f"There is no shot {shot_id}; GET /api/v1/shot-library lists those there are.")


class AnalysisCancelled(StageError):
    """An analysis whose job was cancelled while a request waited for it."""

    code = "ANALYSIS_CANCELLED"
    status = 409

    def __init__(self) -> None:
        super().__init__("The analysis was cancelled; send the request again to start a new one.")


class NotAnalyzed(StageError):
    """A video whose shots were not analysed yet."""

    code = "NOT_ANALYZED"
    status = 409

    def __init__(self, video_asset_id: str) -> None:
        super().__init__(
            f"The shots of {video_asset_id} are not known yet; POST /api/v1/analyze-video-shots with it finds them."
        )
