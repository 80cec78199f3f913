"""The chart's examples of scaling by others: the API would take them, and they fit each other."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from baton_operator.api import parse_service
from baton_operator.desired import desired_manifests, worker_role
from baton_operator.names import Owner, Role
from support.model_services import RELEASE

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "baton" / "examples"
TARGETS = {"HorizontalPodAutoscaler": "apps/v1", "ScaledObject": None}


def documents(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / file).read_text()))


@pytest.mark.parametrize("file", ["hpa-external.yaml", "keda-external.yaml"])
def test_an_autoscaler_scales_a_deployment_whose_replicas_are_not_ours(file: str) -> None:
    service, *autoscalers = documents(file)
    spec = parse_service(service)
    owner = Owner(service["metadata"]["name"], "default", "uid")
    made = {
        one["metadata"]["name"]: one  # type: ignore[call-overload,index]
        for one in desired_manifests(owner, spec, {}, RELEASE)
        if one["kind"] == "Deployment"
    }
    external = {
        owner.child(role)
        for role in (Role.PREFILL, Role.DECODE)
        if (found := worker_role(spec, role)) is not None and found.external
    }
    targets = {one["spec"]["scaleTargetRef"]["name"] for one in autoscalers}
    assert targets == external
    assert all("replicas" not in made[name]["spec"] for name in targets)  # type: ignore[operator]


def test_the_horizontal_pod_autoscaler_is_one() -> None:
    _, autoscaler = documents("hpa-external.yaml")
    kubernetes_validate.validate(autoscaler, "1.34", strict=True)
