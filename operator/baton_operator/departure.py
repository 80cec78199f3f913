"""Which pod of a role goes first when there shall be fewer: the cheapest to empty. Pure.

The ReplicaSet controller removes the pods with the lowest `pod-deletion-cost` first, so each pod of
the role gets one from what it has to finish. Knows no API server.
"""

from collections.abc import Mapping, Sequence

from baton.common.signals import WorkerSignals

from baton_operator.manifest import Manifest, text_at

COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
REQUESTS_MAX = 2_000_000  # the cost is an int32, of which the last three digits are for KV
KV_STEPS = 999


def departure_costs(
    pods: Sequence[Manifest], workers: Mapping[str, WorkerSignals]
) -> dict[str, str]:
    """The annotation's value for each pod that needs another one than it has, by the pod's name.

    `workers` are by the address of their pod. A pod no router knows has nothing to finish.
    """
    wanted = {
        text_at(pod, "metadata", "name"): (pod, _cost(workers.get(text_at(pod, "status", "podIP"))))
        for pod in pods
        if not text_at(pod, "metadata", "deletionTimestamp")
    }
    return {
        name: str(cost)
        for name, (pod, cost) in sorted(wanted.items())
        if text_at(pod, "metadata", "annotations", COST_ANNOTATION) != str(cost)
    }


def _cost(worker: WorkerSignals | None) -> int:
    """Requests decide; among equals, the KV they have gathered: moving them costs that much."""
    if worker is None:
        return 0
    requests = min(worker.requests_running + worker.requests_waiting, REQUESTS_MAX)
    used = worker.blocks_used / worker.block_count if worker.block_count > 0 else 0.0
    return requests * (KV_STEPS + 1) + round(min(used, 1.0) * KV_STEPS)
