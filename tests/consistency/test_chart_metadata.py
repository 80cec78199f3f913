"""What Chart.yaml says of the chart agrees with what the chart is."""

import tomllib
from typing import Any

import yaml
from baton_operator.api import GROUP, KIND, VERSION, parse_service
from support.chart import CHART, ROOT


def metadata() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    return found


def annotation(name: str) -> Any:
    return yaml.safe_load(metadata()["annotations"][f"artifacthub.io/{name}"])


def test_the_chart_installs_the_version_of_this_code() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata()["appVersion"] == project["version"]


def test_the_images_are_those_of_the_values() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    version = metadata()["appVersion"]
    assert {one["name"]: one["image"] for one in annotation("images")} == {
        role: f"{image['repository']}:{version}"
        for role, image in values["images"].items()
        if role != "pullPolicy"
    }


def test_the_crd_is_the_operators() -> None:
    (crd,) = annotation("crds")
    assert (crd["kind"], crd["version"]) == (KIND, VERSION)
    assert crd["name"] == f"modelservices.{GROUP}"


def test_the_example_is_one_that_the_operator_understands() -> None:
    (example,) = annotation("crdsExamples")
    assert parse_service(example).model.name == "smollm2-135m"


def test_kubernetes_may_be_as_old_as_we_check() -> None:
    assert metadata()["kubeVersion"] == ">=1.30.0-0"
