"""What the chart refuses, with what it says; and what it tells whoever installed it."""

from typing import Any

import pytest
from support import chart

pytestmark = pytest.mark.skipif(chart.helm_program() is None, reason="there is no helm here")

MODEL: dict[str, Any] = {"model": {"name": "m", "source": "pvc://c/m.gguf"}, "decode": {}}

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("misspelt", {"operatr": {}}, "operatr"),
    ("misspelt-inside", {"operator": {"replica": 2}}, "replica"),
    ("misspelt-image", {"images": {"router": {"repo": "x"}}}, "repo"),
    ("replicas-zero", {"operator": {"replicas": 0}}, "replicas"),
    ("replicas-text", {"operator": {"replicas": "two"}}, "replicas"),
    ("pull-policy", {"images": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ("tag-in-repository", {"images": {"worker": {"repository": "baton:1"}}}, "repository"),
    ("digest", {"images": {"worker": {"digest": "sha256:12"}}}, "digest"),
    ("pull-secret-as-text", {"global": {"imagePullSecrets": ["secret"]}}, "imagePullSecrets"),
    ("namespace", {"watchNamespaces": ["Models"]}, "watchNamespaces"),
    ("namespace-twice", {"watchNamespaces": ["a", "a"]}, "watchNamespaces"),
    ("label-not-text", {"commonLabels": {"a": 1}}, "commonLabels"),
    ("label-with-spaces", {"commonLabels": {"a": "two words"}}, "commonLabels"),
    ("toleration", {"operator": {"tolerations": ["all"]}}, "tolerations"),
    ("resources", {"operator": {"resources": {"request": {}}}}, "request"),
    ("api-server-port", {"operator": {"networkPolicy": {"apiServerPorts": [0]}}}, "apiServerPorts"),
    ("no-api-server", {"operator": {"networkPolicy": {"apiServerPorts": []}}}, "apiServerPorts"),
    ("peer", {"operator": {"networkPolicy": {"metricsFrom": [{"pod": {}}]}}}, "metricsFrom"),
    ("nameless-model", {"modelService": {"enabled": True, "spec": MODEL}}, "modelService.name"),
    ("model-name", {"modelService": {"name": "Smol_LM"}}, "modelService.name"),
    ("long-model-name", {"modelService": {"name": "m" * 51}}, "modelService.name"),
    ("empty-model", {"modelService": {"enabled": True, "name": "m"}}, "modelService.spec"),
    ("ingress-path", {"ingress": {"path": "v1"}}, "ingress.path"),
    ("path-type", {"ingress": {"pathType": "Regex"}}, "pathType"),
    ("route-without-gateway", {"httpRoute": {"enabled": True}}, "parentRefs"),
    ("interval", {"podMonitor": {"interval": "often"}}, "interval"),
    ("budget", {"operator": {"podDisruptionBudget": {"maxUnavailable": 0}}}, "maxUnavailable"),
    ("prompt", {"tests": {"prompt": ""}}, "prompt"),
    ("test-key-secret", {"tests": {"apiKeySecret": "Our Key"}}, "apiKeySecret"),
    ("wait", {"tests": {"readyTimeoutSeconds": 0}}, "readyTimeoutSeconds"),
    ("ingress-to-nowhere", {"ingress": {"enabled": True}}, "ingress.enabled needs a model"),
    (
        "unwatched-model",
        {"watchNamespaces": ["a"], "modelService": {"enabled": True, "name": "m", "spec": MODEL}},
        "does not watch: add it to watchNamespaces",
    ),
    (
        "no-gateway-api",
        {
            "modelService": {"name": "m"},
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
        },
        "install the Gateway API first, or set httpRoute.enabled to false",
    ),
    ("no-pod-monitor", {"podMonitor": {"enabled": True}}, "set podMonitor.enabled to false"),
    ("no-rule", {"prometheusRule": {"enabled": True}}, "install the Prometheus operator first"),
]


@pytest.mark.parametrize(
    ("values", "says"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_bad_values_are_refused_by_name(values: dict[str, Any], says: str) -> None:
    assert says in chart.refusal(values)


def test_good_values_are_not_refused() -> None:
    assert chart.refusal({}) == ""
    assert chart.refusal({"operator": {"replicas": 2}, "global": {"other": 1}}) == ""


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        ({}, "baton-worker:0.1.0"),
        ({"tag": "1"}, "baton-worker:1"),
        ({"registry": "r.example.com:5000"}, "r.example.com:5000/baton-worker:0.1.0"),
        ({"registry": "r.example.com/", "tag": "1"}, "r.example.com/baton-worker:1"),
        ({"tag": "1", "digest": f"sha256:{'a' * 64}"}, f"baton-worker@sha256:{'a' * 64}"),
    ],
)
def test_images_are_named(image: dict[str, str], shown: str) -> None:
    objects = chart.render(inline={"images": {"worker": image}})
    (operator,) = chart.of_kind(objects, "Deployment")
    assert (
        f"--worker-image={shown}" in operator["spec"]["template"]["spec"]["containers"][0]["args"]
    )


def test_names_stay_within_what_kubernetes_takes() -> None:
    objects = chart.render(inline={"fullnameOverride": "a" * 40})
    assert all(len(one["metadata"]["name"]) <= 63 for one in objects)


def test_pull_secrets_reach_the_first_model() -> None:
    values: dict[str, Any] = {
        "global": {"imagePullSecrets": [{"name": "registry"}]},
        "modelService": {"enabled": True, "name": "m", "spec": MODEL},
    }
    (service,) = chart.of_kind(chart.render(inline=values), "ModelService")
    assert service["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    own = {**values["modelService"], "spec": {**MODEL, "imagePullSecrets": [{"name": "own"}]}}
    (service,) = chart.of_kind(chart.render(inline={**values, "modelService": own}), "ModelService")
    assert service["spec"]["imagePullSecrets"] == [{"name": "own"}]


def test_alerts_can_be_left_out() -> None:
    def alerts(**rule: Any) -> set[str]:
        values = {"prometheusRule": {"enabled": True, **rule}}
        (found,) = chart.of_kind(
            chart.render(inline=values, apis=chart.OPTIONAL_APIS), "PrometheusRule"
        )
        rules = [rule for group in found["spec"]["groups"] for rule in group["rules"]]
        return {rule["alert"] for rule in rules if "alert" in rule}

    every = alerts()
    assert len(every) > 10
    some = sorted(every)[:2]
    assert alerts(disabled=some) == every - set(some)


def test_every_dashboard_and_alert_file_is_rendered_whole() -> None:
    case = next(case for case in chart.CASES if case.name == "everything")
    objects = chart.render_case(case)
    shown = {
        name: text
        for one in chart.of_kind(objects, "ConfigMap")
        if "grafana_dashboard" in one["metadata"].get("labels", {})
        for name, text in one["data"].items()
    }
    files = {path.name: path.read_text().strip() for path in (chart.CHART / "dashboards").iterdir()}
    assert files
    assert {name: text.strip() for name, text in shown.items()} == files
    (rule,) = chart.of_kind(objects, "PrometheusRule")
    assert {"baton-alerts", "ours"} <= {group["name"] for group in rule["spec"]["groups"]}


def test_notes_of_a_model_say_how_to_ask_it() -> None:
    told = chart.notes(chart.CASES[1].values)
    assert "wait modelservice/smollm2 --for=condition=Ready" in told
    assert "port-forward service/smollm2 8000" in told
    assert '{"model": "smollm2-135m", "messages": [' in told
    assert "http://smollm2.serving.svc:8000/v1" in told
    assert "helm -n serving test demo" in told
    assert "WARNING" not in told


def test_notes_of_a_model_with_keys_ask_for_one() -> None:
    spec = {**MODEL, "router": {"apiKeys": {"secretName": "clients"}}}
    values: dict[str, Any] = {
        "modelService": {"enabled": True, "name": "m", "spec": spec},
        "ingress": {"enabled": True},
    }
    told = chart.notes(inline=values)
    assert '"authorization: Bearer $KEY"' in told
    assert "once the Secret clients has the entry keys.json" in told
    assert "set tests.apiKeySecret" in told
    assert "WARNING" not in told  # whoever reaches the Ingress must have a key
    assert "tests.apiKeySecret" not in chart.notes(
        inline={**values, "tests": {"apiKeySecret": "test-client"}}
    )


def test_helm_test_gets_its_key_by_the_name_of_a_secret() -> None:
    def key_of(**tests: Any) -> list[Any]:
        (pod,) = chart.of_kind(chart.render(inline={"tests": tests}), "Pod")
        (container,) = pod["spec"]["containers"]
        return [one["valueFrom"] for one in container["env"] if one["name"] == "BATON_API_KEY"]

    assert key_of() == []
    # Without that Secret it starts all the same, and says what is missing.
    wanted = {"name": "test-client", "key": "api-key", "optional": True}
    assert key_of(apiKeySecret="test-client") == [{"secretKeyRef": wanted}]


def test_notes_without_a_model_have_one_to_apply() -> None:
    told = chart.notes()
    assert "kind: ModelService" in told
    assert "every namespace" in told
    namespaced = chart.notes(inline={"watchNamespaces": ["a", "b"]})
    assert "kubectl -n a apply" in namespaced
    assert "the ModelServices of a, b" in namespaced


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({"images": {"worker": {"tag": "latest"}}}, "images.worker.tag is latest"),
        ({"ingress": {"enabled": True}, "modelService": {"name": "m"}}, "checks no API keys"),
        ({"crds": {"upgrade": False}}, "apply its CRD yourself"),
    ],
)
def test_notes_warn(values: dict[str, Any], warning: str) -> None:
    told = chart.notes(inline=values)
    assert warning in told
    assert told.count("WARNING") == 1
