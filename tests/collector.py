"""A collector of OpenTelemetry: takes spans by OTLP over HTTP, as protobuf, and keeps them."""

import gzip
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.waiting import PATIENCE_S


@dataclass(frozen=True)
class Received:
    """A span as it arrived; ids in hex, times in seconds, ``process`` the instance of the service."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start: float
    end: float
    failed: bool
    attributes: dict[str, Any]
    service: str
    process: str


class Collector:
    """What has arrived, and where to send it; ``answers`` is the status that senders get, ``hangs`` holds them up."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.headers: list[dict[str, str]] = []
        self.answers = 200
        self.hangs = Event()
        self.hangs.set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def named(self, name: str) -> list[Received]:
        """All spans of this name."""
        return [span for span in self.spans if span.name == name]

    def wait_for(self, *names: str) -> list[Received]:
        """The first spans of these names, which must arrive."""
        deadline = time.monotonic() + PATIENCE_S
        while any(not self.named(name) for name in names):
            assert time.monotonic() < deadline, ([span.name for span in self.spans], names)
            time.sleep(0.02)
        return [self.named(name)[0] for name in names]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                collector.hangs.wait(20)
                if self.headers.get("content-encoding") == "gzip":
                    data = gzip.decompress(data)
                if collector.answers == 200 and self.path == "/v1/traces":
                    collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                    collector.spans += _spans(ExportTraceServiceRequest.FromString(data))
                self.send_response(collector.answers)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        return Handler


def _spans(request: Any) -> Iterator[Received]:
    for resource in request.resource_spans:
        own = {each.key: _value(each.value) for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano / 1e9,
                    span.end_time_unix_nano / 1e9,
                    span.status.code == 2,
                    {each.key: _value(each.value) for each in span.attributes},
                    own["service.name"],
                    own["service.instance.id"],
                )


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens while the block runs."""
    made = Collector()
    thread = Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.hangs.set()
        made.server.shutdown()
        made.server.server_close()
        thread.join()
