"""`python -m baton_loadtest.observability [boards|rules|docs]`: writes what is generated."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from baton_loadtest.observability.dashboards import dashboard_files
from baton_loadtest.observability.metrics_page import PAGE, metrics_page
from baton_loadtest.observability.rules import rules_files

PARTS: dict[str, Callable[[], dict[Path, str]]] = {
    "boards": dashboard_files,
    "rules": rules_files,
    "docs": lambda: {PAGE: metrics_page()},
}


def main(parts: Sequence[str]) -> None:
    """Without parts: all of them. Paths are relative to the repository's root."""
    for part in parts or tuple(PARTS):
        for path, text in PARTS[part]().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
