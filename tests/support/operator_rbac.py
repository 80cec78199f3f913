"""The permissions that the chart gives the operator, rendered by helm."""

import os
import subprocess
import sys
from pathlib import Path

import yaml
from cluster.harness.layout import REPOSITORY

SYSTEM = "baton-system"
CHART = REPOSITORY / "deploy" / "helm" / "baton"


def chart_rbac(release: str = "baton", *values: str) -> str:
    """What the operator may do, and the Lease it may write."""
    return rendered("templates/rbac.yaml", release, *values) + (
        "---\n" + rendered("templates/lease.yaml", release, *values)
    )


def service_account(rbac: str) -> str:
    documents = yaml.safe_load_all(rbac)
    names = {one["subjects"][0]["name"] for one in documents if one and "subjects" in one}
    (name,) = names
    return str(name)


def lease_name(rbac: str) -> str:
    """The Lease that the chart's Role names."""
    rules = [rule for one in yaml.safe_load_all(rbac) for rule in (one or {}).get("rules", [])]
    (name,) = next(one["resourceNames"] for one in rules if "resourceNames" in one)
    return str(name)


def rendered(template: str, release: str, *values: str) -> str:
    folder = Path(sys.executable).parent
    helm = folder / "helm" if (folder / "helm").exists() else "helm"
    command = [str(helm), "template", release, str(CHART), "--namespace", SYSTEM]
    settings = [word for value in values for word in ("--set", value)]
    answer = subprocess.run(
        [*command, "--show-only", template, *settings],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "KUBECONFIG": os.devnull},
    )
    assert answer.returncode == 0, answer.stderr
    documents = [one for one in yaml.safe_load_all(answer.stdout) if one]
    for one in documents:
        if not one["kind"].startswith("Cluster"):
            one["metadata"].setdefault("namespace", SYSTEM)  # as `helm install` does
    text: str = yaml.safe_dump_all(documents)
    return text
