"""The status of a ModelService: conditions that keep their time, Events on transitions only."""

import json
from typing import Any

import pytest
from baton_operator.names import Role
from baton_operator.observe import RoleObservation, Trouble
from baton_operator.scaling import Decision, Reason
from baton_operator.status import Event, World, build_status, previous_status
from baton_operator.statusapi import HISTORY_MAX, MESSAGE_CHARS_MAX, ConditionStatus
from baton_operator.statusapi import ModelServiceStatus as Status
from baton_operator.writing import written
from support.model_services import OWNER, spec_of

T1, T2 = "2026-11-22T20:00:00Z", "2026-11-22T20:05:00Z"
WELL = RoleObservation(True, wanted=2, replicas=2, ready=2, updated=2, current=True)
BROKEN = RoleObservation(
    True, 2, 3, 2, 1, current=True, trouble=Trouble("ImagePullFailed", "no such image")
)
ALL_WELL = dict.fromkeys(Role, WELL)
HELD = Decision(Role.PREFILL, 2, 2, Reason.STEADY)


def world(roles: Any = None, **changes: Any) -> World:
    given = {"spec": spec_of(), "decisions": (HELD,), "generation": 4, **changes}
    return World(OWNER, roles=ALL_WELL if roles is None else roles, **given)


def first(told: World) -> tuple[Status, tuple[Event, ...]]:
    return build_status(told, Status(), T1)


def said(status: Status) -> dict[str, tuple[str, str]]:
    return {one.type: (one.status.value, one.reason) for one in status.conditions}


def test_every_condition_is_always_there() -> None:
    roles = ["RouterReady", "PrefillReady", "DecodeReady"]
    kinds = ["Ready", *roles, "ScalingActive", "Reconciling", "Stalled"]
    for told in (world(), world({}), world(spec=None, problems=("spec.model: is required",))):
        status, _ = first(told)
        assert [one.type for one in status.conditions] == kinds
        assert {one.observed_generation for one in status.conditions} == {4}
        assert status.observed_generation == 4


def test_all_is_well() -> None:
    status, events = first(world())
    assert said(status) == {
        "Ready": ("True", "Ready"),
        "RouterReady": ("True", "AllReady"),
        "PrefillReady": ("True", "AllReady"),
        "DecodeReady": ("True", "AllReady"),
        "ScalingActive": ("True", "Deciding"),
        "Reconciling": ("False", "Settled"),
        "Stalled": ("False", "Healthy"),
    }
    assert status.endpoint == "http://smol.models.svc:8000/v1"
    assert status.decode is not None
    assert (status.decode.ready_of_desired, status.decode.reason) == ("2/2", "AllReady")
    assert not [event for event in events if event.warning]


@pytest.mark.parametrize(
    ("seen", "status", "reason"),
    [
        (RoleObservation(), "False", "Pending"),
        (RoleObservation(True, 2, 0, 0, 0, current=False), "False", "Pending"),
        # Its pods serve on while the Deployment controller has not looked at a change yet.
        (RoleObservation(True, 2, 2, 2, 2, current=False), "True", "RollingOut"),
        (RoleObservation(True, 2, 2, 0, 2, current=True), "False", "Starting"),
        (RoleObservation(True, 2, 2, 1, 2, current=True), "True", "ScalingUp"),
        (RoleObservation(True, 2, 3, 2, 1, current=True), "True", "RollingOut"),
        (RoleObservation(True, 0, 0, 0, 0, current=True), "True", "ScaledToZero"),
        (BROKEN, "False", "ImagePullFailed"),
    ],
)
def test_a_role_says_how_far_it_is(seen: RoleObservation, status: str, reason: str) -> None:
    found, _ = first(world({**ALL_WELL, Role.DECODE: seen}))
    assert said(found)["DecodeReady"] == (status, reason)
    ready = ("True", "Ready") if status == "True" else ("False", reason)
    assert said(found)["Ready"] == ready


def test_a_spec_that_cannot_work_says_why_and_who_serves_meanwhile() -> None:
    status, events = first(world({**ALL_WELL, Role.DECODE: BROKEN}))
    messages = {one.type: one.message for one in status.conditions}
    assert messages["DecodeReady"] == "no such image; 2 pods keep serving"
    assert messages["Ready"] == "decode: no such image; 2 pods keep serving"
    assert (
        Event(True, "ImagePullFailed", "DecodeReady: no such image; 2 pods keep serving") in events
    )


def test_a_spec_that_cannot_be_understood_says_why() -> None:
    status, events = first(world(spec=None, problems=("spec.model: is required",)))
    assert said(status)["Ready"] == ("False", "InvalidSpec")
    assert said(status)["DecodeReady"] == ("Unknown", "InvalidSpec")
    assert events == (Event(True, "ServiceNotReady", "Ready: spec.model: is required"),)


def test_without_a_prefill_role_prefill_is_not_waited_for() -> None:
    spec = spec_of(prefill=None)
    roles = {Role.ROUTER: WELL, Role.DECODE: WELL}
    status, _ = first(world(roles, spec=spec, decisions=()))
    assert said(status)["PrefillReady"] == ("True", "NotWanted")
    assert said(status)["Ready"] == ("True", "Ready")
    assert status.prefill is None


def test_a_name_that_is_taken_is_told() -> None:
    status, _ = first(world(conflicts=("Service smol",)))
    assert said(status)["Ready"] == ("False", "NameTaken")
    (ready,) = [one for one in status.conditions if one.type == "Ready"]
    assert "Service smol" in ready.message


@pytest.mark.parametrize(
    ("told", "reconciling", "stalled"),
    [
        (world(), "Settled", "Healthy"),
        (world({}), "Pending", "Healthy"),
        (
            world({**ALL_WELL, Role.DECODE: RoleObservation(True, 2, 3, 2, 1, current=True)}),
            "RollingOut",
            "Healthy",
        ),
        (world({**ALL_WELL, Role.DECODE: BROKEN}), "Settled", "ImagePullFailed"),
        (world(conflicts=("Service smol",)), "Settled", "NameTaken"),
        (world(refusals=("Deployment smol-decode: no",)), "Settled", "ApplyRefused"),
        (world(spec=None, problems=("spec.model: is required",)), "InvalidSpec", "InvalidSpec"),
    ],
)
def test_kstatus_reads_whether_it_moves_or_is_stuck(
    told: World, reconciling: str, stalled: str
) -> None:
    status, _ = first(told)
    moving = "True" if reconciling in ("Pending", "RollingOut") else "False"
    assert said(status)["Reconciling"] == (moving, reconciling)
    stuck = "False" if stalled == "Healthy" else "True"
    assert said(status)["Stalled"] == (stuck, stalled)


def test_what_the_api_server_refuses_is_told() -> None:
    status, events = first(world(refusals=("Deployment smol-decode: no such field",)))
    assert said(status)["Ready"] == ("False", "ApplyRefused")
    assert (
        Event(
            True,
            "ServiceNotReady",
            "Ready: the API server refuses: Deployment smol-decode: no such field",
        )
        in events
    )


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"decisions": ()}, "Unknown", "Pending"),
        ({"spec": spec_of(prefill={"replicas": 1})}, "False", "FixedReplicas"),
        (
            {"spec": spec_of(prefill={"scaling": {"mode": "external"}})},
            "False",
            "ExternallyScaled",
        ),
        (
            {"decisions": (Decision(Role.PREFILL, 2, 2, Reason.SIGNALS_STALE),)},
            "False",
            "SignalsStale",
        ),
    ],
)
def test_scaling_says_who_decides_and_what_keeps_it(
    changes: dict[str, Any], status: str, reason: str
) -> None:
    found, _ = first(world(**changes))
    assert said(found)["ScalingActive"] == (status, reason)


def test_the_same_world_gives_the_same_status_and_no_events() -> None:
    for told in (world(), world({}), world({**ALL_WELL, Role.DECODE: BROKEN})):
        before, _ = first(told)
        after, events = build_status(told, before, T2)
        assert after == before
        assert events == ()


def test_a_transition_has_its_time_and_one_event_each() -> None:
    before, _ = first(world())
    after, events = build_status(world({**ALL_WELL, Role.DECODE: BROKEN}), before, T2)
    times = {one.type: one.last_transition_time for one in after.conditions}
    assert times == {
        "Ready": T2,
        "RouterReady": T1,
        "PrefillReady": T1,
        "DecodeReady": T2,
        "ScalingActive": T1,
        "Reconciling": T1,
        "Stalled": T2,
    }
    assert [event.reason for event in events] == ["ServiceNotReady", "ImagePullFailed"]


def test_another_reason_is_told_and_keeps_the_time() -> None:
    starting = RoleObservation(True, 2, 2, 0, 2, current=True)
    before, _ = first(world({**ALL_WELL, Role.DECODE: starting}))
    after, events = build_status(world({**ALL_WELL, Role.DECODE: BROKEN}), before, T2)
    (decode,) = [one for one in after.conditions if one.type == "DecodeReady"]
    assert (decode.status, decode.last_transition_time) == (ConditionStatus.FALSE, T1)
    assert [event.reason for event in events] == ["ImagePullFailed"]


def test_another_message_is_no_news() -> None:
    told = [
        world({**ALL_WELL, Role.DECODE: RoleObservation(True, 3, 3, n, 3, current=True)})
        for n in (1, 2)
    ]
    before, _ = first(told[0])
    after, events = build_status(told[1], before, T2)
    assert after != before
    assert events == ()


def test_decisions_that_change_something_are_kept_newest_first_and_told() -> None:
    status = Status()
    for count in range(1, HISTORY_MAX + 5):
        up = Decision(Role.PREFILL, count, count + 1, Reason.PROMPT_BACKLOG, {"needed": 2.0})
        status, events = build_status(world(decisions=(up,)), status, T1)
        assert events[-1] == Event(
            False, "ScaledUp", f"prefill {count} to {count + 1}: needed 2 (PromptBacklog)"
        )
    assert len(status.scaling_history) == HISTORY_MAX
    newest = status.scaling_history[0]
    assert (newest.previous, newest.desired) == (HISTORY_MAX + 4, HISTORY_MAX + 5)
    assert newest.reason == "PromptBacklog"
    down = Decision(Role.PREFILL, 2, 1, Reason.LOW_DEMAND)
    _, events = build_status(world(decisions=(down,)), status, T1)
    assert events[-1].reason == "ScaledDown"


def test_a_status_is_read_back_as_it_was_written() -> None:
    up = Decision(Role.PREFILL, 1, 2, Reason.PROMPT_BACKLOG, {"needed": 1.5})
    for told in (world(decisions=(up,)), world({}), world(spec=None, problems=("x",))):
        status, _ = first(told)
        resource = json.loads(json.dumps({"status": written(status)}))
        assert previous_status(resource) == status


@pytest.mark.parametrize("found", [{}, {"status": {}}, {"status": {"conditions": "of old"}}])
def test_without_a_status_that_can_be_read_nothing_is_known(found: Any) -> None:
    assert previous_status(found) == Status()


def test_messages_stay_within_what_the_crd_allows() -> None:
    wordy = RoleObservation(
        True, 2, 2, 1, 2, current=True, trouble=Trouble("Crashing", "x" * 9_000)
    )
    status, _ = first(world({**ALL_WELL, Role.DECODE: wordy}))
    assert max(len(one.message) for one in status.conditions) <= MESSAGE_CHARS_MAX
