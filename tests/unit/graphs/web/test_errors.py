"""Every failure in the style of every API."""

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Scope

from graphs.photos.errors import ClusteringError, PhotoBatchTooLarge
from graphs.web.api import find_apis
from graphs.web.errors import CODED, AssetNotFound, ErrorStyle, install_error_handlers
from graphs.web.fetch import ImageFetchError
from stores.errors import StoreError
from vision import errors
from vision.errors import StageError

PREFIXES = {"/v1/": "photos", "/predict": "muzzle", "/api/v1/analyze/": "authenticity", "/api/v1/file/": "media"}


def style_of(scope: Scope) -> ErrorStyle:
    served = (name for prefix, name in PREFIXES.items() if scope["path"].startswith(prefix))
    return next((find_apis()[name].errors for name in served), CODED)


class Body(BaseModel):
    number: int


async def failing(error: Exception | None, path: str) -> tuple[int, Any, httpx.Headers]:
    """Status, body and headers of an answer from a path that raises the error; without one, from a bad body."""
    app = FastAPI()
    install_error_handlers(app, style_of)

    @app.post(path)
    async def route(body: Body) -> None:
        assert error is not None
        raise error

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post(path, json={"number": "x" if error is None else 1})
    assert "secret" not in answer.text
    return answer.status_code, answer.json(), answer.headers


PHOTO_TABLE: list[tuple[Exception | None, int, str]] = [
    (errors.InvalidMedia("m"), 422, "image_decode_error"),
    (errors.MediaTooLarge("m"), 413, "image_too_large"),
    (HTTPException(413, "m"), 413, "image_too_large"),
    (ImageFetchError("m"), 422, "image_fetch_error"),
    (errors.ModelNotLoaded("m"), 503, "model_not_ready"),
    (errors.StageUnavailable("m"), 503, "model_not_ready"),
    (PhotoBatchTooLarge(21, 20), 422, "batch_too_large"),
    (ClusteringError("m"), 422, "clustering_error"),
    (errors.InvalidInput("m"), 422, "validation_error"),
    (None, 422, "validation_error"),
    (errors.ProcessingFailed("m"), 500, "internal_error"),
    (StageError("m"), 500, "internal_error"),
    (KeyError("secret"), 500, "internal_error"),
    (errors.StageOverloaded("m"), 429, "overloaded"),
    (errors.DeadlineExceeded("m"), 504, "deadline_exceeded"),
    (AssetNotFound(["a"]), 404, "asset_not_found"),
    (StoreError("secret"), 503, "storage_error"),
    (HTTPException(405), 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("error", "status", "code"), PHOTO_TABLE)
async def test_photo_errors(error: Exception | None, status: int, code: str) -> None:
    got, body, headers = await failing(error, "/v1/analyze")
    assert (got, body["error"]) == (status, code)
    assert isinstance(body["message"], str)
    assert set(body) == {"error", "message", "detail"} - ({"detail"} if not _detailed(error) else set())
    assert ("retry-after" in headers) == (status in (429, 503, 504))


def _detailed(error: Exception | None) -> bool:
    return error is None or isinstance(error, PhotoBatchTooLarge | AssetNotFound)


async def test_the_details_of_a_photo_error() -> None:
    _, body, _ = await failing(PhotoBatchTooLarge(21, 20), "/v1/analyze/batch")
    assert body["detail"] == {"given": 21, "limit": 20}
    _, body, _ = await failing(None, "/v1/analyze")
    assert body["detail"][0]["field"] == "body.number"
    assert body["message"].startswith("body.number: ")


@pytest.mark.parametrize(
    ("error", "statuses"),
    [
        # of assets, authenticity, muzzle, media
        (errors.InvalidMedia("m"), (400, 400, 422, 400)),
        (errors.InvalidInput("m"), (400, 400, 422, 400)),
        (errors.MediaTooLarge("m"), (413, 413, 422, 413)),
        (errors.ModelNotLoaded("m"), (503, 503, 503, 503)),
        (errors.ProcessingFailed("m"), (500, 500, 500, 500)),
        (errors.StageOverloaded("m"), (429, 429, 429, 429)),
        (AssetNotFound(["a"]), (404, 404, 404, 404)),
        (None, (422, 422, 422, 400)),
        (KeyError("secret"), (500, 500, 500, 500)),
    ],
)
async def test_statuses_and_bodies_of_the_other_apis(error: Exception | None, statuses: tuple[int, ...]) -> None:
    paths = ("/analyze-quality", "/api/v1/analyze/image/", "/predict", "/api/v1/file/abc/clip")
    bodies = []
    for path, status in zip(paths, statuses, strict=True):
        got, body, headers = await failing(error, path)
        assert got == status, path
        assert ("retry-after" in headers) == (status in (429, 503, 504))
        bodies.append(body)
    assets, authenticity, muzzle, media = bodies
    message = assets["error"]["message"]
    assert set(assets["error"]) == {"code", "message", "details", "timestamp"}
    assert muzzle == {"detail": message}
    assert authenticity == {"detail": f"Analysis failed: {message}" if statuses[1] == 500 else message}
    assert media == {"success": False, "error": message, "code": media["code"]}


async def test_a_route_that_does_not_exist_is_reported_in_the_style_of_its_api() -> None:
    app = FastAPI()
    install_error_handlers(app, style_of)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        photos, muzzle, other = [(await client.get(path)).json() for path in ("/v1/x", "/predict/x", "/x")]
    assert photos == {"error": "not_found", "message": "There is no route GET /v1/x; /docs lists them."}
    assert muzzle == {"detail": "There is no route GET /predict/x; /docs lists them."}
    assert other["error"]["code"] == "NOT_FOUND"
    assert "docs" in json.dumps(other)
