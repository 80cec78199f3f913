"""Where a real Prometheus and promtool are: on PATH, or from Debian's package, unpacked and not
installed.

Knows a package's name and one cache folder; knows no rules and no targets.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

DOWNLOAD_LIMIT_S = 180.0
PACKAGE = "prometheus"


@dataclass(frozen=True)
class PrometheusTools:
    prometheus: Path
    promtool: Path


@cache
def prometheus_tools() -> PrometheusTools:
    """Skips the test, and says why, where neither PATH nor apt has them."""
    found = _on_path() or _unpacked(_cache_folder())
    if found is None:
        try:
            _download(_cache_folder())
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"no promtool on PATH, and Debian's {PACKAGE} cannot be had: {error}")
        found = _unpacked(_cache_folder())
        assert found is not None, f"Debian's {PACKAGE} has no prometheus and promtool"
    return found


def _on_path() -> PrometheusTools | None:
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if prometheus is None or promtool is None:
        return None
    return PrometheusTools(Path(prometheus), Path(promtool))


def _unpacked(folder: Path) -> PrometheusTools | None:
    tools = PrometheusTools(folder / "usr/bin/prometheus", folder / "usr/bin/promtool")
    return tools if tools.prometheus.is_file() and tools.promtool.is_file() else None


def _cache_folder() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "baton" / "tools" / PACKAGE


def _download(folder: Path) -> None:
    """Appears whole or not at all, whoever else is downloading."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        _run(["apt-get", "download", "-q", PACKAGE], scratch)
        [package] = Path(scratch).glob(f"{PACKAGE}_*.deb")
        _run(["dpkg", "-x", str(package), "tree"], scratch)
        if _unpacked(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            (Path(scratch) / "tree").rename(folder)


def _run(command: list[str], folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=DOWNLOAD_LIMIT_S)
