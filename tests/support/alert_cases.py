"""For every alert a world in which it fires and worlds in which it must not: series as promtool
writes them.

Knows metric names; knows no expression and no threshold but by what happens.
"""

from collections.abc import Mapping
from dataclasses import dataclass

OF = 'namespace="shop",service="chat"'
Series = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    alert: str
    world: str  # in words
    minute: int  # at which the alert is looked at
    fires: bool
    series: Series
    step_minutes: int = 1  # between two values, and between two looks at the rules


def _ended(*, good: str, bad: str) -> Series:
    name = "vllm:request_success_total"
    return {
        f'{name}{{{OF},finished_reason="stop"}}': good,
        f'{name}{{{OF},finished_reason="error"}}': bad,
        f'{name}{{{OF},finished_reason="abort"}}': "0+600x500",
    }


def _judged(slo: str, *, kept: str, missed: str) -> Series:
    name = "baton_router_slo_requests_total"
    return {
        f'{name}{{{OF},slo="{slo}",attained="true"}}': kept,
        f'{name}{{{OF},slo="{slo}",attained="false"}}': missed,
    }


def _budgets() -> list[Case]:
    fast, slow = "BatonErrorBudgetBurnFast", "BatonErrorBudgetBurnSlow"
    cases = [
        Case(fast, "one in ten fails", 75, True, _ended(good="0+90x80", bad="0+10x80")),
        Case(fast, "one in a thousand fails", 75, False, _ended(good="0+999x80", bad="0+1x80")),
        Case(
            fast,
            "all failed, and it is over since ten minutes",
            75,
            False,
            _ended(good="0x65 100+100x15", bad="0+10x65 650x15"),
        ),
        Case(fast, "nobody asks", 75, False, _ended(good="5x80", bad="0x80")),
        Case(slow, "one in a hundred fails", 400, True, _ended(good="0+99x82", bad="0+1x82"), 5),
        Case(slow, "one in 500 fails", 400, False, _ended(good="0+499x82", bad="0+1x82"), 5),
    ]
    for name in ("ttft", "itl"):
        fast, slow = (f"Baton{name.capitalize()}BudgetBurn{pace}" for pace in ("Fast", "Slow"))
        bad = _judged(name, kept="0+20x80", missed="0+80x80")
        fine = _judged(name, kept="0+96x82", missed="0+4x82")
        half = _judged(name, kept="0+50x82", missed="0+50x82")
        other = _judged("itl" if name == "ttft" else "ttft", kept="0x82", missed="0+100x82")
        cases += [
            Case(fast, "four of five miss", 75, True, bad),
            Case(fast, "half miss: slow, not fast", 75, False, half),
            Case(fast, "the other target is missed", 75, False, other),
            Case(slow, "half miss", 400, True, half, 5),
            Case(slow, "four percent miss, as promised", 400, False, fine, 5),
        ]
    return cases


def _fleet(role: str, *, ready: str, wanted: str | None) -> Series:
    seen = {
        f'baton_router_workers_ready{{{OF},role="{role}",pod="{pod}"}}': ready
        for pod in ("router-1", "router-2")
    }
    if wanted is None:
        return seen
    return {**seen, f'baton_operator_replicas{{{OF},role="{role}",kind="desired"}}': wanted}


def _workers() -> list[Case]:
    none, restarts = "BatonNoDecodeWorker", "BatonWorkersRestart"
    no_prefill = "BatonNoPrefillWorker"
    started = f'process_start_time_seconds{{{OF},role="decode",pod="chat-decode-1"}}'
    held = f'baton_router_requests_held{{{OF},pod="router-1"}}'
    return [
        Case(none, "both are gone", 5, True, _fleet("decode", ready="1 1 0x8", wanted="1x9")),
        Case(none, "and no operator", 5, True, _fleet("decode", ready="1 1 0x8", wanted=None)),
        Case(none, "scaled to zero", 5, False, _fleet("decode", ready="0x9", wanted="0x9")),
        Case(none, "one is there", 5, False, _fleet("decode", ready="1x9", wanted="2x9")),
        Case(no_prefill, "gone", 15, True, _fleet("prefill", ready="1 0x18", wanted="1x19")),
        Case(no_prefill, "none wanted", 15, False, _fleet("prefill", ready="0x19", wanted="0x19")),
        Case(no_prefill, "has no prefill", 15, False, _fleet("prefill", ready="0x19", wanted=None)),
        Case(restarts, "it starts again and again", 15, True, {started: "1 2 3 4x15"}),
        Case(restarts, "a rolling upgrade", 15, False, {started: "1x7 9x10"}),
        Case("BatonRequestsHeld", "for ten minutes", 10, True, {held: "3x12"}),
        Case("BatonRequestsHeld", "while a pod starts", 10, False, {held: "0 0 0 0 3 3 3 0x5"}),
    ]


def _refusals(*, refused: str) -> Series:
    asked = f'baton_router_requests_total{{{OF},endpoint="/v1/chat/completions",status="200"}}'
    return {
        f'vllm:admission_rejections_total{{{OF},reason="requests"}}': refused,
        asked: "0+100x40",
    }


def _limits() -> list[Case]:
    refused, full, preempted = "BatonRequestsRefused", "BatonKvCacheFull", "BatonPreemptions"
    used_1, used_2 = (
        f'vllm:kv_cache_usage_perc{{{OF},role="decode",pod="{pod}"}}' for pod in ("d1", "d2")
    )
    waits = f'vllm:num_requests_waiting{{{OF},role="decode",pod="d1"}}'
    lost = f'vllm:num_preemptions_total{{{OF},role="decode",pod="d1"}}'
    expires = f'baton_tls_certificate_expiry_timestamp_seconds{{{OF},pod="d1"}}'
    return [
        Case(refused, "one in ten", 30, True, _refusals(refused="0+10x40")),
        Case(refused, "one in a hundred", 30, False, _refusals(refused="0+1x40")),
        Case(full, "room comes and goes", 20, True, {used_1: "1 0.8 0.9 0.7 1x26", waits: "9x30"}),
        Case(full, "nobody waits", 20, False, {used_1: "0.99x30", waits: "0x30"}),
        Case(
            full,
            "one of two workers",
            20,
            False,
            {used_1: "0.99x30", used_2: "0.4x30", waits: "9x30"},
        ),
        Case(preempted, "twelve a minute", 30, True, {lost: "0+12x40"}),
        Case(preempted, "one a minute", 30, False, {lost: "0+1x40"}),
        # The clock of promtool begins at 0.
        Case("BatonCertificateExpires", "in a day", 90, True, {expires: "90000x100"}),
        Case("BatonCertificateExpires", "in a month", 90, False, {expires: "2592000x100"}),
    ]


def _handoffs(*, failed: str) -> Series:
    name = "baton_handoff_total"
    return {
        f'{name}{{{OF},pod="d1",outcome="complete"}}': "0+100x40",
        f'{name}{{{OF},pod="d1",outcome="stalled"}}': failed,
        f'{name}{{{OF},pod="d1",outcome="cancelled"}}': "0+50x40",
    }


def _control() -> list[Case]:
    model = f'baton_cost_model_error_ratio{{{OF},pod="d1"}}'
    leads = 'leader_election_master_status{namespace="baton",pod="operator-1",name="baton"}'
    stands_by = 'leader_election_master_status{namespace="baton",pod="operator-2",name="baton"}'
    errors = 'controller_runtime_reconcile_errors_total{controller="modelservice"}'
    fails, wrong = "BatonHandoffsFail", "BatonCostModelWrong"
    top, hold = "BatonScalingAtMaximum", "BatonScalingHeld"
    not_ready, is_ready = "BatonServiceNotReady", f"baton_operator_service_ready{{{OF}}}"
    silent = f"baton_operator_routers_silent{{{OF}}}"
    return [
        Case(fails, "one in ten", 30, True, _handoffs(failed="0+10x40")),
        Case(fails, "clients hang up", 30, False, _handoffs(failed="0x40")),
        Case(wrong, "off by 80 percent", 45, True, {model: "0.8x50"}),
        Case(wrong, "so busy that scrapes fail", 45, True, {model: "0.8 stale " * 25}),
        Case(wrong, "off by 10 percent", 45, False, {model: "0.1x50"}),
        Case(top, "all the time", 40, True, _decided(AtMaximum="0+6x50", Steady="9x50")),
        Case(top, "for a moment", 40, False, _decided(AtMaximum="0x30 6 12x40", Steady="0+6x50")),
        Case(hold, "one router of two", 40, True, {silent: "1x50"}),
        Case(hold, "while a router starts", 40, False, {silent: "0x35 1x2 0x20"}),
        Case(not_ready, "it cannot start", 40, True, {is_ready: "0x50"}),
        Case(not_ready, "it starts", 10, False, {is_ready: "0 0 0 1x20"}),
        Case("BatonOperatorNotLeading", "two wait", 9, True, {leads: "0x12", stands_by: "0x12"}),
        Case("BatonOperatorNotLeading", "there is none", 9, True, {"up": "1x12"}),
        Case("BatonOperatorNotLeading", "one leads", 9, False, {leads: "1x12", stands_by: "0x12"}),
        Case("BatonReconcileErrors", "again and again", 40, True, {errors: "0+1x50"}),
        Case("BatonReconcileErrors", "once, long ago", 40, False, {errors: "0 3x50"}),
    ]


def _decided(**reasons: str) -> Series:
    return {
        f'baton_operator_scaling_decisions_total{{role="decode",reason="{reason}"}}': values
        for reason, values in reasons.items()
    }


def alert_cases() -> list[Case]:
    return [*_budgets(), *_workers(), *_limits(), *_control()]
