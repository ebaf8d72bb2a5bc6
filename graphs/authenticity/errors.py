"""Errors that only the authenticity API has."""

from collections.abc import Iterable

from vision.errors import StageError


class UnsupportedFileType(StageError):
    """A file whose bytes are of a kind that the route does not take."""

    code = "UNSUPPORTED_FILE_TYPE"
    status = 400

    @classmethod
    def of(cls, what: str, supported: Iterable[str]) -> "UnsupportedFileType":
        """``what`` came, begun with its article."""
        return cls(f"Unsupported file type: {what}. Supported: {list(supported)}")


class UndecodableMedia(StageError):
    """A file of the right kind that cannot be decoded."""

    code = "UNDECODABLE_MEDIA"
    status = 422


class AnalysisNotFound(StageError):
    """No analysis has the id, or it was kept long enough."""

    code = "ANALYSIS_NOT_FOUND"
    status = 404


class NoHeatMap(StageError):
    """The analysis has no picture: it was of a sound."""

    code = "NO_HEAT_MAP"
    status = 404
