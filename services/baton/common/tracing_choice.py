"""Whether this process traces: as OpenTelemetry's own environment says. Loads the SDK only then."""

from collections.abc import Mapping

from baton.common.logs import get_log
from baton.common.tracing import NO_TRACING, Tracing

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def asked_for(environ: Mapping[str, str]) -> bool:
    """An endpoint is named, and the SDK is not disabled."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return any(environ.get(name, "").strip() for name in ENDPOINTS)


def open_tracing(environ: Mapping[str, str], *, service_name: str) -> Tracing:
    """`environ` is the process's: the SDK reads the rest of it itself. Raises ConfigError."""
    if not asked_for(environ):
        return NO_TRACING
    from baton.common.otel import otlp_tracing  # a hundred modules

    tracing = otlp_tracing(service_name)
    get_log(__name__).info("requests are traced")
    return tracing
