"""All boards, by the name of their file in the chart."""

from pathlib import Path

from baton_loadtest.observability.board import Board, render
from baton_loadtest.observability.handoff_board import handoff_board
from baton_loadtest.observability.operator_board import operator_board
from baton_loadtest.observability.overview_board import overview_board
from baton_loadtest.observability.router_board import router_board

FOLDER = Path("deploy/helm/baton/dashboards")


def boards() -> tuple[Board, ...]:
    return overview_board(), handoff_board(), router_board(), operator_board()


def dashboard_files() -> dict[Path, str]:
    """Path from the repository's root -> JSON."""
    return {FOLDER / f"{board.name}.json": render(board) for board in boards()}
