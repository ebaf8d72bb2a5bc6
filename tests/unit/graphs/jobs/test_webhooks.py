"""Signatures, pauses and events of webhooks, without a receiver."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from graphs.jobs.webhooks import deliveries
from graphs.jobs.webhooks.deliveries import MAX_BYTES, event_of, pause_after
from graphs.jobs.webhooks.signing import signed_headers
from graphs.web.fetch import Outcome
from stores.jobs import new_job
from stores.subscriptions import SigningSecret

NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
# kingfisher:ignore: it is published
FAILED = Outcome(500, "it answered 500", 0.1)


def test_a_signature_is_that_of_the_examples_of_the_specification() -> None:
    at = datetime.fromtimestamp(1614265330, UTC)
    body = b'{"test": 2432232314}'
    headers = signed_headers([SigningSecret(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)
    assert headers == {
        "content-type": "application/json",
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_for_a_while_there_are_two_signatures() -> None:
    secrets = [SigningSecret(SECRET), SigningSecret("whsec_" + "AAAA" * 8, NOW)]
    counts = [
        len(signed_headers(secrets, "evt_1", at, b"{}")["webhook-signature"].split(" "))
        for at in (NOW - timedelta(seconds=1), NOW)
    ]
    assert counts == [2, 1]


def test_pauses_grow_to_six_hours_and_end_after_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries.random, "uniform", lambda low, high: (low + high) / 2)
    now, pauses = NOW, []
    while (pause := pause_after(len(pauses) + 1, FAILED, NOW, now)) is not None:
        pauses.append(pause)
        now += timedelta(seconds=pause)
    assert pauses[:9] == [5, 20, 80, 320, 1280, 5120, 20480, 21600, 21600]
    assert sum(pauses) == 24 * 3600
    assert len(pauses) == 10


def test_pauses_differ_by_a_fifth_at_most() -> None:
    pauses = [pause_after(2, FAILED, NOW, NOW) or 0 for _ in range(200)]
    assert 16 <= min(pauses) < 18
    assert 22 < max(pauses) <= 24


@pytest.mark.parametrize(
    ("retry_after_s", "elapsed_s", "low", "high"),
    [(120.0, 0, 120, 120), (0.0, 0, 4, 6), (1e9, 0, 86400, 86400), (3600.0, 86000, 400, 400), (5.0, 86401, None, None)],
)
def test_a_receiver_says_how_long_to_wait(
    retry_after_s: float, elapsed_s: int, low: float | None, high: float | None
) -> None:
    outcome = Outcome(503, "it answered 503", 0.1, retry_after_s)
    pause = pause_after(1, outcome, NOW, NOW + timedelta(seconds=elapsed_s))
    if low is None or high is None:
        assert pause is None
    else:
        assert pause is not None
        assert low <= pause <= high


def test_an_event_is_the_same_whenever_it_is_made_and_another_for_another_end() -> None:
    job = replace(new_job("index-video", "a" * 32, "print", {}), status="succeeded", finished_at=NOW, result={"n": 1})
    event = event_of(job)
    assert event == event_of(replace(job, attempts=2, checkpoint={"frame": 1}))
    assert (event.type, event.timestamp, event.data["result"]) == ("job.succeeded", NOW, {"n": 1})
    others = [replace(job, finished_at=NOW + timedelta(microseconds=1)), replace(job, job_id="b" * 32)]
    assert len({event.id, *(event_of(each).id for each in others)}) == 3
    assert "." not in event.id
    assert event_of(replace(job, status="failed", error="Bad.", result=None)).type == "job.failed"
    assert set(json.loads(event.model_dump_json())) == {"id", "type", "timestamp", "data"}


@pytest.mark.parametrize(
    ("size", "omitted"), [(100, False), (MAX_BYTES - 1000, False), (MAX_BYTES, True), (10**6, True)]
)
def test_a_large_result_is_left_out(size: int, omitted: bool) -> None:
    job = new_job("index-video", "a" * 32, "print", {})
    event = event_of(replace(job, status="succeeded", finished_at=NOW, result={"text": "x" * size}))
    assert (event.result_omitted, event.data["result"] is None) == (omitted, omitted)
    assert len(event.model_dump_json()) <= MAX_BYTES
