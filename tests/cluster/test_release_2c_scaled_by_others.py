"""`scaling.mode: external`: the number of a role's pods is a person's or an autoscaler's business,
through the /scale of its Deployment, and the operator leaves it alone whatever else it changes.

The weights of these services cannot be had, so their pods cost nothing.
"""

import json
from typing import Any

import pytest
import yaml
from cluster.harness.cluster import Cluster
from cluster.harness.commands import until
from cluster.release import CHART, Release

EXAMPLES = CHART / "examples"
NAME = "scaled-by-others"
DECODE = f"{NAME}-decode"
PASS_LIMIT_S = 60.0
AUTOSCALER_LIMIT_S = 120.0  # it looks every 15 s

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def service(release: Release, namespace: str) -> "Service":
    found = Service(release.cluster, namespace)
    found.apply()
    found.await_pass()
    return found


class Service:
    """A ModelService whose decode role others scale."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def apply(self) -> None:
        source = "oci://localhost/no-such-weights:1/model/some.gguf"
        spec = {
            "model": {"name": "some", "source": source},
            "router": {"replicas": 1},
            "decode": {"scaling": {"mode": "external"}},
        }
        manifest = {
            "apiVersion": "serving.baton.dev/v1alpha1",
            "kind": "ModelService",
            "metadata": {"name": NAME},
            "spec": spec,
        }
        self.cluster.apply(manifest, namespace=self.namespace)

    def await_pass(self) -> None:
        """Until the operator has looked at the present spec."""
        generation = self.read()["metadata"]["generation"]
        until(
            lambda: self.read().get("status", {}).get("observedGeneration") == generation,
            limit_s=PASS_LIMIT_S,
            what="the operator has made a pass",
        )

    def pass_that_changes_the_deployment(self, number: int) -> None:
        template = {"annotations": {"pass": f"number-{number}"}}
        patch = json.dumps({"spec": {"decode": {"template": template}}})
        words = ("patch", "modelservice", NAME, "--type=merge", f"--patch={patch}")
        self.cluster.kubectl(*words, namespace=self.namespace)
        self.await_pass()

    def read(self) -> dict[str, Any]:
        return self.cluster.read("modelservice", NAME, namespace=self.namespace)

    def deployment(self) -> dict[str, Any]:
        return self.cluster.read("deployment", DECODE, namespace=self.namespace)

    @property
    def replicas(self) -> int:
        return int(self.deployment()["spec"]["replicas"])

    def scale(self, replicas: int) -> None:
        words = ("scale", f"deployment/{DECODE}", f"--replicas={replicas}")
        self.cluster.kubectl(*words, namespace=self.namespace)


@pytest.mark.parametrize("replicas", [2, 0])
def test_a_number_that_a_person_gave_stays(service: Service, replicas: int) -> None:
    assert service.replicas == 1  # Kubernetes' own default
    service.scale(replicas)
    for number in range(3):
        service.pass_that_changes_the_deployment(number)
        deployment = service.deployment()
        template = deployment["spec"]["template"]["metadata"]
        assert template["annotations"]["pass"] == f"number-{number}"
        assert deployment["spec"]["replicas"] == replicas
    status = service.read()["status"]
    assert status["decode"]["desired"] == replicas
    [scaling] = [one for one in status["conditions"] if one["type"] == "ScalingActive"]
    assert (scaling["status"], scaling["reason"]) == ("False", "ExternallyScaled")


def test_the_scale_of_the_deployment_is_the_roles(service: Service) -> None:
    path = f"/apis/apps/v1/namespaces/{service.namespace}/deployments/{DECODE}/scale"
    scale = json.loads(service.cluster.kubectl("get", f"--raw={path}"))
    assert scale["kind"] == "Scale"
    assert scale["spec"]["replicas"] == service.replicas
    selected = service.cluster.read(
        "pods", f"--selector={scale['status']['selector']}", namespace=service.namespace
    )
    labels = [pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in selected["items"]]
    assert labels == ["decode"]


@pytest.mark.parametrize("file", ["hpa-external.yaml", "keda-external.yaml"])
def test_the_api_server_takes_the_examples(release: Release, namespace: str, file: str) -> None:
    """All but KEDA's own objects, which need KEDA."""
    documents = list(yaml.safe_load_all((EXAMPLES / file).read_text()))
    for document in documents:
        if document["kind"] == "ScaledObject":
            continue
        words = ("apply", "--dry-run=server", "--output=name", "--filename=-")
        said = release.cluster.kubectl(*words, namespace=namespace, stdin=json.dumps(document))
        assert document["metadata"]["name"] in said


def test_a_real_autoscaler_brings_the_role_to_its_minimum(service: Service) -> None:
    """The one of the examples; without metrics it still keeps its bounds."""
    [autoscaler] = [
        document
        for document in yaml.safe_load_all((EXAMPLES / "hpa-external.yaml").read_text())
        if document["kind"] == "HorizontalPodAutoscaler"
    ]
    autoscaler["spec"]["scaleTargetRef"]["name"] = DECODE
    autoscaler["spec"]["minReplicas"] = 2
    service.cluster.apply(autoscaler, namespace=service.namespace)
    until(
        lambda: service.replicas == 2,
        limit_s=AUTOSCALER_LIMIT_S,
        what="the HorizontalPodAutoscaler has scaled the Deployment",
    )
    service.pass_that_changes_the_deployment(1)
    assert service.replicas == 2
