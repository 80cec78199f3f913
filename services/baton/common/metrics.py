"""The metrics of one process, made from the registry as they are reported.

Knows no process: each builds a `Metrics` over its own registry and reports what concerns it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from baton.common.registry import METRICS, Kind, MetricSpec

_SPECS = {spec.name: spec for spec in METRICS}


class Metrics:
    """The metrics of one process: made from the registry, all with the label `model_name`."""

    def __init__(self, registry: CollectorRegistry, *, model_name: str) -> None:
        self._registry = registry
        self._model_name = model_name
        self._collectors: dict[str, Counter | Gauge | Histogram] = {}
        # Every series once found: finding it again costs the library more than changing it, and a
        # worker changes a dozen per step. As many as the collectors keep, which forget none.
        self._series: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}
        self._late: list[Callable[[], None]] = []
        self._rendering = threading.Lock()
        ProcessCollector(registry=registry)  # process_*: start, CPU time, memory, descriptors
        self.gauge("baton_build_info", 1, version=version("baton"))
        self.declare(["baton_draining"])

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        collector = self._labelled(name, Kind.COUNTER, labels)
        assert isinstance(collector, Counter)
        collector.inc(amount)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        collector = self._labelled(name, Kind.GAUGE, labels)
        assert isinstance(collector, Gauge)
        collector.set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        collector = self._labelled(name, Kind.HISTOGRAM, labels)
        assert isinstance(collector, Histogram)
        collector.observe(value)

    def counting(self, name: str, **labels: str) -> Callable[[float], None]:
        """What counts one series, found once: for who counts it with every token."""
        collector = self._labelled(name, Kind.COUNTER, labels)
        assert isinstance(collector, Counter)
        return collector.inc

    def observing(self, name: str, **labels: str) -> Callable[[float], None]:
        """What observes one series, as `counting`."""
        collector = self._labelled(name, Kind.HISTOGRAM, labels)
        assert isinstance(collector, Histogram)
        return collector.observe

    def follow(self, name: str, value: Callable[[], float]) -> None:
        """A gauge that is asked whenever it is read."""
        collector = self._labelled(name, Kind.GAUGE, {})
        assert isinstance(collector, Gauge)
        collector.set_function(value)

    @contextmanager
    def under_way(self, name: str) -> Iterator[None]:
        """Counts the body of a `with` in a gauge while it runs."""
        collector = self._labelled(name, Kind.GAUGE, {})
        assert isinstance(collector, Gauge)
        with collector.track_inprogress():
            yield

    def before_reading(self, report: Callable[[], None]) -> None:
        """Call `report` before each render, by one thread at a time: for what changes far more
        often than it is read."""
        self._late.append(report)

    def render(self) -> bytes:
        """Prometheus text format."""
        with self._rendering:
            for report in self._late:
                report()
            return generate_latest(self._registry)

    def declare(self, names: Iterable[str]) -> None:
        """Show metrics at zero from the start, where their labels are known: an absent series looks
        like a dead process."""
        for name in names:
            spec = _SPECS[name]
            if len(spec.values) == len(spec.labels):  # with no labels: the one series there is
                for values in product(*spec.values):
                    labels = dict(zip(spec.labels, values, strict=True))
                    self._labelled(name, spec.kind, labels)

    def _labelled(
        self, name: str, kind: Kind, labels: dict[str, str]
    ) -> Counter | Gauge | Histogram:
        key = (name, *labels, *labels.values())
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._found(name, kind, labels)
        return series

    def _found(self, name: str, kind: Kind, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        spec = _SPECS[name]
        assert spec.kind is kind, f"{name} is a {spec.kind.value}"
        collector = self._collectors.get(name)
        if collector is None:
            collector = self._collectors[name] = self._created(spec)
        return collector.labels(model_name=self._model_name, **labels)

    def _created(self, spec: MetricSpec) -> Counter | Gauge | Histogram:
        names = ("model_name", *spec.labels)
        match spec.kind:
            case Kind.COUNTER:
                return Counter(spec.name, spec.help, names, registry=self._registry)
            case Kind.GAUGE:
                return Gauge(spec.name, spec.help, names, registry=self._registry)
            case Kind.HISTOGRAM:
                return Histogram(
                    spec.name, spec.help, names, buckets=spec.buckets, registry=self._registry
                )
