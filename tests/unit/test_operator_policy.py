"""From spec to bounds, and from decisions to the replicas that are applied."""

from typing import Any

from baton_operator.names import FIELD_MANAGER, Role
from baton_operator.observe import RoleObservation
from baton_operator.policy import IDLE_AFTER_S, applied_replicas, scaled_roles, targets_of
from baton_operator.scaling import Decision, Reason, ScaledRole, Targets
from support.model_services import spec_of

SEEN = {role: RoleObservation(True, wanted=3, replicas=3, ready=2, updated=3) for role in Role}


def deployment(replicas: int, *, ours: bool = True) -> dict[str, Any]:
    fields: dict[str, Any] = {"f:spec": {"f:replicas": {}} if ours else {}}
    entry = {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields}
    return {"spec": {"replicas": replicas}, "metadata": {"managedFields": [entry]}}


def test_targets_are_the_promise() -> None:
    assert targets_of(spec_of()) == Targets(0.5, 0.05, 0.95)
    assert targets_of(spec_of(slo=None, prefill=None)) is None


def test_only_internally_scaled_roles_with_a_deployment_are_decided() -> None:
    external = {"scaling": {"mode": "external"}}
    scaling = {"scaling": {"maxReplicas": 9}}
    assert scaled_roles(spec_of(decode=external), SEEN).keys() == {Role.PREFILL}
    assert scaled_roles(spec_of(decode=scaling), SEEN).keys() == {Role.PREFILL, Role.DECODE}
    assert scaled_roles(spec_of(), {}) == {}


def test_bounds_have_defaults() -> None:
    spec = spec_of(
        prefill={"scaling": {"maxReplicas": 9}},
        decode={"scaling": {"minReplicas": 0, "maxReplicas": 4, "idleAfter": "90s"}},
    )
    assert scaled_roles(spec, SEEN) == {
        Role.PREFILL: ScaledRole(1, 9, IDLE_AFTER_S, wanted=3, ready=2),
        Role.DECODE: ScaledRole(0, 4, 90.0, wanted=3, ready=2),
    }


def test_pods_left_over_from_a_larger_number_count_only_as_wanted() -> None:
    leaving = RoleObservation(True, wanted=1, replicas=3, ready=3, updated=1)
    assert scaled_roles(spec_of(), {Role.PREFILL: leaving})[Role.PREFILL].ready == 1


def test_a_decision_is_applied() -> None:
    decided = {Role.PREFILL: Decision(Role.PREFILL, 3, 0, Reason.IDLE)}
    assert applied_replicas(spec_of(), decided, {}) == {Role.PREFILL: 0}


def test_without_a_new_decision_the_last_one_stays() -> None:
    assert applied_replicas(spec_of(), {}, {Role.PREFILL: deployment(7)}) == {Role.PREFILL: 7}


def test_a_new_role_starts_with_a_pod_even_where_it_may_rest() -> None:
    assert applied_replicas(spec_of(), {}, {}) == {Role.PREFILL: 1}
    three = {"scaling": {"minReplicas": 3, "maxReplicas": 4}}
    assert applied_replicas(spec_of(prefill=three), {}, {}) == {Role.PREFILL: 3}


def test_an_external_autoscaler_takes_over_without_a_jump() -> None:
    spec = spec_of(prefill={"scaling": {"mode": "external"}})
    assert applied_replicas(spec, {}, {}) == {Role.PREFILL: None}
    assert applied_replicas(spec, {}, {Role.PREFILL: deployment(5)}) == {Role.PREFILL: 5}
    theirs = deployment(5, ours=False)
    assert applied_replicas(spec, {}, {Role.PREFILL: theirs}) == {Role.PREFILL: None}
