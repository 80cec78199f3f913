"""What must be true of every query of a board or rule: real metrics, rates of counters, quantiles
of summed buckets.

Knows the rules; the tests say which queries and which registry.
"""

from collections.abc import Collection, Mapping

from baton.common.registry import Kind, MetricSpec

from support.promql_reading import Use, uses

RATES = {"rate", "increase", "irate"}
HISTOGRAM_PARTS = ("_bucket", "_sum", "_count")

# From prometheus_client's process collector and from Prometheus itself.
GIVEN = {
    "process_start_time_seconds": Kind.GAUGE,
    "process_resident_memory_bytes": Kind.GAUGE,
    "process_cpu_seconds_total": Kind.COUNTER,
}


def problems_of(
    query: str, registry: Mapping[str, MetricSpec], *, recorded: Collection[str] = ()
) -> list[str]:
    """Everything wrong with a query; empty for a right one."""
    try:
        found = uses(query)
    except ValueError as error:
        return [f"no PromQL: {error}"]
    if not found:
        return ["asks for no metric"]
    return [
        problem
        for use in found
        if use.metric not in recorded
        for problem in _problems_of_use(use, registry)
    ]


def _problems_of_use(use: Use, registry: Mapping[str, MetricSpec]) -> list[str]:
    histogram = _histogram_of(use.metric, registry)
    if histogram is not None:
        return _histogram_problems(use)
    kind = registry[use.metric].kind if use.metric in registry else GIVEN.get(use.metric)
    if kind is None:
        return [f"{use.metric} is not in the registry"]
    if kind is Kind.HISTOGRAM:
        return [f"{use.metric} is a histogram: ask for its buckets"]
    rated = bool(RATES & set(use.around))
    if kind is Kind.COUNTER and not rated:
        return [f"{use.metric} is a counter: only its rate means something"]
    if kind is Kind.GAUGE and rated:
        return [f"{use.metric} is a gauge: it has no rate"]
    return []


def _histogram_of(name: str, registry: Mapping[str, MetricSpec]) -> MetricSpec | None:
    for part in HISTOGRAM_PARTS:
        spec = registry.get(name.removesuffix(part)) if name.endswith(part) else None
        if spec is not None and spec.kind is Kind.HISTOGRAM:
            return spec
    return None


def _histogram_problems(use: Use) -> list[str]:
    if not RATES & set(use.around):
        return [f"{use.metric} counts: only its rate means something"]
    if not use.metric.endswith("_bucket"):
        return []
    right = use.around[:2] == ("histogram_quantile", "sum") and "le" in use.grouping[-1]
    return [] if right else [f"{use.metric}: write histogram_quantile(q, sum by (le, ...) (rate))"]
