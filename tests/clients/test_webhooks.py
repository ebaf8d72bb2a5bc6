"""Receivers of webhooks: what they verify, and the receiver of docs/webhooks.md, run as it stands there."""

import asyncio
import base64
import hmac
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path

import httpx
import pytest

from graphs.jobs.webhooks.signing import signed_headers
from stores.subscriptions import SigningSecret, new_secret
from tests.clients.conftest import Served
from visiongraph_client import InvalidRequest, InvalidSignature, verify_webhook

PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"
SECRET = new_secret().secret
EVENT = json.loads(re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[0])
BODY = json.dumps(EVENT).encode()
NOW = 1_770_000_000


def headers_of(body: bytes = BODY, secret: str = SECRET, at: int = NOW, event_id: str = "evt_1") -> dict[str, str]:
    """Headers as any sender that keeps to the specification makes them."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{event_id}.{at}.".encode() + body, "sha256")
    return {
        "Webhook-Id": event_id,
        "Webhook-Timestamp": str(at),
        "Webhook-Signature": "v1," + base64.b64encode(digest).decode(),
    }


def test_what_the_service_sends_is_verified() -> None:
    at = datetime.now(UTC)
    headers = signed_headers([SigningSecret(SECRET), new_secret()], "evt_1", at, BODY)
    event = verify_webhook(SECRET, headers, BODY)
    assert (event.id, event.type, event.result_omitted) == (EVENT["id"], "job.succeeded", False)
    assert event.job is not None
    assert (event.job.kind, event.job.result, event.job.progress) == ("index-video", {"traces": 3}, 1.0)
    assert verify_webhook(SECRET, headers, BODY.decode()) == event


def test_headers_of_any_kind_and_several_signatures() -> None:
    given = headers_of()
    message = Message()
    for name, value in given.items():
        message[name.upper()] = value
    assert verify_webhook(SECRET, message, BODY, now=NOW).type == "job.succeeded"
    assert verify_webhook(SECRET, httpx.Headers(given), BODY, now=NOW)
    other = headers_of(secret=new_secret().secret)["Webhook-Signature"]
    several = given | {"Webhook-Signature": f"v1a,AAAA {other} {given['Webhook-Signature']}"}
    assert verify_webhook(SECRET.removeprefix("whsec_"), several, BODY, now=NOW)


def test_a_ping_has_no_job() -> None:
    body = json.dumps({"id": "evt_2", "type": "webhook.ping", "timestamp": EVENT["timestamp"], "data": {}}).encode()
    assert verify_webhook(SECRET, headers_of(body), body, now=NOW).job is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"Webhook-Id": "evt_2"}, "No signature"),
        ({"Webhook-Timestamp": str(NOW + 1)}, "No signature"),
        ({"Webhook-Timestamp": "soon"}, "no number"),
        ({"Webhook-Signature": ""}, "No signature"),
        ({"Webhook-Signature": headers_of()["Webhook-Signature"].replace("v1,", "v2,")}, "No signature"),
        ({"Webhook-Signature": headers_of()["Webhook-Signature"].removeprefix("v1,")}, "No signature"),
        ({"Webhook-Signature": "v1,ä"}, "No signature"),
        ({"Webhook-Signature": headers_of(secret=new_secret().secret)["Webhook-Signature"]}, "No signature"),
        ({"Webhook-Signature": None}, "webhook-signature is missing"),
        ({"Webhook-Id": None}, "webhook-id is missing"),
    ],
)
def test_what_somebody_else_has_sent(change: dict[str, str | None], says: str) -> None:
    headers = {name: value for name, value in (headers_of() | change).items() if value is not None}
    with pytest.raises(InvalidSignature, match=says):
        verify_webhook(SECRET, headers, BODY, now=NOW)


@pytest.mark.parametrize("body", [BODY + b" ", BODY.replace(b"succeeded", b"failed"), b""])
def test_what_was_altered(body: bytes) -> None:
    with pytest.raises(InvalidSignature, match="No signature"):
        verify_webhook(SECRET, headers_of(), body, now=NOW)


def test_what_is_old_or_of_the_future_or_no_event_and_a_secret_that_is_none() -> None:
    for now in (NOW + 301, NOW - 301):
        with pytest.raises(InvalidSignature, match="too old"):
            verify_webhook(SECRET, headers_of(), BODY, now=now)
    assert verify_webhook(SECRET, headers_of(), BODY, now=NOW + 301, tolerance_s=600)
    with pytest.raises(InvalidSignature, match="no event"):
        verify_webhook(SECRET, headers_of(b"[]"), b"[]", now=NOW)
    with pytest.raises(InvalidSignature, match="secret is none"):
        verify_webhook("whsec_ä!", headers_of(), BODY, now=NOW)


@pytest.fixture
def receiver() -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The receiver of the page, and its URL."""
    (source,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len([line for line in source.splitlines() if line.strip()]) <= 16
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    paths = os.pathsep.join((str(PAGE.parents[1] / "clients" / "python"), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "WEBHOOK_SECRET": SECRET, "PORT": str(port), "PYTHONPATH": paths}
    argv = [sys.executable, "-u", "-c", source]
    with subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        url = f"http://127.0.0.1:{port}/"
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield url, running
        running.kill()


def test_the_receiver_of_the_page_runs(receiver: tuple[str, "subprocess.Popen[str]"]) -> None:
    url, running = receiver
    at = int(time.time())
    assert httpx.post(url, content=BODY, headers=headers_of(at=at)).status_code == 204
    assert httpx.post(url, content=BODY, headers=headers_of(at=at - 3600)).status_code == 401
    assert httpx.post(url, content=BODY + b" ", headers=headers_of(at=at)).status_code == 401
    assert running.stdout is not None
    assert running.stdout.readline() == f"job.succeeded {EVENT['data']['subject']}\n"


async def test_a_refusal_is_an_error_of_the_client(served: Served) -> None:
    def ask() -> None:
        with served.client() as client:
            with pytest.raises(InvalidRequest, match="https://"):
                client.webhooks.create_webhook(url="http://127.0.0.1/")
            with pytest.raises(InvalidRequest, match="No public address"):
                client.webhooks.create_webhook(url="https://127.0.0.1/", events=["job.failed"])
            assert client.webhooks.list_webhooks().webhooks == []

    await asyncio.to_thread(ask)
