"""The part of the custom resource that says where traces of requests go. Pure.

Knows the ports and paths of OTLP; knows no role, no pods and no variables of OpenTelemetry.
"""

# ruff: noqa: RUF009 - `declared` makes the dataclass field

from dataclasses import dataclass

from baton_operator.collectors import CollectorUrl
from baton_operator.declare import Rule, declared

GRPC_PORT = 4317
"""Of OTLP over gRPC, by its registration: processes speak HTTP, and spans sent there are lost."""

SPANS_PATH = "/v1/traces"


@dataclass(frozen=True, slots=True)
class Tracing:
    """To which collector all roles tell their spans, and of how many requests."""

    RULES = (
        Rule(
            f"!self.endpoint.matches(r'^[^/]+//[^/]+:{GRPC_PORT}(/.*)?$')",
            f"{GRPC_PORT} is the collector's port for OTLP over gRPC: write its port for OTLP over"
            " HTTP, 4318 as a rule",
            lambda tracing: tracing.endpoint.port != GRPC_PORT,
        ),
        Rule(
            f"!self.endpoint.matches(r'^.*{SPANS_PATH}/?$')",
            f"drop {SPANS_PATH} from endpoint: it is added",
            lambda tracing: not tracing.endpoint.text.removesuffix("/").endswith(SPANS_PATH),
        ),
    )

    endpoint: CollectorUrl = declared(
        "a collector that takes OTLP over HTTP, such as http://otel-collector.observability:4318;"
        " /v1/traces is added to it. The roles' NetworkPolicies let them reach this port: at an"
        " address, in the namespace of NAME.NAMESPACE, or anywhere for a host outside"
    )
    sampled_percent: int = declared(
        "share of requests, in percent, that are traced; a client's traceparent decides for its"
        " own, so with 0 only requests are traced whose clients ask for it",
        default=100,
        at_least=0,
        at_most=100,
    )
