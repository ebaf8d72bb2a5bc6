"""Spans of OpenTelemetry: how long each part of a request took, in every process that works on it.

They go to the collector of ``OTEL_EXPORTER_OTLP_ENDPOINT`` by OTLP over HTTP, sent by a thread of their own; without
that variable nothing is imported or recorded. The variables of OpenTelemetry choose the sampler, the name of the
service, headers and limits. The parent of a span is in ``vision.tracing.origin``, so what is open in one process goes
along with whatever sends its origin to another.
"""

import os
import re
import socket
import time
from asyncio import CancelledError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any, Final, Literal

from vision.tracing import Origin, origin, shared_by

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
NAME: Final = "visiongraph"
FLUSH_S: Final = 3.0
MAX_STATE: Final = 512
"""Characters of a ``tracestate`` that are taken over, as W3C Trace Context asks for."""
_PARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,200})?")

Kind = Literal["server", "client", "internal", "consumer"]
Attributes = dict[str, str | int | float | bool]


def parent_of(request_id: str, traceparent: str, tracestate: str) -> Origin:
    """Return the origin of a request with these headers; what is no trace context counts as none."""
    if _PARENT.fullmatch(traceparent) is None:
        return Origin(request_id)
    state = tracestate if len(tracestate) <= MAX_STATE and tracestate.isascii() and tracestate.isprintable() else ""
    return Origin(request_id, traceparent, state)


class Span:
    """An open span; ``origin`` is what work inside of it is for, ``trace_id`` its trace in hex."""

    __slots__ = ("_span", "origin", "trace_id")

    def __init__(self, span: Any, parent: Origin) -> None:
        self._span = span
        context = span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        traceparent = f"00-{self.trace_id}-{context.span_id:016x}-{context.trace_flags:02x}"
        self.origin = Origin(parent.request_id, traceparent, context.trace_state.to_header())

    def end(self, attributes: Mapping[str, Any], failure: str = "") -> None:
        """End it; ``failure`` names what went wrong, empty for nothing."""
        self._span.set_attributes(attributes)
        if failure:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", failure)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def wanted() -> bool:
    """Return whether the environment asks for spans."""
    environment = os.environ
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    somewhere = any(environment.get(name) for name in ENDPOINTS)
    return somewhere and (environment.get("OTEL_TRACES_EXPORTER") or "otlp") == "otlp"


def recording() -> bool:
    """Return whether spans are recorded in this process."""
    return _tracer() is not None


def begin(name: str, kind: Kind, parent: Origin) -> Span | None:
    """Begin a span under an origin, or a trace where that has none; None where spans are not recorded."""
    tracer = _tracer()
    return None if tracer is None else tracer.begin(name, kind, parent)


@contextmanager
def span(name: str, kind: Kind = "internal", **attributes: str | float | bool) -> Iterator[Attributes]:
    """Record the block as a span under the present one; gives its attributes, which may be added to.

    Only for a block that one task runs: not around the ``yield`` of a generator.
    """
    opened = begin(name, kind, origin.get())
    if opened is None:
        yield attributes
        return
    token = origin.set(opened.origin)
    failure = ""
    try:
        yield attributes
    except BaseException as error:
        failure = "" if isinstance(error, CancelledError | GeneratorExit) else type(error).__name__
        raise
    finally:
        origin.reset(token)
        opened.end(attributes, failure)


@contextmanager
def batch(key: str, items: Sequence[Origin], max_size: int) -> Iterator[None]:
    """Record the block as the batch of a stage, once in the trace of each request that has items in it."""
    tracer = _tracer()
    if tracer is None:
        yield
        return
    traces: dict[str, list[Origin]] = {}
    for each in items:
        if each.traceparent:
            traces.setdefault(each.traceparent.split("-")[1], []).append(each)
    opened = [(tracer.begin(f"batch {key}", "internal", own[0]), len(own)) for own in traces.values()]
    token = None
    if opened:  # what the stage itself records is in the first of them
        first = opened[0][0].origin
        token = origin.set(first._replace(request_id=shared_by(items).request_id))
    failure = ""
    try:
        yield
    except BaseException as error:
        failure = type(error).__name__
        raise
    finally:
        if token is not None:
            origin.reset(token)
        size = {"visiongraph.stage": key, "visiongraph.batch.size": len(items), "visiongraph.batch.max": max_size}
        for recorded, own_items in opened:
            recorded.end({**size, "visiongraph.batch.own_items": own_items}, failure)


def record_store_call(store: str, operation: str, seconds: float, failure: str | None) -> None:
    """Record a call of a store that has ended just now; what no request asked for, such as a look for jobs, is none."""
    tracer, parent = _tracer(), origin.get()
    if tracer is not None and parent.traceparent:
        began = time.time_ns() - int(seconds * 1e9)
        attributes = {"visiongraph.store": store, "visiongraph.operation": operation}
        tracer.begin(f"{store}.{operation}", "client", parent, began).end(attributes, failure or "")


def flush() -> None:
    """Send what is recorded, for ``FLUSH_S`` at most; call this before the process ends."""
    if _tracer.cache_info().currsize and (tracer := _tracer()) is not None:
        tracer.flush()


class _Tracer:
    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        own = {"service.version": version(NAME), "service.instance.id": f"{socket.gethostname()}-{os.getpid()}"}
        if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        ):
            own["service.name"] = NAME
        # A provider of our own: Ray and Serve record nothing into it.
        self._provider = TracerProvider(resource=Resource.create(own))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(NAME, version(NAME))
        self._propagator = TraceContextTextMapPropagator()
        self._kinds = {kind.name.lower(): kind for kind in SpanKind}

    def begin(self, name: str, kind: Kind, parent: Origin, start_ns: int | None = None) -> Span:
        carrier = {"traceparent": parent.traceparent, "tracestate": parent.tracestate}
        from opentelemetry.context import Context

        # In a context of its own, so that nothing but the origin says what the parent is.
        context = self._propagator.extract(carrier, Context()) if parent.traceparent else Context()
        started = self._tracer.start_span(name, context, self._kinds[kind], start_time=start_ns)
        if parent.request_id:
            started.set_attribute("visiongraph.request_id", parent.request_id)
        return Span(started, parent)

    def flush(self) -> None:
        self._provider.force_flush(int(FLUSH_S * 1000))


@cache
def _tracer() -> _Tracer | None:
    return _Tracer() if wanted() else None
