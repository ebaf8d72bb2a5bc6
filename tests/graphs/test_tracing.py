"""Spans of OpenTelemetry as a collector gets them: what they say, whose children they are, what a bad one costs."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray import serve as ray_serve

from deployments.serving import catalog
from deployments.serving.catalog import CallLimits, remote_handle
from deployments.serving.stage import StageRef
from graphs.jobs import worker as worker_module
from graphs.jobs.kinds import JobKind
from graphs.jobs.runner import JobContext
from graphs.jobs.worker import Worker
from graphs.web.context import Context
from stores.errors import StoreError
from stores.open import Stores
from tests.collector import Collector, Received, collecting
from tests.graphs.conftest import MakeSettings, Serve, Service
from tests.graphs.harness import LEAKS, configured
from tests.graphs.samples import picture
from tests.graphs.test_requests import Log
from tests.unit.deployments.serving import stage_child
from tests.unit.deployments.serving.stage_child import Talkative
from tests.unit.deployments.serving.test_origins import Replica
from tests.waiting import PATIENCE_S
from vision import spans
from vision.spans import begin, parent_of, span
from vision.tracing import NOBODY, Origin, origin

SERVER, CLIENT, CONSUMER, INTERNAL = 2, 3, 5, 1
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that this process sends to."""
    with collecting() as made:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        spans._tracer.cache_clear()
        yield made
        if (tracer := spans._tracer()) is not None:
            tracer._provider.shutdown()
        spans._tracer.cache_clear()


@pytest.fixture
async def traced(collector: Collector, settings_for: MakeSettings, serve: Serve) -> AsyncIterator[Service]:
    async with serve(settings_for()) as made:
        yield made


def flushed(collector: Collector, *names: str) -> list[Received]:
    spans.flush()
    return collector.wait_for(*names)


async def test_a_request_is_a_trace_from_its_client_to_the_batch(traced: Service, collector: Collector) -> None:
    asset_id = await traced.upload(picture(1))
    headers = {"traceparent": TRACEPARENT, "tracestate": "vendor=1", "X-Request-Id": "traced-1"}
    body = {"asset_id": asset_id}
    answer = await traced.client.post("/api/v1/extract-features?signature=SECRET", json=body, headers=headers)
    assert answer.status_code == 200
    names = ("POST /api/v1/extract-features", "embed/dinov3", "batch embed/dinov3")
    request, stage, batch = await asyncio.to_thread(flushed, collector, *names)
    assert (request.trace_id, request.parent_id) == (TRACE, PARENT)
    assert (stage.trace_id, stage.parent_id) == (TRACE, request.span_id)
    assert (batch.trace_id, batch.parent_id) == (TRACE, stage.span_id)
    assert (request.kind, stage.kind, batch.kind) == (SERVER, CLIENT, INTERNAL)
    assert request.start <= stage.start <= batch.start <= batch.end <= stage.end <= request.end
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/api/v1/extract-features",
        "http.response.status_code": 200,
        "http.request.body.size": len(json.dumps(body, separators=(",", ":"))),
        "http.response.body.size": len(answer.content),
        "visiongraph.api": "assets",
        "visiongraph.outcome": "sent",
        "visiongraph.request_id": "traced-1",
    }
    assert batch.attributes == {
        "visiongraph.stage": "embed/dinov3",
        "visiongraph.batch.size": 1,
        "visiongraph.batch.max": 1,
        "visiongraph.batch.own_items": 1,
        "visiongraph.request_id": "traced-1",
    }
    assert request.service == "visiongraph"
    assert not any(each.failed for each in (request, stage, batch))
    assert (await Log(traced).of("traced-1"))["trace_id"] == TRACE
    text = repr(collector.spans)
    assert "SECRET" not in text
    assert asset_id not in text


async def test_calls_of_stores_are_in_the_trace_of_their_request_and_no_others_are_recorded(
    traced: Service, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = {"files": {"file": ("a.png", picture(9))}, "headers": {"X-Request-Id": "up"}}
    assert (await traced.client.post("/api/v1/upload-media", **request)).status_code == 200
    names = ("POST /api/v1/upload-media", "objects.put_file", "documents.insert_asset")
    upload, put, insert = await asyncio.to_thread(flushed, collector, *names)
    for call in (put, insert):
        assert (call.trace_id, call.parent_id, call.kind) == (upload.trace_id, upload.span_id, CLIENT)
        assert upload.start <= call.start <= call.end <= upload.end + 0.001
        assert call.attributes["visiongraph.request_id"] == "up"
    assert (put.attributes["visiongraph.store"], put.attributes["visiongraph.operation"]) == ("objects", "put_file")
    collector.spans.clear()
    await traced.context.documents.list_assets()  # by nobody
    monkeypatch.setattr(traced.context.stores._objects, "head", _away)
    with pytest.raises(StoreError), span("asking"):
        await traced.context.objects.head("a" * 32)
    [asking, head] = await asyncio.to_thread(flushed, collector, "asking", "objects.head")
    assert (head.parent_id, head.failed, head.attributes["error.type"]) == (asking.span_id, True, "StoreError")
    assert collector.named("documents.list_assets") == []


async def _away(*_: Any) -> Any:
    raise StoreError("objects: away")


async def test_a_failure_is_marked_where_it_happened(traced: Service, collector: Collector) -> None:
    asset_id = await traced.upload(picture(2))
    traced.client.headers["traceparent"] = TRACEPARENT

    async def away(*_: Any, **__: Any) -> Any:
        raise ConnectionError("gone")

    traced.context.stages["embed/dinov3"]._call = away
    answer = await traced.try_post("extract-features", asset_id=asset_id)
    request, stage = await asyncio.to_thread(flushed, collector, "POST /api/v1/extract-features", "embed/dinov3")
    assert stage.failed
    assert stage.attributes["error.type"] == "ProcessingFailed"
    assert request.failed is (answer.status_code >= 500)
    refused = await traced.client.get("/api/v1/media/nothing")
    assert refused.status_code == 404
    [missing] = await asyncio.to_thread(flushed, collector, "GET /api/v1/media/{asset_id}")
    assert (missing.failed, missing.attributes["http.response.status_code"]) == (False, 404)


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\x1b[31m",
        "00-" + "a" * 10_000,
        "x",
        f"00-{TRACE}-{PARENT}",
    ],
)
async def test_what_is_no_traceparent_begins_a_new_trace(traced: Service, collector: Collector, hostile: str) -> None:
    answer = await traced.client.get("/livez", headers={"traceparent": hostile, "tracestate": "a=1," * 500})
    assert answer.status_code == 200
    [request] = await asyncio.to_thread(flushed, collector, "GET /livez")
    assert request.parent_id == ""
    assert request.trace_id not in (TRACE, "0" * 32)


def test_a_state_that_is_too_long_or_binary_is_left_out() -> None:
    assert parent_of("a", TRACEPARENT, "vendor=1") == Origin("a", TRACEPARENT, "vendor=1")
    assert parent_of("a", TRACEPARENT, "v=" + "1" * 600) == Origin("a", TRACEPARENT, "")
    assert parent_of("a", TRACEPARENT, "v=\x1b") == Origin("a", TRACEPARENT, "")
    assert parent_of("a", "nothing", "vendor=1") == Origin("a", "", "")


@pytest.mark.parametrize(
    ("sampler", "argument", "flags", "expected"),
    [
        ("", "", "01", True),
        ("", "", "00", False),
        ("always_off", "", "01", False),
        ("always_on", "", "00", True),
        ("traceidratio", "0", "01", False),
        ("parentbased_traceidratio", "0", "01", True),
    ],
)
async def test_the_sampler_is_that_of_opentelemetrys_variables(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, sampler: str, argument: str, flags: str, expected: bool
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "films")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=collectors")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    token = origin.set(parent_of("r", f"00-{TRACE}-{PARENT}-{flags}", ""))
    with span("outer"), span("inner"):
        inside = origin.get()
    origin.reset(token)
    assert inside.traceparent.split("-")[1] == TRACE
    assert inside.traceparent.endswith("01") is expected
    await asyncio.to_thread(spans.flush)
    assert {each.name for each in collector.spans} == ({"outer", "inner"} if expected else set())
    if expected:
        assert {each.service for each in collector.spans} == {"films"}
        assert collector.headers[0]["authorization"] == "collectors"


@pytest.mark.parametrize("variable", ["OTEL_SDK_DISABLED=true", "OTEL_TRACES_EXPORTER=none"])
def test_the_usual_variables_switch_it_off(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(*variable.split("="))
    assert begin("x", "internal", NOBODY) is None
    with span("y") as attributes:
        attributes["a"] = 1
        assert origin.get() == NOBODY
    spans.flush()
    assert collector.spans == []


OFF = """
import asyncio, sys
from pathlib import Path
from tests.graphs.harness import every_api, settings_in
async def main():
    with settings_in(Path(sys.argv[1])) as config:
        async with every_api(config) as service:
            answer = await service.client.get("/livez", headers={"traceparent": sys.argv[2]})
            assert answer.status_code == 200
asyncio.run(main())
# Serve itself imports the SDK.
assert not [name for name in sys.modules if name.startswith("opentelemetry.exporter")]
"""


def test_nothing_of_it_is_imported_without_an_endpoint(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", OFF, str(tmp_path), TRACEPARENT], env=environment, check=True, timeout=120)


@pytest.mark.parametrize("fault", ["refuses", "500", "hangs"])
async def test_a_collector_that_fails_costs_no_request(traced: Service, collector: Collector, fault: str) -> None:
    if fault == "refuses":
        collector.server.socket.close()
    elif fault == "hangs":
        collector.hangs.clear()
    else:
        collector.answers = 500
    asset_id = await traced.upload(picture(3))
    answer = await traced.post("extract-features", asset_id=asset_id)
    assert all(leak not in json.dumps(answer) for leak in LEAKS)
    started = time.monotonic()
    await asyncio.to_thread(spans.flush)
    assert time.monotonic() - started < 15
    assert (await traced.client.get("/livez")).status_code == 200
    assert collector.spans == []
    collector.hangs.set()


async def test_a_stage_of_another_process_is_in_the_trace_and_a_batch_in_that_of_each_request(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-m", stage_child.__name__], **pipes) as child:  # type: ignore[call-overload]  # noqa: ASYNC220
        replica = Replica(child)
        monkeypatch.setattr(ray_serve, "get_deployment_handle", lambda *_: replica)
        monkeypatch.setattr(catalog, "find_reference", lambda _: StageRef[str, str](Talkative.key))
        handle = remote_handle(Talkative.key, {}, CallLimits(max_in_flight=1))

        async def ask(request_id: str, *items: str) -> None:
            token = origin.set(Origin(request_id))
            with span(f"request {request_id}", "server"):
                await asyncio.gather(*map(handle, items))
            origin.reset(token)

        await asyncio.gather(ask("one", "a"), ask("two", "b", "c"), ask("three", "d"))
        assert child.stdin is not None
        child.stdin.close()
        await asyncio.to_thread(child.wait)
    await asyncio.to_thread(spans.flush)
    requests = {each.trace_id: each for each in collector.spans if each.name.startswith("request")}
    calls = {each.span_id: each for each in collector.named(Talkative.key)}
    batches = collector.named(f"batch {Talkative.key}")
    assert len(requests) == len(batches) == 3
    assert len(calls) == 4
    for batch in batches:
        call = calls[batch.parent_id]
        assert call.trace_id == batch.trace_id
        assert call.parent_id == requests[batch.trace_id].span_id
        assert call.process != batch.process
    sizes = {
        batch.attributes["visiongraph.request_id"]: (
            batch.attributes["visiongraph.batch.size"],
            batch.attributes["visiongraph.batch.own_items"],
        )
        for batch in batches
    }
    assert sizes == {"one": (1, 1), "two": (3, 2), "three": (3, 1)}


async def test_a_job_is_in_the_trace_of_the_request_that_made_it(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def work(context: Context, job: JobContext) -> dict[str, Any]:
        return {"traceparent": origin.get().traceparent}

    monkeypatch.setattr(worker_module, "find_job_kinds", lambda: {"index": JobKind("index", work, ())})
    config = configured(monkeypatch, tmp_path)
    stores = Stores.open(config)
    token = origin.set(parent_of("upload-1", TRACEPARENT, "vendor=1"))
    with span("request", "server"):
        job_id = (await stores.jobs.submit("index", "file", "print", {})).job_id
    origin.reset(token)
    running = Worker({})
    async with asyncio.timeout(PATIENCE_S):
        while (job := await stores.jobs.get(job_id)) is None or not job.finished:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    closing = running.__del__()
    assert closing is not None
    await closing
    await stores.close()
    request, ran = await asyncio.to_thread(flushed, collector, "request", "job index")
    assert (ran.trace_id, ran.parent_id, ran.kind) == (TRACE, request.span_id, CONSUMER)
    assert ran.attributes == {
        "visiongraph.job_id": job_id,
        "visiongraph.attempt": 1,
        "visiongraph.request_id": "upload-1",
    }
    assert job.result == {"traceparent": f"00-{TRACE}-{ran.span_id}-01"}
    assert job.tracestate == "vendor=1"
