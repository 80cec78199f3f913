"""Where a real Prometheus and promtool are: on PATH, or in the cluster harness's cache, which has
them from Debian's package, unpacked and not installed. Knows no rules and no targets.
"""

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from cluster.harness.errors import HarnessError
from cluster.harness.lifecycle import default_layout
from cluster.harness.packages import ensure_tools

PACKAGE = "prometheus"


@dataclass(frozen=True)
class PrometheusTools:
    prometheus: Path
    promtool: Path


@cache
def prometheus_tools() -> PrometheusTools:
    """Skips the test, and says why, where neither PATH nor apt has them."""
    found = _on_path()
    if found is not None:
        return found
    try:
        folders = ensure_tools(default_layout().cache, print, (PACKAGE,))
    except HarnessError as error:
        pytest.skip(f"no promtool on PATH, and Debian's {PACKAGE} cannot be had: {error}")
    if not folders:
        pytest.skip(f"no promtool on PATH, and no apt-get to fetch Debian's {PACKAGE} with")
    [folder] = folders
    return PrometheusTools(folder / "prometheus", folder / "promtool")


def _on_path() -> PrometheusTools | None:
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if prometheus is None or promtool is None:
        return None
    return PrometheusTools(Path(prometheus), Path(promtool))
