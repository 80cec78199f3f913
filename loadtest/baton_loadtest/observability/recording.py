"""Recorded ratios that alerts share: errors and missed targets over four windows. Pure.

Knows the metrics they are made from; knows no threshold.
"""

from dataclasses import dataclass

from baton_loadtest.observability.queries import SERVICE_LABELS, rate, ratio

WINDOWS = ("5m", "30m", "1h", "6h")
"""A fast burn is seen in 1 h and still in 5 m; a slow one in 6 h and still in 30 m."""


@dataclass(frozen=True, slots=True)
class Recording:
    name: str
    expr: str


def error_ratio(window: str) -> str:
    """The recorded share of requests that ended with an error of ours."""
    return f"service:baton_request_errors:ratio_rate{window}"


def miss_ratio(window: str) -> str:
    """The recorded share of requests that missed a latency target, per `slo`."""
    return f"service_slo:baton_slo_missed:ratio_rate{window}"


def recordings() -> tuple[Recording, ...]:
    return tuple(
        recording
        for window in WINDOWS
        for recording in (
            Recording(error_ratio(window), _error_ratio(window)),
            Recording(miss_ratio(window), _miss_ratio(window)),
        )
    )


def _error_ratio(window: str) -> str:
    ended = "vllm:request_success_total"
    failed = rate(ended, 'finished_reason="error"', by=SERVICE_LABELS, window=window)
    # A client that hangs up tells nothing of us.
    judged = rate(ended, 'finished_reason!="abort"', by=SERVICE_LABELS, window=window)
    return ratio(failed, judged)


def _miss_ratio(window: str) -> str:
    judged, labels = "baton_router_slo_requests_total", (*SERVICE_LABELS, "slo")
    missed = rate(judged, 'attained="false"', by=labels, window=window)
    return ratio(missed, rate(judged, by=labels, window=window))
