"""What a Deployment and its pods show: numbers, and the one trouble a person should hear of."""

from typing import Any

import pytest
from baton_operator.observe import (
    MESSAGE_CHARS_MAX,
    RoleObservation,
    Trouble,
    observe_role,
    secret_trouble,
)


def deployment(*conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"generation": 3},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 3, "conditions": list(conditions), **status},
    }


def pod(*containers: Any, init: Any = (), name: str = "p", **metadata: Any) -> dict[str, Any]:
    status = {"containerStatuses": list(containers), "initContainerStatuses": list(init)}
    return {"metadata": {"name": name, **metadata}, "status": status}


def container(name: str, **state: Any) -> dict[str, Any]:
    return {"name": name, **state}


def waiting(reason: str, message: str = "why") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, message: str = "the last words", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason}}


BACK_OFF = waiting("CrashLoopBackOff")
CRASHED = container("decode", state=BACK_OFF, lastState=ended(1))


def trouble_of(*pods: dict[str, Any], **kwargs: Any) -> Trouble | None:
    return observe_role(deployment(**kwargs), pods).trouble


def test_without_a_deployment_there_is_nothing() -> None:
    assert observe_role(None, [pod(CRASHED)]) == RoleObservation()


def test_numbers_are_the_deployments() -> None:
    seen = observe_role(deployment(replicas=3, readyReplicas=2, updatedReplicas=1), [])
    assert seen == RoleObservation(True, 2, 3, 2, 1, current=True, trouble=None)


def test_a_status_about_an_older_spec_is_not_current() -> None:
    assert not observe_role(deployment(observedGeneration=2), []).current


UNSCHEDULABLE = {
    "metadata": {"name": "p"},
    "status": {
        "conditions": [
            {"type": "PodScheduled", "reason": "Unschedulable", "message": "0/2 nodes available"}
        ]
    },
}


@pytest.mark.parametrize(
    ("found", "trouble"),
    [
        (UNSCHEDULABLE, Trouble("Unschedulable", "0/2 nodes available")),
        (
            pod(container("decode", state=waiting("ImagePullBackOff", "no such image"))),
            Trouble("ImagePullFailed", "container decode: no such image"),
        ),
        (
            pod(container("decode", state=waiting("CreateContainerConfigError", "no secret"))),
            Trouble("ContainerConfigInvalid", "container decode: no secret"),
        ),
        (pod(CRASHED), Trouble("Crashing", "container decode: the last words (exit code 1)")),
        (
            pod(container("decode", state=ended(137, "", "OOMKilled"))),
            Trouble("OutOfMemory", "container decode: said nothing"),
        ),
        (
            pod(
                init=[
                    container("baton-weights", state=BACK_OFF, lastState=ended(1, "no such repo"))
                ]
            ),
            Trouble("WeightsFailed", "container baton-weights: no such repo"),
        ),
        (
            pod(init=[container("baton-draft-weights", state=ended(1, "no such repo"))]),
            Trouble("WeightsFailed", "container baton-draft-weights: no such repo"),
        ),
        (pod(container("decode", state=waiting("ContainerCreating"))), None),
        (pod(container("decode", state={"running": {"startedAt": "x"}})), None),
    ],
)
def test_each_trouble_has_a_word_and_what_was_said(
    found: dict[str, Any], trouble: Trouble | None
) -> None:
    assert trouble_of(found) == trouble


def test_a_secret_that_pods_mount_is_there_with_its_entry_or_is_trouble() -> None:
    for found, said in (
        (None, "there is no Secret clients: make it, with the entry keys.json"),
        ({"data": {"other": ""}}, "the Secret clients has no entry keys.json: add it"),
        ({"metadata": {}}, "the Secret clients has no entry keys.json: add it"),
    ):
        trouble = Trouble("ContainerConfigInvalid", said)
        assert secret_trouble("clients", "keys.json", found) == trouble
    assert secret_trouble("clients", "keys.json", {"data": {"keys.json": ""}}) is None


def test_a_container_that_runs_again_is_no_trouble() -> None:
    assert (
        trouble_of(pod(container("decode", state={"running": {"a": 1}}, lastState=ended(1))))
        is None
    )


def test_a_fetch_that_is_tried_again_has_failed_until_it_succeeds() -> None:
    """Else its condition would come and go with every attempt."""
    running = {"running": {"startedAt": "x"}}
    again = container("baton-weights", state=running, lastState=ended(1, "no such repo"))
    said = Trouble("WeightsFailed", "container baton-weights: no such repo")
    assert trouble_of(pod(init=[again])) == said
    assert trouble_of(pod(init=[container("baton-weights", state=running)])) is None
    done = container("baton-weights", state=ended(0), lastState=ended(1, "no such repo"))
    assert trouble_of(pod(init=[done])) is None


def test_a_container_that_ended_well_is_no_trouble() -> None:
    assert trouble_of(pod(init=[container("baton-weights", state=ended(0))])) is None


def test_a_pod_that_is_going_is_no_trouble() -> None:
    assert trouble_of(pod(CRASHED, deletionTimestamp="2026-01-01T00:00:00Z")) is None


def test_the_same_pod_is_told_of_whatever_the_order() -> None:
    pods = [pod(CRASHED, name="b"), {**UNSCHEDULABLE, "metadata": {"name": "a"}}]
    first, second = trouble_of(*pods), trouble_of(*reversed(pods))
    assert first == second == Trouble("Unschedulable", "0/2 nodes available")


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ({"type": "ReplicaFailure", "status": "True", "message": "quota"}, "PodsRefused"),
        ({"type": "Progressing", "status": "False", "message": "quota"}, "RolloutStalled"),
    ],
)
def test_a_deployment_without_pods_tells_why(condition: dict[str, str], reason: str) -> None:
    assert observe_role(deployment(condition), []).trouble == Trouble(reason, "quota")


def test_long_messages_keep_their_end() -> None:
    long = pod(container("decode", state=ended(1, "x" * 10_000 + " the point")))
    trouble = trouble_of(long)
    assert trouble is not None
    assert "the point" in trouble.message
    assert len(trouble.message) < MESSAGE_CHARS_MAX + 50
