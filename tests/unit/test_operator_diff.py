"""Desired against observed: what is applied, deleted or left alone, and in which order."""

import copy
from typing import Any

import pytest
from baton_operator.desired import desired_manifests
from baton_operator.diff import Apply, Conflict, Delete, Key, covers, diff, owned_replicas
from baton_operator.names import Owner, Role
from support.model_services import OWNER, RELEASE, FakeNamespace, spec_of

DECODE = Key("Deployment", "smol-decode")


def wanted(**spec: Any) -> Any:
    return desired_manifests(OWNER, spec_of(**spec), {Role.PREFILL: 1}, RELEASE)


def settled(**spec: Any) -> FakeNamespace:
    """A namespace in which everything has been applied."""
    namespace = FakeNamespace()
    namespace.carry_out(diff(OWNER, wanted(**spec), []))
    return namespace


def test_in_an_empty_namespace_everything_is_applied_deployments_last() -> None:
    actions = diff(OWNER, wanted(), [])
    kinds = [action.key.kind for action in actions]
    assert len(kinds) == len(wanted())
    assert kinds[0] == "ServiceAccount"
    assert kinds[-3:] == ["Deployment"] * 3


def test_once_applied_there_is_nothing_to_do() -> None:
    assert diff(OWNER, wanted(), settled().observed()) == ()


def test_a_changed_field_is_put_back() -> None:
    namespace = settled()
    namespace.objects[DECODE]["spec"]["replicas"] = 7
    (action,) = diff(OWNER, wanted(), namespace.observed())
    assert action.key == DECODE
    assert isinstance(action, Apply)
    assert action.manifest["spec"]["replicas"] == 2  # type: ignore[index,call-overload]


def test_a_deleted_object_comes_back() -> None:
    namespace = settled()
    del namespace.objects[DECODE]
    (action,) = diff(OWNER, wanted(), namespace.observed())
    assert (type(action), action.key) == (Apply, DECODE)


def test_what_others_add_is_theirs() -> None:
    namespace = settled()
    found = namespace.objects[DECODE]
    found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "3"
    found["metadata"]["finalizers"] = ["somebody.example/hold"]
    found["spec"]["template"]["spec"]["containers"].append({"name": "injected"})
    assert diff(OWNER, wanted(), namespace.observed()) == ()


def test_a_field_that_is_wanted_no_more_is_noticed_and_goes() -> None:
    with_env = {"template": {"env": [{"name": "A", "value": "1"}]}}
    namespace = settled(decode=with_env)
    (action,) = diff(OWNER, wanted(decode={}), namespace.observed())
    namespace.carry_out((action,))
    (container,) = namespace.objects[DECODE]["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in container["env"]] == ["HOME"]
    assert diff(OWNER, wanted(decode={}), namespace.observed()) == ()


def test_another_spelling_of_the_same_amount_is_no_change() -> None:
    amounts = {"resources": {"limits": {"cpu": "1000m"}, "requests": {"cpu": "0.5"}}}
    decode = {"template": amounts}
    namespace = settled(decode=decode)
    container = namespace.objects[DECODE]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["cpu"] == "1"
    assert diff(OWNER, wanted(decode=decode), namespace.observed()) == ()


def test_a_role_that_is_dropped_is_deleted_deployment_first() -> None:
    actions = diff(OWNER, wanted(prefill=None), settled().observed())
    deleted = [action for action in actions if isinstance(action, Delete)]
    assert [one.key.kind for one in deleted] == [
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "ServiceAccount",
    ]
    assert {one.key.name for one in deleted} == {"smol-prefill"}
    # Router and decode are told first that there is no prefill any more.
    assert actions[-len(deleted) :] == tuple(deleted)


def test_what_is_being_deleted_is_not_deleted_again() -> None:
    namespace = settled()
    for found in namespace.objects.values():
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    actions = diff(OWNER, wanted(prefill=None), namespace.observed())
    assert not [action for action in actions if isinstance(action, Delete)]


@pytest.mark.parametrize(
    "references",
    [
        [],
        [{"uid": "uid-0", "controller": True}],  # a namesake that was deleted
        [{"uid": "uid-1"}],  # ours, and yet not its controller
    ],
)
def test_somebody_elses_object_is_left_alone_and_told(references: list[dict[str, Any]]) -> None:
    namespace = settled()
    namespace.objects[DECODE]["metadata"]["ownerReferences"] = references
    namespace.objects[DECODE]["spec"]["replicas"] = 7
    assert diff(OWNER, wanted(), namespace.observed()) == (Conflict(DECODE),)
    other = copy.deepcopy(namespace.objects[DECODE])
    other["metadata"]["name"] = "unrelated"
    assert diff(OWNER, (), [other]) == ()


def test_another_owner_touches_none_of_our_objects() -> None:
    other = Owner("other", "models", "uid-2")
    assert diff(other, (), settled().observed()) == ()


@pytest.mark.parametrize(
    ("desired", "observed", "same"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": {}}, {}, True),
        ({"a": False}, {}, True),
        ({"a": True}, {}, False),
        ({"args": ["x"]}, {"args": ["x", "y"]}, False),
        ({"args": ["x", "y"]}, {"args": ["y", "x"]}, False),
        ({"env": [{"name": "A"}]}, {"env": [{"name": "B"}, {"name": "A", "value": "1"}]}, True),
        ({"env": [{"name": "A"}]}, {"env": [{"name": "B"}]}, False),
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}, True),
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1G"}}, False),
        ({"annotations": {"memory": "1Gi"}}, {"annotations": {"memory": "1024Mi"}}, False),
    ],
)
def test_only_fields_that_we_set_are_compared(desired: Any, observed: Any, same: bool) -> None:
    assert covers(desired, observed) is same


def test_replicas_are_kept_until_an_autoscaler_takes_them_over() -> None:
    namespace = settled()
    (decode,) = [
        one
        for one in namespace.observed()
        if one["metadata"]["name"] == "smol-decode" and one["kind"] == "Deployment"
    ]
    assert owned_replicas(decode) == 2
    decode["metadata"]["managedFields"][0]["fieldsV1"] = {"f:spec": {"f:template": {}}}
    decode["metadata"]["managedFields"].append(
        {
            "manager": "kube-controller-manager",
            "operation": "Update",
            "subresource": "scale",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }
    )
    assert owned_replicas(decode) is None
