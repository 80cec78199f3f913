"""Traces kept in memory: the spans of several processes in one place, and their tree as text.

Contexts travel between the processes as in production, as `traceparent` strings.
"""

import asyncio
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from baton.common.tracing import NOTHING, Attributes, Kind, Parent, Span

LIMIT_S = 10.0
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")


@dataclass(eq=False)
class MemorySpan:
    """Implements Span."""

    traces: "Traces"
    service: str
    name: str
    kind: Kind
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    began_s: float | None = None  # None: now
    ended_s: float | None = None
    events: dict[str, float | None] = field(default_factory=dict)  # by name, the last of each
    event_attributes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    error: str | None = None
    ended: bool = False

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"

    @property
    def log_fields(self) -> Mapping[str, str]:
        return {"trace_id": self.trace_id}

    def child(
        self,
        name: str,
        kind: Kind = Kind.INTERNAL,
        attributes: Attributes = NOTHING,
        *,
        at_s: float | None = None,
    ) -> Span:
        return self.traces.add(
            self.service, name, kind, self.trace_id, self.span_id, attributes, at_s
        )

    def rename(self, name: str) -> None:
        self.name = name

    def note(self, attributes: Attributes) -> None:
        if not self.ended:
            self.attributes.update(_known(attributes))

    def event(
        self, name: str, attributes: Attributes = NOTHING, *, at_s: float | None = None
    ) -> None:
        if not self.ended:
            self.events[name] = at_s
            self.event_attributes[name] = _known(attributes)

    def fail(self, code: str) -> None:
        if not self.ended:
            self.error = code

    def end(self, *, at_s: float | None = None) -> None:
        if not self.ended:
            self.ended, self.ended_s = True, at_s
            self.traces.changed.set()


class MemoryTracing:
    """Implements Tracing, for one process."""

    on = True

    def __init__(self, traces: "Traces", service: str) -> None:
        self._traces = traces
        self._service = service

    def begin(self, name: str, kind: Kind, parent: Parent, attributes: Attributes) -> Span:
        known = _TRACEPARENT.fullmatch(parent.traceparent)
        trace_id, span_id = known.groups() if known else (self._traces.new_id(32), "")
        return self._traces.add(self._service, name, kind, trace_id, span_id, attributes, None)

    def close(self) -> None: ...


class Traces:
    """What a collector would hold."""

    def __init__(self) -> None:
        self.spans: list[MemorySpan] = []
        self.changed = asyncio.Event()
        self._numbers = itertools.count(1)

    def tracing(self, service: str) -> MemoryTracing:
        return MemoryTracing(self, service)

    def new_id(self, digits: int) -> str:
        return f"{next(self._numbers):0{digits}x}"

    def add(
        self,
        service: str,
        name: str,
        kind: Kind,
        trace_id: str,
        parent_id: str,
        attributes: Attributes,
        at_s: float | None,
    ) -> MemorySpan:
        ids = (trace_id, self.new_id(16), parent_id)
        span = MemorySpan(self, service, name, kind, *ids, _known(attributes), at_s)
        self.spans.append(span)
        self.changed.set()
        return span

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for what can only change with a span."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def until_ended(self) -> None:
        await self.until(lambda: bool(self.spans) and all(span.ended for span in self.spans))

    def of(self, name: str, service: str = "") -> list[MemorySpan]:
        return [s for s in self.spans if s.name == name and service in ("", s.service)]

    def one(self, name: str, service: str = "") -> MemorySpan:
        [span] = self.of(name, service)
        return span

    def tree(self, parent_id: str = "") -> str:
        """A line per span, two blanks deeper than its parent: service, name, and error if any."""
        return "\n".join(self._lines(parent_id, ""))

    def _lines(self, parent_id: str, indent: str) -> Iterator[str]:
        for span in self.spans:
            if span.parent_id == parent_id:
                error = "" if span.error is None else f" !{span.error}"
                yield f"{indent}{span.service}: {span.name}{error}"
                yield from self._lines(span.span_id, indent + "  ")


def _known(attributes: Attributes) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
