"""The end: a ModelService and the chart go, and leave nothing but the CRD."""

from cluster.harness.commands import until
from cluster.release import NAMESPACE, RELEASE, SERVICE, Release

LEAVE_LIMIT_S = 240.0  # routers drain
KINDS = "deployments,pods,services,secrets,roles,rolebindings,networkpolicies,poddisruptionbudgets"
CLUSTER_KINDS = "clusterroles,clusterrolebindings"


def test_uninstalling_leaves_the_crd_alone(release: Release) -> None:
    release.cluster.kubectl("delete", "modelservice", SERVICE, namespace=NAMESPACE)
    release.cluster.helm("uninstall", RELEASE, "--wait", namespace=NAMESPACE, limit_s=300)
    until(lambda: _left(release) == [], limit_s=LEAVE_LIMIT_S, what="everything of ours is gone")
    crds = release.cluster.kubectl("get", "crds", "--output=name")
    assert "modelservices.serving.baton.dev" in crds


def _left(release: Release) -> list[str]:
    """Objects whose name or label is ours."""
    namespaced = release.cluster.kubectl("get", KINDS, "--output=name", namespace=NAMESPACE)
    everywhere = release.cluster.kubectl("get", CLUSTER_KINDS, "--output=name")
    lines = [*namespaced.splitlines(), *everywhere.splitlines()]
    return [line for line in lines if RELEASE in line or SERVICE in line]
