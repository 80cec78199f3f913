"""PromQL in the few shapes that boards and rules need, so that each is written right once. Pure.

Knows the labels that every series of a ModelService carries; knows no metric and no panel.
"""

from collections.abc import Sequence

SERVICE_LABELS = ("namespace", "service")
"""Of every series: the ModelService's namespace and name. `role` and `pod` come from the target."""

CHOSEN = 'namespace=~"$namespace",service=~"$service"'
"""What the reader of a board has chosen."""

WINDOW = "$__rate_interval"


def select(metric: str, *matchers: str) -> str:
    return f"{metric}{{{','.join(matchers)}}}" if matchers else metric


def sum_by(expression: str, labels: Sequence[str] = ()) -> str:
    return f"sum by ({', '.join(labels)}) ({expression})" if labels else f"sum({expression})"


def rate(metric: str, *matchers: str, by: Sequence[str] = (), window: str = WINDOW) -> str:
    """Per second, added up over pods."""
    return sum_by(f"rate({select(metric, *matchers)}[{window}])", by)


def increase(metric: str, *matchers: str, by: Sequence[str] = (), window: str = WINDOW) -> str:
    """Over the window, added up over pods."""
    return sum_by(f"increase({select(metric, *matchers)}[{window}])", by)


def quantile(
    share: float, metric: str, *matchers: str, by: Sequence[str] = (), window: str = WINDOW
) -> str:
    """Of a histogram over all pods; no value, instead of NaN, where nothing was observed."""
    buckets = rate(f"{metric}_bucket", *matchers, by=("le", *by), window=window)
    return f"histogram_quantile({share}, {buckets}) >= 0"  # NaN compares with nothing


def ratio(part: str, whole: str) -> str:
    """No value, instead of NaN, where there is nothing to have a share of."""
    return f"{part} / ({whole} > 0)"
