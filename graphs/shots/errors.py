"""Errors of the shot routes beside those of stages and assets."""

from deployments.errors import StageError


class ShotNotFound(StageError):
    """A shot that was never stored, or was taken out of the library, or went with its video."""

    code = "SHOT_NOT_FOUND"
    status = 404

    def __init__(self, shot_id: str) -> None:
        super().__init__(f"There is no shot {shot_id}; GET /api/v1/shot-library lists those there are.")
