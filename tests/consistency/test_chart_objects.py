"""What every object that the chart renders keeps, whatever the values: Kubernetes' schemas, the
restricted pod standard, permissions that are named one by one, selectors that find their pods."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from baton_operator.api import parse_service
from baton_operator.crds import CHART_FILE
from baton_operator.desired import desired_manifests
from baton_operator.names import Role
from support import chart
from support.chart import CASES, Case, Object
from support.kube_schemas import VERSIONS, is_foreign, schema_problems
from support.model_services import OWNER, RELEASE, spec_of
from support.network_reach import matches
from support.pod_rules import house_problems, pods_in, restricted_problems

pytestmark = pytest.mark.skipif(chart.helm_program() is None, reason="there is no helm here")

CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
SOURCES = ("pip://a==1#m.gguf", "pvc://claim/m.gguf", "oci://weights:1/m.gguf", "hf://o/r")


@pytest.fixture(scope="module")
def rendered() -> Mapping[Case, list[Object]]:
    return {case: chart.render_case(case) for case in CASES}


@CASE
def test_helm_finds_nothing_to_say(case: Case) -> None:
    values = [flag for path in case.values for flag in ("--values", str(path))]
    apis = [flag for api in case.apis for flag in ("--api-versions", api)]
    rendered = chart.helm("template", "demo", str(chart.CHART), *values, *apis)
    assert rendered
    if not case.apis:  # `helm lint` knows Kubernetes' own APIs only
        linted = chart.helm("lint", "--strict", str(chart.CHART), *values)
        assert "1 chart(s) linted, 0 chart(s) failed" in linted


@CASE
@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_what_the_api_server_takes(
    case: Case, version: str, rendered: Mapping[Case, list[Object]]
) -> None:
    problems = [
        f"{found['kind']} {found['metadata']['name']}: {problem}"
        for found in rendered[case]
        if not is_foreign(found)
        for problem in schema_problems(found, version)
    ]
    assert problems == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_operators_objects_are_what_the_api_server_takes(version: str) -> None:
    problems = [
        f"{found['kind']} {problem}"
        for source in SOURCES
        for found in children(source)
        for problem in schema_problems(found, version)
    ]
    assert problems == []


def test_a_wrong_field_is_noticed() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"contaners": []}}
    assert any("contaners" in problem for problem in schema_problems(pod, "1.34"))


def children(source: str = SOURCES[0]) -> list[Any]:
    """What the operator makes of a ModelService, as JSON has it."""
    keys = {"apiKeys": {"secretName": "clients"}}
    tracing = {"endpoint": "http://otel-collector.observability:4318"}
    drafted = {"speculation": "draft-model", "draftModel": {"source": source}}
    spec = spec_of(
        model={"name": "m", "source": source},
        router=keys,
        tracing=tracing,
        decode={"engine": drafted},
    )
    found = desired_manifests(OWNER, spec, {Role.PREFILL: 1}, RELEASE)
    plain: list[Any] = json.loads(json.dumps(found))
    return plain


@CASE
def test_every_pod_of_the_chart_is_restricted(
    case: Case, rendered: Mapping[Case, list[Object]]
) -> None:
    pods = list(pods_in(rendered[case]))
    assert len(pods) >= 2  # the operator and the test
    for where, spec in pods:
        assert restricted_problems(spec) + house_problems(spec) == [], where


@pytest.mark.parametrize("source", SOURCES)
def test_every_pod_of_the_operator_is_restricted(source: str) -> None:
    pods = list(pods_in(children(source)))
    assert len(pods) == 3
    for where, spec in pods:
        assert restricted_problems(spec) + house_problems(spec) == [], where


@CASE
def test_only_who_asks_the_api_server_has_a_token(
    case: Case, rendered: Mapping[Case, list[Object]]
) -> None:
    for where, spec in pods_in(rendered[case]):
        has_token = spec.get("automountServiceAccountToken", True)
        assert has_token == ("test" not in where), where


@CASE
def test_permissions_are_named_one_by_one(
    case: Case, rendered: Mapping[Case, list[Object]]
) -> None:
    for role in rules_of(rendered[case]):
        for rule in role["rules"]:
            assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not rule.get("nonResourceURLs")
            if "secrets" in rule["resources"]:
                assert set(rule["verbs"]) == {"get", "create", "patch", "delete"}
            if "customresourcedefinitions" in rule["resources"]:
                assert rule["resourceNames"] == ["modelservices.serving.baton.dev"]
                assert set(rule["verbs"]) == {"get", "patch"}


def rules_of(objects: list[Object]) -> list[Object]:
    return [found for found in objects if found["kind"] in ("Role", "ClusterRole")]


@CASE
def test_bindings_bind_roles_and_accounts_that_are_there(
    case: Case, rendered: Mapping[Case, list[Object]]
) -> None:
    objects = rendered[case]
    there = {
        (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
        for one in objects
    }
    for binding in [one for one in objects if one["kind"].endswith("RoleBinding")]:
        role = binding["roleRef"]
        where = binding["metadata"].get("namespace", "")
        assert (role["kind"], where, role["name"]) in there
        for subject in binding["subjects"]:
            assert ("ServiceAccount", subject["namespace"], subject["name"]) in there


def test_a_list_of_namespaces_needs_no_permission_on_the_cluster(
    rendered: Mapping[Case, list[Object]],
) -> None:
    objects = next(found for case, found in rendered.items() if case.name == "namespaced")
    assert not [one for one in objects if one["kind"].startswith("Cluster")]
    roles = {one["metadata"]["namespace"] for one in chart.of_kind(objects, "Role")}
    assert roles == {"models-a", "models-b", chart.NAMESPACE}


def test_the_operator_may_do_what_it_grants(rendered: Mapping[Case, list[Object]]) -> None:
    """The API server lets nobody grant what they may not do themselves."""
    (held,) = [
        role["rules"]
        for role in chart.of_kind(rendered[CASES[0]], "ClusterRole")
        if role["metadata"]["name"].endswith("operator")
    ]
    for rule in [rule for role in chart.of_kind(children(), "Role") for rule in role["rules"]]:
        assert any(
            set(rule["resources"]) <= set(own["resources"])
            and set(rule["apiGroups"]) <= set(own["apiGroups"])
            and set(rule["verbs"]) <= set(own["verbs"])
            for own in held
        ), rule


@CASE
def test_selectors_find_their_pods_and_no_others(
    case: Case, rendered: Mapping[Case, list[Object]]
) -> None:
    objects = rendered[case]
    (operator,) = chart.of_kind(objects, "Deployment")
    labels = operator["spec"]["template"]["metadata"]["labels"]
    others = [
        one["spec"]["template"]["metadata"]["labels"] for one in chart.of_kind(objects, "Job")
    ]
    others += [one["metadata"]["labels"] for one in chart.of_kind(objects, "Pod")]
    others += [
        one["spec"]["template"]["metadata"]["labels"]
        for one in children()
        if one["kind"] == "Deployment"
    ]
    selectors = [operator["spec"]["selector"]]
    selectors += [one["spec"]["selector"] for one in chart.of_kind(objects, "PodDisruptionBudget")]
    selectors += [one["spec"]["podSelector"] for one in chart.of_kind(objects, "NetworkPolicy")]
    selectors += [
        {"matchLabels": one["spec"]["selector"]}
        for one in chart.of_kind(objects, "Service")
        if one["metadata"]["name"].endswith("-operator")
    ]
    assert len(selectors) >= 2
    for selector in selectors:
        assert matches(selector, labels)
        assert not any(matches(selector, other) for other in others)


@CASE
def test_every_object_says_whose_it_is(case: Case, rendered: Mapping[Case, list[Object]]) -> None:
    identities = set()
    for found in rendered[case]:
        metadata = found["metadata"]
        identity = (found["kind"], metadata.get("namespace", ""), metadata["name"])
        assert identity not in identities
        identities.add(identity)
        if found["metadata"]["name"] not in ("demo-extra", "demo-baton-text"):  # the user's own
            assert metadata["labels"]["app.kubernetes.io/instance"] == chart.RELEASE
            assert metadata["labels"]["helm.sh/chart"].startswith("baton-")
            assert len(metadata["name"]) <= 63


@CASE
def test_model_services_are_what_the_operator_understands(
    case: Case, rendered: Mapping[Case, list[Object]]
) -> None:
    for found in chart.of_kind(rendered[case], "ModelService"):
        parse_service(json.loads(json.dumps(found)))


def test_hooks_leave_nothing_behind(rendered: Mapping[Case, list[Object]]) -> None:
    """`helm uninstall` does not delete hooks; they go when they have succeeded."""
    for objects in rendered.values():
        for hook in filter(chart.is_hook, objects):
            policy = hook["metadata"]["annotations"]["helm.sh/hook-delete-policy"].split(",")
            assert {"before-hook-creation", "hook-succeeded"} <= set(policy)


@CASE
def test_the_lease_goes_with_the_release(case: Case, rendered: Mapping[Case, list[Object]]) -> None:
    """The operator is told its name and may not make one, so none is left behind."""
    (lease,) = chart.of_kind(rendered[case], "Lease")
    (operator,) = chart.of_kind(rendered[case], "Deployment")
    arguments = operator["spec"]["template"]["spec"]["containers"][0]["args"]
    name, namespace = (lease["metadata"][field] for field in ("name", "namespace"))
    assert {f"--lease-name={name}", f"--lease-namespace={namespace}"} <= set(arguments)
    for rule in [rule for role in rules_of(rendered[case]) for rule in role["rules"]]:
        if "leases" in rule["resources"]:
            assert rule["resourceNames"] == [name]
            assert "create" not in rule["verbs"]


def test_the_upgrade_brings_the_crd_of_this_chart(rendered: Mapping[Case, list[Object]]) -> None:
    config = chart.named(rendered[CASES[0]], "ConfigMap", "demo-baton-crd-upgrade")
    committed = yaml.safe_load((chart.ROOT / CHART_FILE).read_text(encoding="utf-8"))
    assert json.loads(config["data"]["crd.json"]) == committed


def test_a_new_operator_image_moves_no_model_pod() -> None:
    """Routers and workers run the images that the operator is told, and those stay."""
    values = CASES[1].values
    before = chart.render(values)
    after = chart.render(
        values,
        {"images": {"operator": {"repository": "baton-operator", "tag": "0.1.1"}}},
        upgrade=True,
    )
    changed = [
        f"{new['kind']} {new['metadata']['name']}"
        for old, new in zip(before, after, strict=True)
        if old != new and not chart.is_hook(new)
    ]
    assert changed == ["Deployment demo-baton-operator"]
    (old,), (new,) = (chart.of_kind(found, "Deployment") for found in (before, after))
    assert (
        old["spec"]["template"]["spec"]["containers"][0]["args"]
        == new["spec"]["template"]["spec"]["containers"][0]["args"]
    )


def test_selectors_never_change_with_the_version() -> None:
    """The API server refuses a Deployment whose selector changes: no upgrade would work."""
    (operator,) = chart.of_kind(chart.render(), "Deployment")
    assert set(operator["spec"]["selector"]["matchLabels"]) == {
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/component",
    }
