"""A collector of traces: takes OTLP over HTTP and keeps what it was told."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Collector:
    url: str = ""
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)

    @property
    def resources(self) -> list[dict[str, str]]:
        return [
            {each.key: each.value.string_value for each in spans.resource.attributes}
            for request in self.requests
            for spans in request.resource_spans
        ]

    @property
    def services_by_trace(self) -> dict[str, set[str]]:
        """Which services have told spans of each trace."""
        found: dict[str, set[str]] = {}
        for request in self.requests:
            for spans in request.resource_spans:
                named = {each.key: each.value.string_value for each in spans.resource.attributes}
                for scope in spans.scope_spans:
                    for span in scope.spans:
                        trace = found.setdefault(span.trace_id.hex(), set())
                        trace.add(named["service.name"])
        return found

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def collector(host: str = "127.0.0.1") -> Iterator[Collector]:
    """`host` is an address of this machine, in the network that this process is in."""
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                kept.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer((host, 0), Handler)
    kept.url = f"http://{host}:{server.server_address[1]}"
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    try:
        yield kept
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
