"""Retries, errors, waiting, pages, downloads and arrays of the client."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.clients.conftest import Served
from tests.graphs.samples import picture
from visiongraph_client import (
    AccessDenied,
    ApiError,
    AsyncClient,
    Client,
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    JobFailed,
    NotFound,
    RateLimited,
    Retries,
    ServiceUnavailable,
    WaitTimeout,
)
from visiongraph_client.models import JobAnswer


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that clients would have waited."""
    seen: list[float] = []
    monkeypatch.setattr(time, "sleep", seen.append)
    return seen


def client(answers: list[Any] | Callable[[httpx.Request], httpx.Response], **options: Any) -> Client:
    """A client that gets these answers, one after the other."""
    left: Iterator[Any] = iter(answers if isinstance(answers, list) else [])

    def answer(request: httpx.Request) -> httpx.Response:
        if callable(answers):
            return answers(request)
        given = next(left)
        if isinstance(given, Exception):
            raise given
        return given if isinstance(given, httpx.Response) else httpx.Response(200, json=given)

    return Client("http://test", "a-key", transport=httpx.MockTransport(answer), **options)


def refusal(status: int, retry_after: str | None = None) -> httpx.Response:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return httpx.Response(status, headers=headers, json={"error": {"code": "CODE", "message": "why"}})


CONFIG = {"processing_time": 0.1}


def test_retry_after_is_respected(pauses: list[float]) -> None:
    with client([refusal(429, "7"), refusal(503, "2"), {"status": "ok"}]) as made:
        assert made.service.livez() == {"status": "ok"}
    assert pauses == [7.0, 2.0]


@pytest.mark.parametrize(
    ("answers", "posts", "gets"),
    [
        ([refusal(429, "1")], 2, 2),
        ([refusal(503, "1")], 1, 2),
        ([refusal(504)], 1, 2),
        ([refusal(500)], 1, 1),
        ([refusal(404)], 1, 1),
        ([httpx.ConnectError("refused")], 2, 2),
        ([httpx.ReadError("broke")], 1, 2),
        ([refusal(429, "61")], 1, 1),
    ],
)
def test_only_what_was_refused_or_does_no_harm_is_sent_again(
    pauses: list[float], answers: list[Any], posts: int, gets: int
) -> None:
    for ask, expected in (
        (lambda made: made.assets.calculate_similarity(asset_id_1="a", asset_id_2="b"), posts),
        (lambda made: made.service.livez(), gets),
    ):
        sent = []

        def answer(request: httpx.Request, sent: list[Any] = sent) -> httpx.Response:
            sent.append(request)
            given = answers[0]
            if len(sent) > 1:
                return httpx.Response(418)
            if isinstance(given, Exception):
                raise given
            return httpx.Response(given.status_code, headers=given.headers, content=given.content)

        with client(answer) as made, pytest.raises((ApiError, ConnectionFailed)):
            ask(made)
        assert len(sent) == expected


def test_it_gives_up_with_the_last_error(pauses: list[float]) -> None:
    with client([refusal(503)] * 9, retries=Retries(attempts=3)) as made, pytest.raises(ServiceUnavailable):
        made.service.livez()
    assert len(pauses) == 2
    assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1.0


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "message"),
    [
        (404, {"error": {"code": "ASSET_NOT_FOUND", "message": "No asset."}}, NotFound, "ASSET_NOT_FOUND", "No asset."),
        (409, {"success": False, "error": "Not yet.", "code": "NOT_INDEXED"}, Conflict, "NOT_INDEXED", "Not yet."),
        (422, {"error": "clustering_error", "message": "Two."}, InvalidRequest, "clustering_error", "Two."),
        (401, {"detail": "A key."}, AccessDenied, "HTTP_ERROR", "A key."),
        (400, {"error": {"code": "X", "message": "m", "details": [1]}}, InvalidRequest, "X", "m"),
        (429, "slow down", RateLimited, "HTTP_ERROR", "slow down"),
        (502, "", ServiceUnavailable, "HTTP_ERROR", "Bad Gateway"),
        (500, [1], ServiceUnavailable, "HTTP_ERROR", "Internal Server Error"),
    ],
)
def test_errors_say_what_the_service_said(
    status: int, body: Any, kind: type[ApiError], code: str, message: str
) -> None:
    headers = {"x-request-id": "r-1", "retry-after": "3"}
    content = {"text": body} if isinstance(body, str) else {"json": body}
    answer = httpx.Response(status, headers=headers, **content)
    with client([answer], retries=Retries(attempts=1)) as made, pytest.raises(kind) as caught:
        made.service.livez()
    error = caught.value
    assert (error.status, error.code, error.message) == (status, code, message)
    assert (error.request_id, error.retry_after_s) == ("r-1", 3.0)
    assert message in str(error)
    assert "r-1" in str(error)


async def test_errors_of_a_real_service(served: Served) -> None:
    async with AsyncClient(served.url) as made:
        with pytest.raises(NotFound, match="No asset with id 000"):
            await made.assets.get_media("0" * 32)
        stored = await made.assets.upload_media(file=("a.png", picture(7)))
        with pytest.raises(InvalidRequest, match="takes videos only"):
            await made.media.details(stored.asset_id)
    async with AsyncClient("http://127.0.0.1:9", retries=Retries(attempts=1)) as made:
        with pytest.raises(ConnectionFailed, match="GET /livez"):
            await made.service.livez()


def test_the_key_is_sent_and_the_environment_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization", ""))
        return httpx.Response(200, json={})

    with client(answer) as made:
        made.service.livez()
    monkeypatch.setenv("VISIONGRAPH_KEY", "from-environment")
    with Client("http://test", transport=httpx.MockTransport(answer)) as made:
        made.service.livez()
    assert seen == ["Bearer a-key", "Bearer from-environment"]


def job(status: str, progress: float = 0.0, **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(JobAnswer.model_fields)
    named = {"job_id": "j", "kind": "k", "subject": "s", "message": "", "request_id": "r"}
    return {**empty, **named, "created_at": "2026-01-01T00:00:00Z", "status": status, "progress": progress, **more}


def test_waiting_ends_with_the_job(pauses: list[float]) -> None:
    seen: list[float] = []
    steps = [job("queued"), job("running", 0.5), job("running", 0.5), job("succeeded", 1.0, result={"n": 1})]
    with client(steps) as made:
        done = made.wait("j", on_progress=lambda each: seen.append(each.progress))
    assert (done.result, seen) == ({"n": 1}, [0.0, 0.5, 1.0])
    assert pauses == [0.25, 0.25, 0.375]


@pytest.mark.parametrize(("status", "error"), [("failed", "The file is broken."), ("cancelled", None)])
def test_waiting_for_a_job_that_fails(pauses: list[float], status: str, error: str | None) -> None:
    with client([job(status, error=error)]) as made, pytest.raises(JobFailed, match=error or "was cancelled") as caught:
        made.wait("j")
    assert (caught.value.job_id, caught.value.status) == ("j", status)


def test_waiting_has_an_end(pauses: list[float]) -> None:
    with client([job("running", 0.3)] * 9) as made, pytest.raises(WaitTimeout, match="30%"):
        made.wait("j", timeout_s=0.1)


def test_pages_are_asked_for_as_they_are_needed() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("after", ""))
        after = int(asked[-1] or 0)
        return httpx.Response(200, json={"jobs": [job("queued")] * 2, "next": str(after + 1) if after < 4 else None})

    with client(answer) as made:
        found = made.iter_jobs(status="queued")
        next(found)
        assert asked == [""]
        assert len(list(found)) == 9
    assert asked == ["", "1", "2", "3", "4"]


async def test_lists_of_a_real_service(served: Served) -> None:
    async with AsyncClient(served.url) as made:
        traces = [each async for each in made.iter_traces(served.film)]
        people = [each.name async for each in made.iter_identities()]
        assets = [each.asset_id async for each in made.iter_assets(kind="video", name="film")]
        shots = [each async for each in made.iter_shots()]
    assert [(each.first_frame, each.last_frame) for each in traces] == [(10, 29), (20, 49)]
    assert people == ["Audrey"]
    assert assets == [served.film]
    assert shots == []


async def test_features_are_an_array(served: Served) -> None:
    async with AsyncClient(served.url) as made:
        ids = [(await made.assets.upload_media(file=(f"{n}.png", picture(n)))).asset_id for n in (20, 21)]
        features = await made.features(ids)
        one = await made.assets.extract_features(asset_id=ids[1])
    assert (features.shape, features.dtype) == ((2, 384), np.float32)
    np.testing.assert_array_equal(features[1], np.asarray(one.features, np.float32))
