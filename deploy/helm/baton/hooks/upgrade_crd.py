"""Brings the ModelService CRD of the cluster to this chart's version; the chart's hook runs it.

    python upgrade_crd.py CRD.json CHART_VERSION

Helm installs a CRD and never changes it again. This applies the chart's (server-side, so that
what others added stays), unless a newer chart has been there: two releases may share a cluster.
Standard library only, so that it runs in any image with Python. Knows no ModelService.
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

VERSION_ANNOTATION = "serving.baton.dev/chart-version"
FIELD_MANAGER = "baton-chart"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CALL_LIMIT_S = 30  # the job's deadline leaves room for some tries


class Cluster:
    """The API server, as far as CRDs go."""

    def __init__(self, server: str, token: str, trust: ssl.SSLContext | None) -> None:
        self._base = f"{server}/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        self._token = token
        self._trust = trust

    def chart_version(self, name: str) -> str | None:
        """Of the chart that last applied the CRD, "" if none did; None: there is no such CRD."""
        try:
            found = self._call("GET", name)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise
        metadata = found["metadata"]
        assert isinstance(metadata, dict)
        return str(metadata.get("annotations", {}).get(VERSION_ANNOTATION, ""))

    def apply(self, crd: dict[str, object], name: str) -> None:
        self._call("PATCH", f"{name}?fieldManager={FIELD_MANAGER}&force=true", crd)

    def _call(
        self, method: str, path: str, body: dict[str, object] | None = None
    ) -> dict[str, object]:
        request = urllib.request.Request(
            f"{self._base}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Accept": "application/json",
                "Content-Type": "application/apply-patch+yaml",  # JSON is YAML
            },
        )
        with urllib.request.urlopen(request, timeout=CALL_LIMIT_S, context=self._trust) as answer:
            found: dict[str, object] = json.load(answer)
        return found


def is_older(ours: str, theirs: str) -> bool:
    """Whether version `ours` comes before `theirs`; what is no version comes before all others."""
    return _rank(ours) < _rank(theirs)


def _rank(version: str) -> tuple[tuple[int, ...], bool]:
    core, dash, _ = version.split("+")[0].partition("-")
    parts = core.split(".")
    numbers = tuple(int(part) for part in parts) if all(p.isdigit() for p in parts) else ()
    return numbers, not dash  # 1.0.0-rc.1 comes before 1.0.0


def upgrade(cluster: Cluster, crd: dict[str, object], version: str) -> str:
    """Apply `crd` unless it would be a step back; says what was done."""
    metadata = crd["metadata"]
    assert isinstance(metadata, dict)
    name = metadata["name"]
    present = cluster.chart_version(name)
    if present is None:
        return f"{name} is not installed: nothing to upgrade (was Helm told to skip CRDs?)"
    if is_older(version, present):
        return f"{name} is of chart {present}, newer than {version}: left as it is"
    marked = {**metadata.get("annotations", {}), VERSION_ANNOTATION: version}
    cluster.apply({**crd, "metadata": {**metadata, "annotations": marked}}, name)
    return f"{name} is now of chart {version} (was {present or 'unmarked'})"


def server_address(environ: Mapping[str, str]) -> str:
    """As every pod is told it: no need of DNS."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def main() -> int:
    path, version = sys.argv[1:]
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    cluster = Cluster(server_address(os.environ), (ACCOUNT / "token").read_text().strip(), trust)
    try:
        print(upgrade(cluster, json.loads(Path(path).read_text()), version))
    except urllib.error.HTTPError as error:
        print(f"the API server said {error.code}: {error.read(2_000).decode(errors='replace')}")
        return 1
    except OSError as error:  # it may be starting; the job tries again
        print(f"the API server cannot be reached: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
