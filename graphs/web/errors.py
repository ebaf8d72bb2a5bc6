"""Errors that graphs raise beside those of the stages; the gateway renders both the same way."""

from typing import Any

from vision.errors import StageError


class AssetNotFound(StageError):
    """One or more asset ids that were never uploaded, or were deleted."""

    code = "ASSET_NOT_FOUND"
    status = 404

    def __init__(self, asset_ids: list[str]) -> None:
        shown = ", ".join(asset_ids[:5]) + (f" and {len(asset_ids) - 5} more" if len(asset_ids) > 5 else "")
        super().__init__(f"No asset with id {shown}; upload it first with POST /api/v1/upload-media.")
        self.details: Any = {"asset_ids": asset_ids}


class BatchTooLarge(StageError):
    """More ids in one request than the limit."""

    code = "BATCH_TOO_LARGE"
    status = 400

    def __init__(self, given: int, limit: int) -> None:
        super().__init__(f"{given} assets in one request; the limit is {limit}. Send them in several requests.")
        self.details: Any = {"given": given, "limit": limit}


class StorageError(StageError):
    """The object or document store failed."""

    code = "STORAGE_ERROR"
    status = 500


class StorageUnavailable(StageError):
    """The object or document store cannot be reached."""

    code = "STORAGE_UNAVAILABLE"
    status = 503
    retryable = True
