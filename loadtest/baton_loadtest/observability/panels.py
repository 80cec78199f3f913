"""Panels in the house's form: title, description, unit, and queries against the chosen datasource.

Knows Grafana's types; knows no metric.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from baton_loadtest.observability.queries import quantile

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

SECONDS, RATIO, BYTES, BYTES_PER_S = "s", "percentunit", "bytes", "Bps"
COUNT, REQUESTS_PER_S, PER_S = "short", "reqps", "ops"

CHART_HEIGHT, NUMBER_HEIGHT = 8, 4
FILL_OPACITY_PERCENT = 10

Panel = timeseries.Panel | stat.Panel


@dataclass(frozen=True, slots=True)
class Series:
    query: str
    legend: str


def chart(
    title: str, description: str, unit: str, *series: Series, width: int = 8, stacked: bool = False
) -> timeseries.Panel:
    """Lines over time; stacked where the series are parts of one whole."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .height(CHART_HEIGHT)
        .span(width)
        .min(0)
        .fill_opacity(FILL_OPACITY_PERCENT)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for ref_id, one in zip(ascii_uppercase, series, strict=False):
        panel = panel.with_target(_query(one.query, ref_id).legend_format(one.legend).range())
    return panel


def number(title: str, description: str, unit: str, query: str, width: int = 4) -> stat.Panel:
    """One figure, as of now."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .height(NUMBER_HEIGHT)
        .span(width)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(query, "A").instant())
    )


def quantiles(
    metric: str, *matchers: str, by: Sequence[str] = (), shares: Sequence[float] = (0.5, 0.95, 0.99)
) -> tuple[Series, ...]:
    """A line per quantile, and per value of `by`."""
    prefix = "".join(f"{{{{{label}}}}} " for label in by)
    return tuple(
        Series(quantile(share, metric, *matchers, by=by), f"{prefix}p{share * 100:g}")
        for share in shares
    )


def _query(expression: str, ref_id: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(DATASOURCE).expr(expression).ref_id(ref_id)
