"""A board: rows of panels behind the variables that every board of Baton has.

Turns it into the JSON that Grafana loads. Knows no metric but the one that lists the services.
"""

import json
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableRefresh,
)

from baton_loadtest.observability.panels import DATASOURCE, Panel

TAG = "baton"
LISTING = "baton_build_info"
"""Every process of every ModelService has it, from its first second."""


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    name: str  # of the file, and with a prefix of the board's address
    title: str
    description: str
    rows: tuple[Row, ...]


def render(board: Board) -> str:
    """The same text for the same board, always."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(f"baton-{board.name}")
        .description(board.description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(_siblings())
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Datasource").type("prometheus")
        )
        .with_variable(_choice("namespace", "Namespace", f"label_values({LISTING}, namespace)"))
        .with_variable(
            _choice(
                "service",
                "Service",
                f'label_values({LISTING}{{namespace=~"$namespace"}}, service)',
            )
        )
    )
    panel_id = 0
    for row in board.rows:
        built = built.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            panel_id += 1
            built = built.with_panel(panel.id(panel_id))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _siblings() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Baton").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True)


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Everything until the reader chooses; asked again when the time range changes."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )
