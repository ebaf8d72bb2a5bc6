"""What each API promises of all its routes: where they are, how they tell failures, how often they may be called."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from configs.settings import Settings
from graphs.photos.errors import CODES as PHOTO_CODES
from graphs.web.errors import CODED, ErrorStyle, Failure


@dataclass(frozen=True)
class RateLimit:
    """A kind of request that has one bucket per client: filled with ``per_minute``, holding ``burst`` at most.

    ``routes`` matches all of ``METHOD /path``.
    """

    name: str
    per_minute: int
    routes: str
    burst: int | None = None
    """None: as many as per_minute."""


@dataclass(frozen=True)
class Contract:
    """``paths`` matches the beginning of every path of the API; of its limits the first that matches counts."""

    paths: str
    errors: ErrorStyle
    limits: Callable[[Settings], tuple[RateLimit, ...]]


def _detail(failure: Failure) -> Any:
    return {"detail": failure.message}


def _analysis(failure: Failure) -> Any:
    return {"detail": f"Analysis failed: {failure.message}" if failure.status == 500 else failure.message}


def _photo(failure: Failure) -> Any:
    body = {"error": failure.code.lower(), "message": failure.message}
    return body if failure.details is None else {**body, "detail": failure.details}


def _media(failure: Failure) -> Any:
    return {"success": False, "error": failure.message, "code": failure.code}


ASSETS = Contract(
    paths="",  # and every path that no other API has
    errors=CODED,
    limits=lambda _: (
        RateLimit("assets-upload", 50, "POST (?:/api/v1)?/upload-media"),
        RateLimit("assets-batch", 10, "POST (?:/api/v1)?/batch-[a-z-]+"),
        # Where an embedded store serves the files; a bucket would count nothing either.
        RateLimit("assets-content", 600, "(?:GET|HEAD) (?:/api/v1)?/media/[^/]+/(?:content|poster)"),
        RateLimit("assets", 100, ".*"),
    ),
)
PHOTOS = Contract(
    paths="/v1/",
    errors=ErrorStyle(_photo, {kind.code: answer for kind, answer in PHOTO_CODES.items()}),
    limits=lambda settings: (
        RateLimit("photos", settings.rate_limit_per_minute, ".*", burst=settings.rate_limit_burst),
    ),
)
MUZZLE = Contract(
    paths="/(?:predict|encode|domain-check|animals|identify)(?:/|$)",
    # Its table of errors has no other statuses for a request that cannot be used, or not in time.
    errors=ErrorStyle(
        _detail,
        {code: (422, code) for code in ("INVALID_INPUT", "INVALID_FILE_FORMAT", "FILE_TOO_LARGE", "HTTP_ERROR")}
        | {"DEADLINE_EXCEEDED": (503, "DEADLINE_EXCEEDED")},
    ),
    limits=lambda _: (
        RateLimit("muzzle", 30, "POST /(?:predict|encode|domain-check)(?:/.*)?"),
        RateLimit("muzzle-animals", 60, ".*"),
    ),
)
AUTHENTICITY = Contract(
    paths="/api/v1/(?:analyze|results)/",
    errors=ErrorStyle(_analysis),
    limits=lambda _: (
        RateLimit("authenticity-batch", 10, "POST .*/image/batch/?"),
        RateLimit("authenticity-image", 100, "POST .*/image/?"),
        RateLimit("authenticity-video", 10, "POST .*/video/?"),
        RateLimit("authenticity-audio", 50, "POST .*/audio/?"),
        RateLimit("authenticity", 100, ".*"),
    ),
)
MEDIA = Contract(
    paths="/api/v1/(?:file/|identities(?:/|$))",
    errors=ErrorStyle(_media, {"VALIDATION_ERROR": (400, "INVALID_INPUT")}),
    limits=lambda _: (RateLimit("media", 600, ".*"),),  # a player asks for many ranges
)
SHOTS = Contract(
    paths="(?:/api/v1)?/(?:(?:analyze-video-shots|store-shot-data|suggest-shots|shot-library)(?:/|$)|shots/)",
    errors=CODED,
    limits=lambda _: (
        RateLimit("shots-thumbnails", 600, "(?:GET|HEAD) .*/thumbnail/?"),  # a page of the library shows many
        RateLimit("assets", 100, ".*"),  # one bucket with the asset API, of which these routes are a part
    ),
)
JOBS = Contract(
    paths="/api/v1/jobs(?:/|$)",
    errors=CODED,
    limits=lambda _: (RateLimit("jobs", 600, ".*"),),  # clients ask every second how far theirs is
)


class Contracts:
    """The contracts of the APIs that one gateway serves."""

    def __init__(self, served: Iterable[Contract]) -> None:
        self.all = (*(contract for contract in served if contract is not ASSETS), ASSETS)
        self._paths = re.compile("|".join(f"({contract.paths})" for contract in self.all))

    def of(self, path: str) -> Contract:
        """The contract of the API that a path belongs to."""
        found = self._paths.match(path)
        assert found is not None
        assert found.lastindex is not None
        return self.all[found.lastindex - 1]

    def errors(self, path: str) -> ErrorStyle:
        """How failures of a path are told."""
        return self.of(path).errors
