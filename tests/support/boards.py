"""The committed boards as Grafana would load them, and their queries as Prometheus would get them.

Knows Grafana's JSON; knows no metric.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/helm/baton/dashboards"

VARIABLE = re.compile(r"\$\{?(\w+)\}?")


@dataclass(frozen=True)
class PanelQuery:
    board: str
    panel: str
    expr: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.board}: {self.panel}: {self.expr}"

    def filled(self, values: Mapping[str, str]) -> str:
        """With Grafana's variables replaced. Raises KeyError for one without a value."""
        return VARIABLE.sub(lambda found: values[found[1]], self.expr)


def committed_boards() -> dict[str, dict[str, Any]]:
    """By file name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel that shows something, those inside collapsed rows included."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or []
        else:
            yield panel


def panel_queries() -> list[PanelQuery]:
    return [
        PanelQuery(name, panel["title"], target["expr"], bool(target.get("instant")))
        for name, board in committed_boards().items()
        for panel in panels(board)
        for target in panel["targets"]
    ]
