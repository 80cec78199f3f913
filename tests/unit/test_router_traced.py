"""The span around a request: whose child it is, and that it ends however the request does."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from baton.router.middleware import trace_of
from baton.router.traced import Traced, parent_of
from support.traces import Traces

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def scope(*headers: tuple[str, str], path: str = "/v1/x") -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "state": {"request_id": "r"},
    }


@pytest.mark.parametrize(
    ("headers", "traceparent", "tracestate"),
    [
        ([], "", ""),
        ([("traceparent", TRACEPARENT)], TRACEPARENT, ""),
        ([("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT)], "", ""),
        ([("traceparent", "0" * 200)], "", ""),
        ([("tracestate", "a=1")], "", ""),
        (
            [("tracestate", "a=1"), ("traceparent", TRACEPARENT), ("tracestate", "b=2")],
            TRACEPARENT,
            "a=1,b=2",
        ),
        ([("traceparent", TRACEPARENT), ("tracestate", "a=" + "1" * 600)], TRACEPARENT, ""),
    ],
)
def test_a_clients_context_is_read_as_w3c_says(
    headers: list[tuple[str, str]], traceparent: str, tracestate: str
) -> None:
    parent = parent_of(scope(*headers))
    assert (parent.traceparent, parent.tracestate) == (traceparent, tracestate)


async def receive() -> MutableMapping[str, Any]:
    return {"type": "http.request"}


async def send(_: MutableMapping[str, Any]) -> None: ...


@pytest.mark.parametrize("raised", [None, asyncio.CancelledError(), RuntimeError("a bug")])
async def test_the_span_ends_with_the_request(raised: BaseException | None) -> None:
    traces = Traces()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert trace_of(scope).span is traces.spans[0]
        if raised is not None:
            raise raised
        await send({"type": "http.response.start", "status": 418})

    around = Traced(app, tracing=traces.tracing("router"))
    if raised is None:
        await around(scope(), receive, send)
    else:
        with pytest.raises(type(raised)):
            await around(scope(), receive, send)
    span = traces.one("POST unknown")
    assert span.ended
    assert span.attributes["http.response.status_code"] == (499 if raised else 418)
    assert span.attributes["baton.request_id"] == "r"


async def test_probes_have_no_span() -> None:
    traces = Traces()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert trace_of(scope).span.traceparent == ""

    await Traced(app, tracing=traces.tracing("router"))(scope(path="/health"), receive, send)
    assert traces.spans == []
