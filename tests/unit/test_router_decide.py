"""Where a request goes, and why: round-robin over whoever is ready and fits."""

from dataclasses import replace

import pytest
from baton.router.decide import Decision, Fleet, Layout, Need, Reason, Role, WorkerView, decide

LAYOUT = Layout("rev", layers=2, kv_heads=1, head_size=8, block_size=16, dtype="float32")
NEED = Need(tokens=100)


def worker(address: str, role: Role = Role.DECODE, **changes: object) -> WorkerView:
    view = WorkerView(address, role, 1, True, "m", LAYOUT, context_length_max=128)
    return replace(view, **changes)  # type: ignore[arg-type]


def decided(fleet: Fleet, need: Need = NEED, turn: int = 0) -> Decision:
    decision = decide(fleet, need, turn)
    assert decision is not None
    return decision


def test_decode_workers_take_turns() -> None:
    fleet = Fleet((worker("a"), worker("b"), worker("c")))
    chosen = [decided(fleet, turn=turn).decode.address for turn in range(6)]
    assert chosen == ["a", "b", "c", "a", "b", "c"]


@pytest.mark.parametrize(
    ("fleet", "need"),
    [
        pytest.param(Fleet(), NEED, id="nobody"),
        pytest.param(Fleet((worker("a", ready=False),)), NEED, id="not-ready"),
        pytest.param(Fleet((worker("a", Role.PREFILL),)), NEED, id="only-prefill"),
        pytest.param(Fleet((worker("a"),)), Need(tokens=129), id="too-long"),
        pytest.param(
            Fleet((worker("a"),)), replace(NEED, avoid=frozenset({("a", 1)})), id="failed-before"
        ),
    ],
)
def test_no_worker_can_take_it(fleet: Fleet, need: Need) -> None:
    assert decide(fleet, need, 0) is None


def test_a_restarted_worker_is_another_one() -> None:
    need = replace(NEED, avoid=frozenset({("a", 1)}))
    assert decided(Fleet((worker("a", incarnation=2),)), need).decode.address == "a"


def test_the_longest_fit_is_found_among_smaller_workers() -> None:
    fleet = Fleet((worker("a", context_length_max=64), worker("b")))
    assert {decided(fleet, turn=turn).decode.address for turn in range(4)} == {"b"}


def test_ready_prefill_workers_of_the_same_layout_are_asked_in_turn() -> None:
    prefills = [worker(f"p{i}", Role.PREFILL) for i in range(4)]
    fleet = Fleet((worker("d"), *prefills, worker("q", Role.PREFILL, ready=False)))
    assert decided(fleet, turn=0).prefill_candidates == ("p0", "p1", "p2")
    assert decided(fleet, turn=3).prefill_candidates == ("p3", "p0", "p1")
    assert decided(fleet).reason is Reason.REMOTE


@pytest.mark.parametrize(
    ("prefills", "need", "reason"),
    [
        pytest.param((), NEED, Reason.NO_PREFILL, id="no-prefill"),
        pytest.param(
            (worker("p", Role.PREFILL, layout=replace(LAYOUT, dtype="bfloat16")),),
            NEED,
            Reason.LAYOUT,
            id="other-layout",
        ),
        pytest.param(
            (worker("p", Role.PREFILL),),
            replace(NEED, prompt_logprobs=True),
            Reason.PROMPT_LOGPROBS,
            id="prompt-logprobs",
        ),
    ],
)
def test_the_prompt_is_computed_on_decode_for_a_reason(
    prefills: tuple[WorkerView, ...], need: Need, reason: Reason
) -> None:
    decision = decided(Fleet((worker("d"), *prefills)), need)
    assert (decision.prefill_candidates, decision.reason) == ((), reason)
