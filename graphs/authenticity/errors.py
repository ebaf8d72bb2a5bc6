"""Errors that only the authenticity API has."""

from collections.abc import Iterable

from vision.errors import StageError


class UnsupportedFileType(StageError):
    """The bytes of a file are of a kind that the route does not accept."""

    code = "UNSUPPORTED_FILE_TYPE"
    status = 400

    @classmethod
    def of(cls, what: str, supported: Iterable[str]) -> "UnsupportedFileType":
        """Return the error for a file that is ``what``, a text with an article."""
        return cls(f"Unsupported file type: {what}. Supported: {list(supported)}")


class UndecodableMedia(StageError):
    """A file is of the right kind but cannot be decoded."""

    code = "UNDECODABLE_MEDIA"
    status = 422


class FalseAlarmsUnknown(StageError):
    """No threshold is known that keeps a rate of false alarms: it was never measured, or on too few samples."""

    code = "FALSE_ALARMS_UNKNOWN"
    status = 422


class AnalysisNotFound(StageError):
    """No analysis has the id, or it has expired."""

    code = "ANALYSIS_NOT_FOUND"
    status = 404


class NoHeatMap(StageError):
    """The analysis has no heat map, as it was of a sound."""

    code = "NO_HEAT_MAP"
    status = 404
