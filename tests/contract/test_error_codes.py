"""Every error class of the product → code and status, as clients of the asset API were promised."""

import importlib
import pickle
import pkgutil

import httpx
import pytest
from fastapi import FastAPI

import deployments
import graphs
import stores
import vision
from graphs.web.errors import RETRY_AFTER_S, install_error_handlers
from stores.errors import StoreError
from tests.graphs.samples import error_of
from vision.errors import ModelNotLoaded, StageError

TABLE = {
    "StageError": ("PROCESSING_FAILED", 500),
    "ProcessingFailed": ("PROCESSING_FAILED", 500),
    "InvalidInput": ("INVALID_INPUT", 400),
    "NoUsableAssets": ("INVALID_INPUT", 400),
    "InvalidMedia": ("INVALID_FILE_FORMAT", 400),
    "MediaTooLarge": ("FILE_TOO_LARGE", 413),
    "ModelNotLoaded": ("MODEL_NOT_LOADED", 503),
    "WeightsUnavailable": ("MODEL_NOT_LOADED", 503),
    "StageUnavailable": ("STAGE_UNAVAILABLE", 503),
    "OtherVersion": ("STAGE_UNAVAILABLE", 503),
    "StageOverloaded": ("OVERLOADED", 429),
    "DeadlineExceeded": ("DEADLINE_EXCEEDED", 504),
    "AssetNotFound": ("ASSET_NOT_FOUND", 404),
    "UploadOfOthers": ("ASSET_NOT_FOUND", 404),
    "ScopeMissing": ("FORBIDDEN", 403),
    "BatchTooLarge": ("BATCH_TOO_LARGE", 400),
    "ImageFetchError": ("IMAGE_FETCH_ERROR", 422),
    "MediaNotFound": ("ASSET_NOT_FOUND", 404),
    "TextNotSupported": ("MODEL_NOT_LOADED", 503),
    "PhotoBatchTooLarge": ("BATCH_TOO_LARGE", 422),
    "ClusteringError": ("CLUSTERING_ERROR", 422),
    "ProviderKeyMissing": ("MODEL_NOT_LOADED", 503),
    "ProviderRejected": ("PROVIDER_REJECTED", 502),
    "ProviderUnavailable": ("PROVIDER_UNAVAILABLE", 503),
    "AnswerUnusable": ("PROVIDER_ANSWER_UNUSABLE", 502),
    "JobNotFound": ("JOB_NOT_FOUND", 404),
    "JobFinished": ("JOB_FINISHED", 409),
    "WebhookNotFound": ("WEBHOOK_NOT_FOUND", 404),
    "TooManyWebhooks": ("QUOTA_EXCEEDED", 403),
    "ReceiverRefused": ("WEBHOOK_URL_REFUSED", 400),
    "Undeliverable": ("WEBHOOK_UNDELIVERABLE", 410),
    "FrameOutOfRange": ("FRAME_OUT_OF_RANGE", 400),
    "SegmentNotFound": ("SEGMENT_NOT_FOUND", 404),
    "UnsafeForDecord": ("INVALID_INPUT", 400),
    "NotIndexed": ("NOT_INDEXED", 409),
    "TraceNotFound": ("TRACE_NOT_FOUND", 404),
    "TrackNotFound": ("TRACK_NOT_FOUND", 404),
    "IdentityNotFound": ("IDENTITY_NOT_FOUND", 404),
    "NeverTogether": ("NO_COOCCURRENCE", 404),
    "ShotNotFound": ("SHOT_NOT_FOUND", 404),
    "NotAnalyzed": ("NOT_ANALYZED", 409),
    "AnalysisCancelled": ("ANALYSIS_CANCELLED", 409),
    "UnsupportedFileType": ("UNSUPPORTED_FILE_TYPE", 400),
    "UndecodableMedia": ("UNDECODABLE_MEDIA", 422),
    "FalseAlarmsUnknown": ("FALSE_ALARMS_UNKNOWN", 422),
    "AnalysisNotFound": ("ANALYSIS_NOT_FOUND", 404),
    "NoHeatMap": ("NO_HEAT_MAP", 404),
    "AnimalDuplicate": ("ANIMAL_DUPLICATE", 409),
    "AnimalNotFound": ("ANIMAL_NOT_FOUND", 404),
    "AnimalExists": ("ANIMAL_EXISTS", 409),
    "StorageUnavailable": ("STORAGE_UNAVAILABLE", 503),
    "BodyTooSlow": ("REQUEST_TIMEOUT", 408),
    "UnsupportedVersion": ("UNSUPPORTED_VERSION", 412),
    "UploadNotFound": ("UPLOAD_NOT_FOUND", 404),
    "OffsetMismatch": ("OFFSET_MISMATCH", 409),
    "UploadLocked": ("UPLOAD_LOCKED", 423),
    "ChecksumMismatch": ("CHECKSUM_MISMATCH", 460),
    "TooManyUploads": ("TOO_MANY_UPLOADS", 429),
    "RegistryInvalid": ("MODEL_NOT_LOADED", 503),
    "QuotaExceeded": ("QUOTA_EXCEEDED", 429),
    "StorageQuotaExceeded": ("QUOTA_EXCEEDED", 403),
}
ARGUMENTS = {
    "BodyTooSlow": (3,),
    "QuotaExceeded": ("jobs", 4, 4),
    "StorageQuotaExceeded": ("bytes", 40, 50, 11),
    "AssetNotFound": (["a" * 32],),
    "UploadOfOthers": (["a" * 32],),
    "ScopeMissing": ("media:read", "it may not ask"),
    "BatchTooLarge": (101, 100),
    "NoUsableAssets": ("Two are needed.", []),
    "PhotoBatchTooLarge": (21, 20),
    "NotIndexed": ("a" * 32,),
    "TraceNotFound": ("a" * 32, 7),
    "TrackNotFound": ("a" * 32, 7),
    "ShotNotFound": ("a" * 32,),
    "NotAnalyzed": ("a" * 32,),
    "AnalysisCancelled": (),
    "IdentityNotFound": ("c3545906-c82d-4b66-aa1d-150bc02decce",),
    "AnimalDuplicate": ("ANIMAL_DUPLICATE", 409),
    "AnimalNotFound": ("DE-0123456789",),
    "AnimalExists": ("DE-0123456789",),
}


def error_classes() -> dict[str, type[StageError]]:
    """Every StageError of the product by name."""
    for package in (vision, stores, deployments, graphs):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    classes, todo = {}, [StageError]
    while todo:
        cls = todo.pop()
        classes[cls.__name__] = cls
        todo += cls.__subclasses__()
    return {name: cls for name, cls in classes.items() if not cls.__module__.startswith("tests.")}


CLASSES = error_classes()


def test_the_table_is_complete() -> None:
    assert set(CLASSES) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
async def test_an_error_keeps_its_promise(name: str) -> None:
    error = CLASSES[name](*ARGUMENTS.get(name, ("what was wrong, and what to do",)))
    code, status = TABLE[name]
    assert (error.code, error.status) == (code, status)
    assert not error.retryable or status in (429, 503, 504)

    app = FastAPI()
    install_error_handlers(app)

    @app.get("/")
    async def route() -> None:
        raise error

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/")
    body = error_of(answer, status, code)
    assert body["message"] == error.message
    if error.retryable:
        assert answer.headers["retry-after"] == str(RETRY_AFTER_S)
    assert body["details"] == getattr(error, "details", None)


@pytest.mark.parametrize("name", TABLE)
def test_what_the_service_lacks_is_not_blamed_on_the_input(name: str) -> None:
    error = CLASSES[name](*ARGUMENTS.get(name, ("why",)))
    lacking = error.retryable or isinstance(error, (ModelNotLoaded, CLASSES["QuotaExceeded"]))
    assert error.concerns_input == (not lacking)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in ARGUMENTS])
def test_an_error_of_a_stage_survives_the_way_between_processes(name: str) -> None:
    error = CLASSES[name]("what was wrong")
    error.__cause__ = OSError("not for clients")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, str(copy)) == (type(error), "what was wrong", "what was wrong")


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (StoreError("mongodb db.internal: refused"), 503, "STORAGE_ERROR"),
        (KeyError("secret"), 500, "PROCESSING_FAILED"),
    ],
)
async def test_other_errors_say_nothing_of_their_cause(raised: Exception, status: int, code: str) -> None:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/")
    async def route() -> None:
        raise raised

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/")
    error_of(answer, status, code)
    assert "secret" not in answer.text
    assert "internal" not in answer.text
