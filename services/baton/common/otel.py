"""Tracing by OpenTelemetry's SDK. The only module that imports it, imported only to use it.

Spans leave by OTLP over HTTP from the SDK's batch processor: a thread of its own and a queue of
2,048 spans, beyond which the oldest are dropped; no request waits for a collector. Sampler,
resource, endpoint, headers, limits: the SDK reads OTEL_* itself. No provider is made the process's
global one. Knows no requests.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from baton.common.errors import ConfigError
from baton.common.tracing import NOTHING, Attributes, Kind, Parent, Span

CLOSE_LIMIT_S = 3.0
"""A collector that answers takes milliseconds; for one that does not, no drain is held up."""

_KINDS = {
    Kind.SERVER: trace.SpanKind.SERVER,
    Kind.CLIENT: trace.SpanKind.CLIENT,
    Kind.INTERNAL: trace.SpanKind.INTERNAL,
}


def otlp_tracing(service_name: str) -> "OtelTracing":
    """By the process's environment; `service_name` is for where that has none. Raises
    ConfigError."""
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: service_name}))
    try:
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except (ValueError, OSError) as error:
        raise ConfigError([f"OTEL_*: {error}"]) from error
    return OtelTracing(provider)


class OtelTracing:
    """Implements Tracing."""

    on = True

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("baton")
        self._w3c = TraceContextTextMapPropagator()

    def begin(self, name: str, kind: Kind, parent: Parent, attributes: Attributes) -> Span:
        headers = {"traceparent": parent.traceparent, "tracestate": parent.tracestate}
        context = self._w3c.extract(headers, Context())
        span = self._tracer.start_span(name, context, _KINDS[kind], _known(attributes))
        # Per request: over days the two clocks drift apart.
        return _OtelSpan(self._tracer, span, time.time_ns() - time.perf_counter_ns())

    def close(self) -> None:
        closing = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        closing.start()
        closing.join(CLOSE_LIMIT_S)


class _OtelSpan:
    """Implements Span. The SDK warns of what comes after the end, so it is held back here."""

    __slots__ = ("_context", "_span", "_tracer", "_unix_less_perf_ns")

    def __init__(self, tracer: trace.Tracer, span: trace.Span, unix_less_perf_ns: int) -> None:
        self._tracer = tracer
        self._span = span
        self._context = span.get_span_context()
        self._unix_less_perf_ns = unix_less_perf_ns

    @property
    def traceparent(self) -> str:
        context = self._context
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    @property
    def log_fields(self) -> Mapping[str, str]:
        return {"trace_id": f"{self._context.trace_id:032x}"}

    def child(
        self,
        name: str,
        kind: Kind = Kind.INTERNAL,
        attributes: Attributes = NOTHING,
        *,
        at_s: float | None = None,
    ) -> Span:
        under = trace.set_span_in_context(self._span, Context())
        span = self._tracer.start_span(
            name, under, _KINDS[kind], _known(attributes), start_time=self._unix_ns(at_s)
        )
        return _OtelSpan(self._tracer, span, self._unix_less_perf_ns)

    def rename(self, name: str) -> None:
        if self._span.is_recording():
            self._span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        if self._span.is_recording():
            self._span.set_attributes(_known(attributes))

    def event(
        self, name: str, attributes: Attributes = NOTHING, *, at_s: float | None = None
    ) -> None:
        if self._span.is_recording():
            self._span.add_event(name, _known(attributes), self._unix_ns(at_s))

    def fail(self, code: str) -> None:
        if self._span.is_recording():
            self._span.set_attribute("error.type", code)
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, code))

    def end(self, *, at_s: float | None = None) -> None:
        if self._span.is_recording():
            self._span.end(self._unix_ns(at_s))

    def _unix_ns(self, at_s: float | None) -> int | None:
        return None if at_s is None else int(at_s * 1e9) + self._unix_less_perf_ns


def _known(attributes: Attributes) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
