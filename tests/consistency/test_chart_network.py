"""Who may reach whom in a release: a table, checked against the policies of chart and operator."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from baton_operator.desired import desired_manifests
from baton_operator.names import Owner, Role
from support import chart
from support.model_services import RELEASE, spec_of
from support.network_reach import Endpoint, may_reach

pytestmark = pytest.mark.skipif(chart.helm_program() is None, reason="there is no helm here")

HTTP, GRPC, METRICS, DNS, OTLP = 8000, 7000, 9090, 53, 4318
SMOL = Owner("smollm2", chart.NAMESPACE, "uid-1")
OTHER = Owner("other", chart.NAMESPACE, "uid-2")
ELSEWHERE = Owner("smollm2", "elsewhere", "uid-3")


def pods_of(owner: Owner) -> dict[str, Endpoint]:
    return {role.value: Endpoint(owner.namespace, owner.labels(role)) for role in Role}


def children(owner: Owner, source: str, **more: Any) -> list[Any]:
    spec = spec_of(model={"name": "m", "source": source}, **more)
    made = desired_manifests(owner, spec, {Role.PREFILL: 1}, RELEASE)
    plain: list[Any] = json.loads(json.dumps(made))
    return plain


def policies(objects: Sequence[Any], source: str = "pvc://models/m.gguf", **more: Any) -> list[Any]:
    made = [one for owner in (SMOL, OTHER, ELSEWHERE) for one in children(owner, source, **more)]
    return [one for one in (*objects, *made) if one["kind"] == "NetworkPolicy"]


OPERATOR = Endpoint(
    chart.NAMESPACE,
    {
        "app.kubernetes.io/name": "baton",
        "app.kubernetes.io/instance": chart.RELEASE,
        "app.kubernetes.io/component": "operator",
    },
)
WHO = {
    **pods_of(SMOL),
    **{f"other-{name}": pod for name, pod in pods_of(OTHER).items()},
    **{f"elsewhere-{name}": pod for name, pod in pods_of(ELSEWHERE).items()},
    "operator": OPERATOR,
    "client": Endpoint("shop", {"app": "web"}),
    "neighbour": Endpoint(chart.NAMESPACE, {"app": "web"}),
    "prometheus": Endpoint("monitoring", {"app": "prometheus"}),
    "collector": Endpoint("observability", {"app": "otel"}),
    "dns": Endpoint("kube-system", {"k8s-app": "kube-dns"}),
    "outside": Endpoint(),
}

REACHES = [
    ("client", "router", HTTP),
    ("neighbour", "router", HTTP),
    ("outside", "router", HTTP),
    ("router", "decode", GRPC),
    ("router", "prefill", GRPC),
    ("decode", "prefill", GRPC),
    ("operator", "router", METRICS),
    ("operator", "elsewhere-router", METRICS),
    ("operator", "outside", 443),
    ("operator", "outside", 6443),
    ("router", "outside", 443),
    ("router", "outside", 6443),
    *(("prometheus", name, METRICS) for name in ("operator", "router", "prefill", "decode")),
    *((name, "dns", DNS) for name in ("operator", "router", "prefill", "decode")),
]
REACHES_NOT = [
    ("client", "decode", GRPC),
    ("client", "prefill", GRPC),
    ("neighbour", "decode", GRPC),
    ("prefill", "decode", GRPC),
    ("decode", "router", HTTP),
    ("prefill", "router", HTTP),
    ("decode", "outside", 443),
    ("prefill", "outside", 443),
    ("router", "outside", 80),
    ("router", "other-decode", GRPC),
    ("other-router", "decode", GRPC),
    ("elsewhere-router", "decode", GRPC),
    ("other-decode", "prefill", GRPC),
    ("operator", "decode", GRPC),
    ("operator", "router", HTTP),
    ("operator", "decode", METRICS),
    ("operator", "client", 80),
    ("client", "operator", HTTP),
]


@pytest.fixture(scope="module")
def rules() -> list[Any]:
    found = policies(chart.render(chart.CASES[1].values))
    assert len(found) == 10  # the operator's, and three of each service
    return found


@pytest.mark.parametrize(("source", "target", "port"), REACHES)
def test_who_must_reach_does(rules: list[Any], source: str, target: str, port: int) -> None:
    protocol = "UDP" if port == DNS else "TCP"
    assert may_reach(rules, WHO[source], WHO[target], port, protocol)


@pytest.mark.parametrize(("source", "target", "port"), REACHES_NOT)
def test_who_must_not_reach_does_not(rules: list[Any], source: str, target: str, port: int) -> None:
    assert not may_reach(rules, WHO[source], WHO[target], port)


def test_the_ports_of_the_table_are_those_that_pods_listen_on() -> None:
    (operator,) = chart.of_kind(chart.render(), "Deployment")
    made = [one for one in children(SMOL, "pvc://models/m.gguf") if one["kind"] == "Deployment"]
    ports = {
        container["name"]: {port["containerPort"] for port in container["ports"]}
        for deployment in (operator, *made)
        for container in deployment["spec"]["template"]["spec"]["containers"]
    }
    assert ports == {
        "operator": {METRICS},
        "router": {HTTP, METRICS},
        "decode": {GRPC, METRICS},
        "prefill": {GRPC, METRICS},
    }


def test_the_labels_of_the_table_are_those_of_the_pods() -> None:
    (operator,) = chart.of_kind(chart.render(), "Deployment")
    assert OPERATOR.labels.items() <= operator["spec"]["template"]["metadata"]["labels"].items()
    for one in children(SMOL, "pvc://models/m.gguf"):
        if one["kind"] == "Deployment":
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert WHO[labels["app.kubernetes.io/component"]].labels == labels


def test_pods_that_fetch_their_weights_reach_the_network() -> None:
    fetching = policies(chart.render(), source="hf://org/repo")
    for role in ("router", "prefill", "decode"):
        assert may_reach(fetching, WHO[role], WHO["outside"], 443)
    assert not may_reach(fetching, WHO["client"], WHO["decode"], GRPC)


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("", set()),
        ("otel.observability", {"collector"}),
        ("otel.observability.svc.cluster.local", {"collector"}),
        ("otel", {"neighbour"}),  # of that namespace; a policy cannot name a Service
        ("10.1.2.3", {"outside"}),
        ("otel.example.com", {"collector", "neighbour", "client", "outside"}),
    ],
)
def test_traces_leave_for_the_collector_and_for_no_other_place(
    host: str, reached: set[str]
) -> None:
    tracing = {"endpoint": f"http://{host}:{OTLP}"} if host else None
    traced = policies(chart.render(), tracing=tracing)
    targets = ("collector", "neighbour", "client", "outside")
    for role in ("router", "prefill", "decode"):
        there = {name for name in targets if may_reach(traced, WHO[role], WHO[name], OTLP)}
        assert there == reached
        assert not may_reach(traced, WHO[role], WHO["collector"], HTTP)


def test_metrics_can_be_kept_for_prometheus() -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    kept = policies(chart.render(inline={"operator": {"networkPolicy": {"metricsFrom": [peer]}}}))
    assert may_reach(kept, WHO["prometheus"], OPERATOR, METRICS)
    assert not may_reach(kept, WHO["client"], OPERATOR, METRICS)


def test_a_namespaced_operator_reaches_the_routers_it_serves_only() -> None:
    kept = policies(chart.render(inline={"watchNamespaces": ["elsewhere"]}))
    assert may_reach(kept, OPERATOR, WHO["elsewhere-router"], METRICS)
    assert not may_reach(kept, OPERATOR, WHO["router"], METRICS)
