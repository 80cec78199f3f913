"""Between spec and scaling law: who is scaled within which bounds, and which replicas are applied.

Pure. Knows no signals and no law.
"""

from collections.abc import Mapping

from baton_operator.api import ModelServiceSpec
from baton_operator.desired import worker_role
from baton_operator.diff import owned_replicas
from baton_operator.manifest import Manifest, int_at
from baton_operator.names import WORKER_ROLES, Role
from baton_operator.observe import RoleObservation
from baton_operator.scaling import Decision, ScaledRole, Targets

IDLE_AFTER_S = 300.0
"""Where the spec does not say: a person who reads an answer before asking on is not gone."""


def targets_of(spec: ModelServiceSpec) -> Targets | None:
    """What the service promises; None: nothing, so that nothing can be scaled towards it."""
    if spec.slo is None:
        return None
    return Targets(spec.slo.ttft.seconds, spec.slo.itl.seconds, spec.slo.percentile / 100)


def scaled_roles(
    spec: ModelServiceSpec, roles: Mapping[Role, RoleObservation]
) -> dict[Role, ScaledRole]:
    """The roles that the operator scales and that have a Deployment already."""
    scaled = {}
    for role in WORKER_ROLES:
        worker, seen = worker_role(spec, role), roles.get(role, RoleObservation())
        if worker is None or worker.scaling is None or not worker.internal or not seen.exists:
            continue
        scaling = worker.scaling
        minimum = 1 if scaling.min_replicas is None else scaling.min_replicas
        assert scaling.max_replicas is not None, "a rule of the API"
        idle_s = IDLE_AFTER_S if scaling.idle_after is None else scaling.idle_after.seconds
        scaled[role] = ScaledRole(
            minimum, scaling.max_replicas, idle_s, seen.wanted, min(seen.ready, seen.wanted)
        )
    return scaled


def applied_replicas(
    spec: ModelServiceSpec,
    decisions: Mapping[Role, Decision],
    deployments: Mapping[Role, Manifest],
) -> dict[Role, int | None]:
    """Replicas of the roles whose number the spec does not fix; None: the field is not ours."""
    replicas: dict[Role, int | None] = {}
    for role in WORKER_ROLES:
        worker = worker_role(spec, role)
        if worker is None or worker.scaling is None:
            continue
        found = deployments.get(role)
        if worker.external:
            replicas[role] = owned_replicas(found) if found is not None else None
        elif role in decisions:
            replicas[role] = decisions[role].replicas
        elif found is not None:
            replicas[role] = int_at(found, "spec", "replicas")  # decided earlier
        else:
            # A new role starts with a pod even where it may rest at zero: whether the weights can
            # be had should show at once, not with the first request.
            replicas[role] = max(worker.scaling.min_replicas or 1, 1)
    return replicas
