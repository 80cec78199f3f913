"""Passes over a ModelService in an API server of our own: what exists and is said afterwards."""

import asyncio
from typing import Any

import pytest
from baton_operator.departure import COST_ANNOTATION
from baton_operator.kinds import Kind
from baton_operator.kube import ApiFailure
from baton_operator.reconcile import IDENTITY_S, TICK_S
from support.model_services import OWNER, model_service
from support.operator_bench import FIXED, KEY, SCALED, TO_ZERO, Bench, decode_worker, serving

KEYED: dict[str, Any] = {**FIXED, "router": {"apiKeys": {"secretName": "clients"}}}


def clients(data: dict[str, str]) -> dict[str, Any]:
    """Somebody's Secret of keys."""
    metadata = {"name": "clients", "namespace": OWNER.namespace}
    return {"kind": "Secret", "metadata": metadata, "data": data}


async def test_one_pass_makes_everything_and_the_next_writes_nothing() -> None:
    bench = Bench(**FIXED)
    assert await bench.run() == pytest.approx(IDENTITY_S)
    assert bench.kube.of(Kind.DEPLOYMENT).keys() == {
        *("smol-router", "smol-prefill", "smol-decode")
    }
    assert bench.kube.of(Kind.SECRET).keys() == {"smol-ca", "smol-tls"}
    bench.kube.writes.clear()
    await bench.run()
    bench.operator.notice(KEY)
    await bench.run()
    assert bench.kube.writes == []


async def test_pods_come_after_what_they_need() -> None:
    bench = Bench(**FIXED)
    await bench.run()
    order = [(kind, name) for _, kind, name in bench.kube.writes]
    pods = order.index(("Deployment", "smol-decode"))
    assert order.index(("Secret", "smol-tls")) < pods
    assert order.index(("ServiceAccount", "smol-decode")) < pods
    assert order.index(("RoleBinding", "smol-router")) < order.index(("Deployment", "smol-router"))


async def test_ready_is_told_once() -> None:
    bench = await serving(**FIXED)
    assert bench.condition("Ready") == ("True", "Ready")
    assert bench.status["observedGeneration"] == 1
    told = bench.events()
    assert told.count("ServiceReady") == 1
    await bench.tick(seconds=3_000.0)
    assert bench.events() == told


async def test_another_operator_that_takes_over_writes_nothing() -> None:
    bench = await serving(**FIXED)
    bench.kube.writes.clear()
    bench.operator = bench.new_operator()
    await bench.run()
    assert bench.kube.writes == []


async def test_a_spec_that_cannot_be_understood_keeps_what_is_there() -> None:
    bench = await serving(**FIXED)
    bench.kube.writes.clear()
    await bench.change(decode={"replicas": 2, "nobody": "knows"})
    await bench.run()
    assert bench.condition("Ready") == ("False", "InvalidSpec")
    assert [kind for verb, kind, _ in bench.kube.writes if verb != "create"] == ["ModelService"]


async def test_what_is_refused_is_told_and_does_not_keep_the_rest_from_being_done() -> None:
    bench = Bench(**FIXED)
    bench.kube.refused["Deployment", "smol-decode"] = "no such priority class"
    await bench.run()
    assert bench.condition("Ready") == ("False", "ApplyRefused")
    assert bench.kube.of(Kind.DEPLOYMENT).keys() == {"smol-router", "smol-prefill"}
    bench.kube.refused.clear()
    await bench.run()
    assert "smol-decode" in bench.kube.of(Kind.DEPLOYMENT)
    assert bench.condition("Ready")[1] != "ApplyRefused"


async def test_a_role_that_is_not_wanted_any_more_goes() -> None:
    bench = await serving(**FIXED)
    await bench.change(decode={"replicas": 2}, prefill=None)
    await bench.run()
    assert bench.kube.of(Kind.DEPLOYMENT).keys() == {"smol-router", "smol-decode"}
    assert "prefill" not in bench.status


@pytest.mark.parametrize("kind", ["Service", "Secret"])
async def test_an_object_of_somebody_else_is_left_alone_and_told(kind: str) -> None:
    name = "smol" if kind == "Service" else "smol-tls"
    bench = Bench(**FIXED)
    metadata = {"name": name, "namespace": OWNER.namespace}
    bench.kube.put({"kind": kind, "metadata": metadata, "spec": {"mine": True}})
    await bench.run()
    assert bench.condition("Ready") == ("False", "NameTaken")
    assert ("apply", kind, name) not in bench.kube.writes


async def test_while_the_api_server_is_away_passes_fail_and_the_first_after_it_finishes() -> None:
    bench = await serving(**FIXED)
    del bench.kube.objects[Kind.SERVICE, OWNER.namespace, "smol"]
    bench.operator.notice(KEY)
    bench.kube.away = True
    with pytest.raises(ApiFailure):
        await bench.run()
    bench.kube.away = False
    await bench.run()
    assert "smol" in bench.kube.of(Kind.SERVICE)


async def test_a_service_that_is_gone_is_forgotten_with_its_gauges() -> None:
    bench = await serving(prefill=TO_ZERO, decode=TO_ZERO)
    assert b'service="smol"' in bench.metrics.render()
    bench.kube.objects = {
        key: one for key, one in bench.kube.objects.items() if key[0] is not Kind.MODEL_SERVICE
    }
    bench.kube.writes.clear()
    bench.operator.notice(KEY)
    assert await bench.run() is None
    assert bench.kube.writes == []
    assert b'service="smol"' not in bench.metrics.render()


async def test_a_service_that_is_going_is_not_put_together_again() -> None:
    bench = await serving(**FIXED)
    resource = bench.kube.of(Kind.MODEL_SERVICE)["smol"]
    resource["metadata"]["deletionTimestamp"] = "2026-11-22T20:00:00Z"
    del bench.kube.objects[Kind.DEPLOYMENT, OWNER.namespace, "smol-decode"]
    bench.operator.notice(KEY)
    bench.kube.writes.clear()
    assert await bench.run() is None
    assert bench.kube.writes == []


async def test_between_changes_a_scaled_service_costs_the_api_server_nothing() -> None:
    bench = await serving(prefill=TO_ZERO, decode=TO_ZERO)
    bench.waiting = 1  # somebody asks: it stays up
    await bench.tick(seconds=30.0)
    bench.kube.writes.clear()
    bench.kube.away = True  # any call would fail the pass
    assert await bench.run() == TICK_S
    assert await bench.run() == TICK_S


@pytest.mark.parametrize("spec", [FIXED, {"prefill": SCALED, "decode": SCALED}])
@pytest.mark.parametrize("secret", ["smol-ca", "smol-tls"])
async def test_a_secret_that_is_lost_is_there_again_within_a_minute_or_so(
    secret: str, spec: dict[str, Any]
) -> None:
    """And pods trust what it holds, as after any rotation; nobody tells the operator of it."""
    bench = await serving(**spec)
    bench.kube.writes.clear()
    del bench.kube.objects[Kind.SECRET, OWNER.namespace, secret]
    await bench.tick(seconds=IDENTITY_S + TICK_S)
    assert secret in bench.kube.of(Kind.SECRET)
    assert {kind for _, kind, _ in bench.kube.writes} == {"Secret"}


async def test_a_secret_that_is_spoilt_is_mended_as_soon() -> None:
    bench = await serving(**FIXED)
    secret = bench.kube.of(Kind.SECRET)["smol-tls"]
    secret["data"]["tls.key"] = "bm9uc2Vuc2U="
    await bench.tick(seconds=IDENTITY_S + TICK_S)
    assert bench.kube.of(Kind.SECRET)["smol-tls"]["data"]["tls.key"] != "bm9uc2Vuc2U="


async def test_a_secret_that_somebody_else_took_is_told_as_soon() -> None:
    bench = await serving(**FIXED)
    secret = bench.kube.of(Kind.SECRET)["smol-tls"]
    secret["metadata"] |= {"ownerReferences": [], "labels": {}}
    await bench.tick(seconds=IDENTITY_S + TICK_S)
    assert bench.condition("Ready")[0] == "False"
    del bench.kube.objects[Kind.SECRET, OWNER.namespace, "smol-tls"]
    await bench.tick(seconds=IDENTITY_S + TICK_S)
    assert bench.condition("Ready") == ("True", "Ready")


async def test_keys_that_are_missing_are_the_routers_trouble_until_they_are_there() -> None:
    """The kubelet tells of a volume it cannot mount in Events alone."""
    bench = await serving(**KEYED)
    assert bench.condition("Ready") == ("False", "ContainerConfigInvalid")
    assert bench.condition("RouterReady") == ("False", "ContainerConfigInvalid")
    assert bench.condition("DecodeReady") == ("True", "AllReady")
    assert bench.condition("Stalled")[0] == "True"
    assert "there is no Secret clients: make it" in bench.message("RouterReady")
    for data, ready in (({}, "False"), ({"keys.json": "e30="}, "True"), ({}, "False")):
        bench.kube.put(clients(data))
        await bench.tick(seconds=IDENTITY_S + TICK_S)
        assert bench.condition("Ready")[0] == ready
    assert "has no entry keys.json: add it; 2 pods keep serving" in bench.message("RouterReady")


async def test_a_secret_of_keys_is_read_and_never_written() -> None:
    bench = Bench(**KEYED)
    bench.kube.put(clients({"keys.json": "e30="}))
    before = bench.kube.of(Kind.SECRET)["clients"]
    await bench.run()
    bench.all_ready()
    await bench.tick(seconds=3_000.0)
    assert bench.kube.of(Kind.SECRET)["clients"] == before
    assert "clients" not in [name for _, _, name in bench.kube.writes]
    assert bench.condition("Ready") == ("True", "Ready")


async def test_looking_at_secrets_costs_two_reads_a_minute_between_full_passes() -> None:
    bench = await serving(**FIXED)
    bench.kube.reads = bench.kube.lists = 0
    await bench.tick(seconds=9 * IDENTITY_S + 1)
    assert (bench.kube.reads, bench.kube.lists) == (2 * 9, 0)


async def test_both_roles_rest_after_the_idle_time_and_wake_with_a_request() -> None:
    bench = await serving(prefill=TO_ZERO, decode=TO_ZERO)
    await bench.tick(seconds=50.0)
    assert (bench.replicas("prefill"), bench.replicas("decode")) == (1, 1)
    await bench.tick(seconds=20.0)
    assert (bench.replicas("prefill"), bench.replicas("decode")) == (0, 0)
    bench.all_ready()
    await bench.run()
    assert bench.condition("DecodeReady") == ("True", "ScaledToZero")
    bench.waiting = 2
    bench.now_s += TICK_S
    await bench.run()
    assert (bench.replicas("prefill"), bench.replicas("decode")) == (1, 1)
    reasons = [(one["role"], one["reason"]) for one in bench.status["scalingHistory"]]
    assert sorted(reasons[:2]) == [("decode", "WaitingDemand"), ("prefill", "WaitingDemand")]
    assert sorted(reasons[2:]) == [("decode", "Idle"), ("prefill", "Idle")]
    assert bench.events().count("ScaledUp") == 2


async def test_without_signals_everything_stays_and_says_so() -> None:
    bench = await serving(prefill=TO_ZERO, decode=TO_ZERO)
    bench.silent = True
    await bench.tick(seconds=600.0)
    assert (bench.replicas("prefill"), bench.replicas("decode")) == (1, 1)
    assert bench.condition("ScalingActive") == ("False", "SignalsMissing")
    assert b'baton_operator_routers_silent{namespace="models",service="smol"} 1.0' in (
        bench.metrics.render()
    )


async def test_the_pod_with_the_least_to_finish_is_marked_before_replicas_are_lowered() -> None:
    bench = await serving(prefill={"replicas": 1}, decode=SCALED)
    bench.kube.of(Kind.DEPLOYMENT)["smol-decode"]["spec"]["replicas"] = 2
    bench.all_ready()
    busy, idle = (bench.add_pod("decode", host) for host in ("10.0.2.1", "10.0.2.2"))
    bench.workers = (decode_worker("10.0.2.1", 3), decode_worker("10.0.2.2", 0))
    await bench.tick(seconds=400.0)
    assert bench.replicas("decode") == 1
    marks = {
        name: int(bench.kube.of(Kind.POD)[name]["metadata"]["annotations"][COST_ANNOTATION])
        for name in (busy, idle)
    }
    assert marks[idle] < marks[busy]
    steps = [verb for verb, _, name in bench.kube.writes if name in (busy, idle, "smol-decode")]
    assert steps[-3:] == ["annotate", "annotate", "apply"]


async def test_a_change_that_failed_to_be_recorded_is_recorded_later_and_once() -> None:
    bench = await serving(prefill=TO_ZERO, decode=TO_ZERO)
    await bench.tick(seconds=61.0)
    refuse = bench.kube.apply_status

    async def fail(_: Any) -> Any:
        raise ApiFailure(0, "Unreachable", "just then")

    bench.now_s += 30.0
    bench.waiting = 1
    bench.kube.apply_status = fail  # type: ignore[method-assign]
    with pytest.raises(ApiFailure):
        await bench.run()
    assert bench.replicas("decode") == 1
    bench.kube.apply_status = refuse  # type: ignore[method-assign]
    await bench.run()
    await bench.run()
    woken = [one for one in bench.status["scalingHistory"] if one["reason"] == "WaitingDemand"]
    assert len(woken) == 2  # one of each role


async def test_news_during_a_pass_is_not_lost() -> None:
    bench = await serving(prefill=TO_ZERO, decode=TO_ZERO)
    bench.waiting = 1
    await bench.tick(seconds=TICK_S)
    reading = bench.kube.list
    bench.operator.notice(KEY)

    async def list_and_notice(*arguments: Any) -> Any:
        found = await reading(*arguments)
        if bench.reads == 0:
            bench.reads += 1
            bench.operator.notice(KEY)  # after the read, so that this pass cannot know
        return found

    bench.kube.list = list_and_notice  # type: ignore[method-assign]
    await bench.run()
    del bench.kube.objects[Kind.SERVICE, OWNER.namespace, "smol"]
    await bench.run()
    assert "smol" in bench.kube.of(Kind.SERVICE)


async def test_replicas_of_an_external_role_are_not_ours() -> None:
    bench = await serving(prefill=None, decode={"scaling": {"mode": "external"}})
    bench.kube.of(Kind.DEPLOYMENT)["smol-decode"]["spec"]["replicas"] = 7
    bench.operator.notice(KEY)
    await bench.run()
    assert bench.replicas("decode") == 7
    assert bench.condition("ScalingActive") == ("False", "ExternallyScaled")


async def test_services_are_reconciled_side_by_side() -> None:
    bench = await serving(**FIXED)
    other = model_service(**FIXED)
    other["metadata"] = {**other["metadata"], "name": "other", "uid": "uid-other"}
    bench.kube.put(other)
    await asyncio.gather(bench.operator(KEY), bench.operator((OWNER.namespace, "other")))
    assert {"smol-decode", "other-decode"} <= bench.kube.of(Kind.DEPLOYMENT).keys()
