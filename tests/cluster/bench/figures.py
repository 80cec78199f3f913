"""From two readings of the operator's metrics, and the API server's audit lines, to figures. Pure.

A reading is a page in Prometheus' text format. Knows no process and no cluster.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]
RECONCILE_TIME = "controller_runtime_reconcile_time_seconds"
PASSES = "controller_runtime_reconcile_total"
CALLS = "rest_client_requests_total"
CPU = "process_cpu_seconds_total"
MEMORY = "process_resident_memory_bytes"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """All samples of a page, and when it was taken."""

    taken_s: float
    samples: Mapping[tuple[str, Labels], float]

    def total(self, name: str, **labels: str) -> float:
        """Sum over the series of `name` that have these labels."""
        wanted = set(labels.items())
        return sum(
            value
            for (series, found), value in self.samples.items()
            if series == name and wanted <= set(found)
        )

    def count(self, name: str) -> int:
        """Series of `name`."""
        return sum(series == name for series, _ in self.samples)

    def buckets(self, histogram: str) -> dict[float, float]:
        """Upper bound -> cumulative count, over all its label values."""
        counts: defaultdict[float, float] = defaultdict(float)
        for (series, found), value in self.samples.items():
            if series == f"{histogram}_bucket":
                counts[float(dict(found)["le"])] += value
        return dict(counts)


def read_page(text: str, taken_s: float) -> Reading:
    families = text_string_to_metric_families(text)
    return Reading(
        taken_s,
        {
            (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
            for family in families
            for sample in family.samples
        },
    )


@dataclass(frozen=True, slots=True)
class Span:
    """What the operator did between two readings of one process."""

    seconds: float
    passes: int
    failed_passes: int
    pass_p50_s: float | None  # None: there was no pass
    pass_p99_s: float | None
    calls: int  # watches not included
    cpu_cores: float  # busy, on average
    memory_mib: float  # resident, at the end

    @property
    def calls_per_minute(self) -> float:
        return self.calls * 60 / self.seconds

    @property
    def calls_per_pass(self) -> float | None:
        return self.calls / self.passes if self.passes else None


def span(before: Reading, after: Reading) -> Span:
    """Raises ValueError for readings in the wrong order."""
    seconds = after.taken_s - before.taken_s
    if seconds <= 0:
        raise ValueError("the second reading is not later than the first")

    def grown(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    earlier = before.buckets(RECONCILE_TIME)
    spent = {
        bound: count - earlier.get(bound, 0.0)
        for bound, count in after.buckets(RECONCILE_TIME).items()
    }
    return Span(
        seconds=seconds,
        passes=round(grown(PASSES)),
        failed_passes=round(grown(PASSES, result="error")),
        pass_p50_s=quantile(spent, 0.5),
        pass_p99_s=quantile(spent, 0.99),
        calls=round(grown(CALLS)),
        cpu_cores=grown(CPU) / seconds,
        memory_mib=after.total(MEMORY) / MIB,
    )


def quantile(buckets: Mapping[float, float], q: float) -> float | None:
    """As Prometheus' histogram_quantile: linear within the bucket; None of no observations.

    What lies beyond the last finite bound is given as that bound. `buckets`: upper bound ->
    cumulative count.
    """
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    rank = q * buckets[bounds[-1]]
    lower_bound, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank and buckets[bound] > below:
            if math.isinf(bound):
                break
            return lower_bound + (bound - lower_bound) * (rank - below) / (buckets[bound] - below)
        lower_bound, below = bound, buckets[bound]
    return lower_bound


def audited_calls(lines: Iterable[str]) -> dict[str, int]:
    """Calls by "verb resource", most frequent first. A watch counts when it begins.

    `lines`: the API server's audit log, one JSON event each.
    """
    counts: Counter[str] = Counter()
    for line in lines:
        event = json.loads(line)
        watching = event["verb"] == "watch"
        if event["stage"] == ("ResponseStarted" if watching else "ResponseComplete"):
            resource = event.get("objectRef", {}).get("resource", "")
            counts[f"{event['verb']} {resource or event['requestURI'].partition('?')[0]}"] += 1
    return dict(counts.most_common())


def writes_of(calls: Mapping[str, int], apart_from: Sequence[str] = ("leases",)) -> int:
    """How many of `audited_calls` change something; leases are written for ever."""
    reading = ("get", "list", "watch")
    return sum(
        count
        for call, count in calls.items()
        if call.split()[0] not in reading and call.split()[-1] not in apart_from
    )
