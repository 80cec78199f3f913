"""When tracing is on, and what OpenTelemetry is told then: parents, times, ends, errors."""

import logging
from collections.abc import Mapping

import pytest
from baton.common.otel import OtelTracing
from baton.common.tracing import NO_PARENT, NO_SPAN, NO_TRACING, NOTHING, Kind, Parent, Span
from baton.common.tracing_choice import asked_for, open_tracing
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = Parent(f"00-{TRACE_ID}-{SPAN_ID}-01", "vendor=1")
HERE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
HERE_FOR_TRACES = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        (HERE, True),
        (HERE_FOR_TRACES, True),
        ({**HERE, "OTEL_SDK_DISABLED": "false"}, True),
        ({**HERE, "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_the_environment_decides(environ: Mapping[str, str], on: bool) -> None:
    assert asked_for(environ) is on


def test_untraced_there_is_one_span_and_it_is_nothing() -> None:
    assert open_tracing({}, service_name="s") is NO_TRACING
    span = NO_TRACING.begin("a", Kind.SERVER, PARENT, {"x": 1})
    assert span is span.child("b") is NO_SPAN
    assert (span.traceparent, dict(span.log_fields)) == ("", {})


class Told:
    """What reaches the exporter."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = OtelTracing(provider)

    def begin(self, parent: Parent = NO_PARENT) -> Span:
        return self.tracing.begin("request", Kind.SERVER, parent, NOTHING)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


def ids(span: ReadableSpan) -> tuple[str, str]:
    assert span.parent is not None
    return f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}"


def test_a_span_goes_on_with_anothers_trace() -> None:
    told = Told()
    span = told.begin(PARENT)
    child = span.child("child", Kind.CLIENT)
    child.end()
    span.end()
    assert ids(told.spans["request"]) == (TRACE_ID, SPAN_ID)
    assert ids(told.spans["child"]) == (TRACE_ID, span.traceparent.split("-")[2])
    context = told.spans["child"].context
    assert context is not None
    assert context.trace_state.get("vendor") == "1"
    assert span.traceparent.startswith(f"00-{TRACE_ID}-")
    assert dict(span.log_fields) == {"trace_id": TRACE_ID}


@pytest.mark.parametrize(
    "traceparent",
    ["", "x", "00-0-0-01", f"00-{'0' * 32}-{SPAN_ID}-01", f"ff-{TRACE_ID}-{SPAN_ID}-01"],
)
def test_what_is_no_context_is_no_parent(traceparent: str) -> None:
    told = Told()
    told.begin(Parent(traceparent)).end()
    assert told.spans["request"].parent is None


@pytest.mark.parametrize(
    ("sampler", "parent"),
    [(None, Parent(f"00-{TRACE_ID}-{SPAN_ID}-00")), (ALWAYS_OFF, NO_PARENT)],
    ids=["by-the-parent", "by-the-sampler"],
)
def test_what_is_not_sampled_says_so_to_others_and_is_not_told(
    sampler: Sampler | None, parent: Parent
) -> None:
    told = Told(sampler)
    span = told.begin(parent)
    child = span.child("child")
    assert int(child.traceparent.rsplit("-")[-1], 16) & 1 == 0
    for each in (child, span):
        each.note({"a": 1})
        each.event("b")
        each.fail("unavailable")
        each.end()
    assert told.spans == {}


def test_times_of_the_engines_thread_become_the_worlds() -> None:
    told = Told()
    span = told.begin()
    child = span.child("child", at_s=100.25)
    child.event("first token", at_s=100.5)
    child.end(at_s=101.25)
    [event] = told.spans["child"].events
    began_ns, ended_ns = told.spans["child"].start_time, told.spans["child"].end_time
    assert began_ns is not None
    assert ended_ns is not None
    assert event.timestamp - began_ns == 250_000_000
    assert ended_ns - began_ns == 1_000_000_000


def test_an_error_is_the_status_and_what_is_unknown_is_left_out() -> None:
    told = Told()
    span = told.begin()
    span.note({"a": 1, "b": None, "c": ["x"]})
    span.rename("renamed")
    span.fail("overloaded")
    span.end()
    ended = told.spans["renamed"]
    assert dict(ended.attributes or {}) == {"a": 1, "c": ("x",), "error.type": "overloaded"}
    assert not ended.status.is_ok
    assert ended.status.description == "overloaded"


def test_after_its_end_a_span_is_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    span = told.begin()
    span.end()
    with caplog.at_level(logging.DEBUG):
        span.note({"a": 1})
        span.event("b")
        span.rename("c")
        span.fail("d")
        span.end()
    assert caplog.records == []
    assert list(told.spans) == ["request"]
    assert told.spans["request"].status.is_unset
