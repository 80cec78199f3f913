"""What a process tells of a request's road: spans, in traces that go through all processes.

A span is a stretch of work that has a parent, perhaps in another process: contexts travel as W3C
Trace Context's `traceparent`. Untraced, all of it is `NO_SPAN`, which costs a call. Knows no
OpenTelemetry: what records is behind the two Protocols.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Protocol

Attributes = Mapping[str, str | bool | int | float | Sequence[str] | None]
"""None: not known, and left out."""

NOTHING: Attributes = MappingProxyType({})

TRACEPARENT_LENGTH_MAX = 128
"""What version 00 needs is 55; later versions may append to it."""

TRACESTATE_LENGTH_MAX = 512
"""The length W3C asks everybody to propagate; longer ones are dropped whole, which it allows."""


class Kind(Enum):
    """Where the other end of a span's work is."""

    SERVER = "server"  # it asked
    CLIENT = "client"  # it is asked
    INTERNAL = "internal"  # there is none


@dataclass(frozen=True, slots=True)
class Parent:
    """A span of another process, in W3C's words. Others' text: what cannot be read is no parent."""

    traceparent: str = ""
    tracestate: str = ""


NO_PARENT = Parent()


class Span(Protocol):
    """Times are now, or `at_s` on the scale of `time.perf_counter`, as engine turns are stamped.
    After `end` nothing changes any more."""

    @property
    def traceparent(self) -> str:
        """For who goes on with the request elsewhere; empty when untraced."""
        ...

    @property
    def log_fields(self) -> Mapping[str, str]:
        """`trace_id`, for the log lines of the request; none when untraced."""
        ...

    def child(
        self,
        name: str,
        kind: Kind = Kind.INTERNAL,
        attributes: Attributes = NOTHING,
        *,
        at_s: float | None = None,
    ) -> "Span": ...

    def rename(self, name: str) -> None: ...

    def note(self, attributes: Attributes) -> None: ...

    def event(
        self, name: str, attributes: Attributes = NOTHING, *, at_s: float | None = None
    ) -> None: ...

    def fail(self, code: str) -> None:
        """`code`: of `baton.common.errors`, as a rule."""
        ...

    def end(self, *, at_s: float | None = None) -> None: ...


class Tracing(Protocol):
    """One per process, made in its `app`."""

    @property
    def on(self) -> bool: ...

    def begin(self, name: str, kind: Kind, parent: Parent, attributes: Attributes) -> Span:
        """A span under one of another process; without a parent, the first of a trace."""
        ...

    def close(self) -> None:
        """Tell what has ended and is not told yet, within a limit."""
        ...


class _NoSpan:
    traceparent = ""
    log_fields: Mapping[str, str] = MappingProxyType({})

    def child(
        self,
        name: str,
        kind: Kind = Kind.INTERNAL,
        attributes: Attributes = NOTHING,
        *,
        at_s: float | None = None,
    ) -> Span:
        return self

    def rename(self, name: str) -> None: ...

    def note(self, attributes: Attributes) -> None: ...

    def event(
        self, name: str, attributes: Attributes = NOTHING, *, at_s: float | None = None
    ) -> None: ...

    def fail(self, code: str) -> None: ...

    def end(self, *, at_s: float | None = None) -> None: ...


NO_SPAN: Span = _NoSpan()


class _NoTracing:
    on = False

    def begin(self, name: str, kind: Kind, parent: Parent, attributes: Attributes) -> Span:
        return NO_SPAN

    def close(self) -> None: ...


NO_TRACING: Tracing = _NoTracing()
