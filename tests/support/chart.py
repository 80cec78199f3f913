"""The chart as helm renders it: what a release would make, or why helm refuses the values.

Knows helm's command line and the value files of the chart; knows no rule that objects must keep.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "baton"
GOLDEN = ROOT / "tests" / "consistency" / "golden_chart"
HELM_LIMIT_S = 60

RELEASE = "demo"
NAMESPACE = "serving"
OPTIONAL_APIS = (
    "gateway.networking.k8s.io/v1/HTTPRoute",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
)

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """A way to install the chart: its file of values in ci/, and what the cluster has beside
    Kubernetes' own APIs."""

    name: str
    apis: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[Path, ...]:
        return () if self.name == "default" else (CHART / "ci" / f"{self.name}-values.yaml",)

    @property
    def golden(self) -> Path:
        return GOLDEN / f"{self.name}.yaml"


CASES = (
    Case("default"),
    Case("smollm2"),
    Case("everything", OPTIONAL_APIS),
    Case("namespaced"),
    Case("minimal"),
    Case("present-model"),
)


class HelmRefused(Exception):
    """Helm ended with an error; the text is what it said."""


def helm_program() -> str | None:
    """The one that is installed with the development tools, else the one on PATH."""
    ours = Path(sys.executable).parent / "helm"
    return str(ours) if ours.exists() else shutil.which("helm")


def helm(*arguments: str) -> str:
    """What helm prints. Raises HelmRefused with what it says of an error."""
    program = helm_program()
    assert program is not None, "callers skip where there is no helm"
    with TemporaryDirectory() as home:
        places = {f"HELM_{kind}_HOME": home for kind in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            timeout=HELM_LIMIT_S,
            env={"PATH": os.environ["PATH"], **places},
        )
    if done.returncode != 0:
        raise HelmRefused(done.stderr + done.stdout)
    return done.stdout


def render(
    values: Sequence[Path] = (),
    inline: Mapping[str, Any] | None = None,
    *,
    apis: Sequence[str] = (),
    chart: Path = CHART,
    upgrade: bool = False,
) -> list[Object]:
    """Every object of a release, hooks included. Raises HelmRefused."""
    with TemporaryDirectory() as folder:
        more = Path(folder) / "inline.json"
        more.write_text(json.dumps(inline or {}))
        text = helm(
            *("template", RELEASE, str(chart), "--namespace", NAMESPACE),
            *(flag for path in (*values, more) for flag in ("--values", str(path))),
            *(flag for api in apis for flag in ("--api-versions", api)),
            *(["--is-upgrade"] if upgrade else []),
        )
    return [found for found in yaml.safe_load_all(text) if found is not None]


def render_case(case: Case) -> list[Object]:
    return render(case.values, apis=case.apis)


def refusal(inline: Mapping[str, Any]) -> str:
    """What helm says of values that it must not take; empty: it took them."""
    try:
        render(inline=inline)
    except HelmRefused as refused:
        return str(refused)
    return ""


def notes(values: Sequence[Path] = (), inline: Mapping[str, Any] | None = None) -> str:
    """The text after an install. `helm template` leaves it out, so a copy of the chart has it in an
    object."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "baton"
        shutil.copytree(CHART, copy)
        (copy / "templates" / "NOTES.txt").rename(copy / "notes.txt")
        (copy / "templates" / "notes.yaml").write_text(
            'kind: Notes\ntext: {{ tpl (.Files.Get "notes.txt") . | toJson }}\n'
        )
        (found,) = of_kind(render(values, inline, apis=OPTIONAL_APIS, chart=copy), "Notes")
    return str(found["text"])


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def named(objects: Sequence[Object], kind: str, name: str) -> Object:
    (found,) = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == name]
    return found


def is_hook(found: Object) -> bool:
    return "helm.sh/hook" in (found["metadata"].get("annotations") or {})
