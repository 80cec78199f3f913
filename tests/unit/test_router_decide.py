"""Where a request goes, and why: who is able, who is cheapest, and whose turn it is."""

from dataclasses import replace

import pytest
from baton.engine.costmodel import Coefficients
from baton.router.decide import PROBE_TURNS, Candidate, Decision, Need, Reason, decide
from baton.router.fleet import Layout, Role, WorkerLoad, WorkerState, WorkerView

LAYOUT = Layout("rev", layers=2, kv_heads=1, head_size=8, block_size=16, dtype="float32")
NEED = Need(tokens=100, prompt_tokens=80)
LEARNED = Coefficients(fixed_s=0.01, prefill_token_s=0.001, decode_row_s=0.001)


def worker(address: str, role: Role = Role.DECODE, cached: int = 0, **changes: object) -> Candidate:
    view = WorkerView(address, role, 1, WorkerState.READY, "m", LAYOUT, context_length_max=128)
    return Candidate(replace(view, **changes), cached_tokens=cached)  # type: ignore[arg-type]


def busy(candidate: Candidate, **load: int) -> Candidate:
    """With a learned pace."""
    return replace(candidate, load=WorkerLoad(coefficients=LEARNED, **load))  # type: ignore[arg-type]


def decided(*fleet: Candidate, need: Need = NEED, turn: int = 0) -> Decision:
    decision = decide(fleet, need, turn)
    assert decision is not None
    return decision


def test_a_decision_says_when_the_first_token_is_expected_and_whether_that_will_do() -> None:
    waits = busy(worker("a"), prefill_tokens_waiting=1_000)
    decision = decided(waits)
    assert decision.first_token_s == pytest.approx(0.01 + 1.0 + 0.01 + 0.08, abs=0.011)
    assert decision.timely
    assert decided(waits, need=replace(NEED, within_s=decision.first_token_s)).timely
    assert not decided(waits, need=replace(NEED, within_s=decision.first_token_s - 0.001)).timely


def test_the_first_token_is_expected_from_where_the_prompt_is_computed() -> None:
    decode = busy(worker("d"), prefill_tokens_waiting=5_000)
    remote = decided(decode, busy(worker("p", Role.PREFILL)))
    assert remote.reason is Reason.REMOTE
    assert remote.first_token_s < 0.2 < decided(decode).first_token_s


def test_where_nothing_is_learned_only_what_is_late_already_is_not_timely() -> None:
    assert decided(worker("a"), need=replace(NEED, within_s=0.001)).timely
    assert not decided(worker("a"), need=replace(NEED, within_s=-0.001)).timely


def test_equal_decode_workers_take_turns() -> None:
    fleet = (worker("a"), worker("b"), worker("c"))
    chosen = [decided(*fleet, turn=turn).decode.address for turn in range(6)]
    assert chosen == ["a", "b", "c", "a", "b", "c"]


@pytest.mark.parametrize(
    ("fleet", "need"),
    [
        pytest.param((), NEED, id="nobody"),
        pytest.param((worker("a", state=WorkerState.STARTING),), NEED, id="starting"),
        pytest.param((worker("a", state=WorkerState.DRAINING),), NEED, id="draining"),
        pytest.param((worker("a", frozen=True),), NEED, id="frozen"),
        pytest.param((worker("a", Role.PREFILL),), NEED, id="only-prefill"),
        pytest.param((worker("a"),), Need(tokens=129), id="too-long"),
        pytest.param(
            (worker("a"),), replace(NEED, avoid=frozenset({("a", 1)})), id="failed-before"
        ),
        pytest.param(
            (worker("a"),),
            replace(NEED, layout=replace(LAYOUT, model_revision="other")),
            id="output-of-another-model",
        ),
    ],
)
def test_no_worker_can_take_it(fleet: tuple[Candidate, ...], need: Need) -> None:
    assert decide(fleet, need, 0) is None


def test_a_restarted_worker_is_another_one() -> None:
    need = replace(NEED, avoid=frozenset({("a", 1)}))
    assert decided(worker("a", incarnation=2), need=need).decode.address == "a"


def test_the_longest_fit_is_found_among_smaller_workers() -> None:
    fleet = (worker("a", context_length_max=64), worker("b"))
    assert {decided(*fleet, turn=turn).decode.address for turn in range(4)} == {"b"}


def test_of_workers_that_learned_nothing_the_one_with_fewest_requests_is_taken() -> None:
    fleet = (replace(worker("a"), load=WorkerLoad(running=2, waiting=1)), worker("b"))
    assert {decided(*fleet, turn=turn).decode.address for turn in range(4)} == {"b"}


def test_the_cached_prefix_attracts() -> None:
    fleet = (busy(worker("a")), busy(worker("b", cached=64)))
    decision = decided(*fleet)
    assert (decision.decode.address, decision.cached_tokens) == ("b", 64)


def test_a_wait_longer_than_the_prefill_it_saves_outweighs_the_cached_prefix() -> None:
    cached = worker("b", cached=64)  # saves 0.064 s
    assert decided(busy(worker("a")), busy(cached, prefill_tokens_waiting=50)).decode.address == "b"
    assert decided(busy(worker("a")), busy(cached, prefill_tokens_waiting=90)).decode.address == "a"


def test_a_worker_without_free_blocks_is_the_last_choice() -> None:
    full = busy(worker("a", cached=64, block_count=10), blocks_used=9)
    assert decided(full, busy(worker("b"), prefill_tokens_waiting=1_000)).decode.address == "b"
    assert decided(full).decode.address == "a"


def test_ready_prefill_workers_of_the_same_layout_are_asked_in_turn() -> None:
    prefills = [worker(f"p{i}", Role.PREFILL) for i in range(4)]
    fleet = (worker("d"), *prefills, worker("q", Role.PREFILL, state=WorkerState.STARTING))
    assert decided(*fleet, turn=0).prefill_candidates == ("p0", "p1", "p2")
    assert decided(*fleet, turn=3).prefill_candidates == ("p3", "p0", "p1")
    assert decided(*fleet).reason is Reason.REMOTE


def test_the_prefill_worker_that_delivers_first_is_asked_first() -> None:
    fleet = (
        busy(worker("d")),
        busy(worker("p", Role.PREFILL), prefill_tokens_waiting=60),
        busy(worker("q", Role.PREFILL)),
        busy(worker("r", Role.PREFILL, cached=48), prefill_tokens_waiting=20),
    )
    decision = decided(*fleet)
    assert (decision.prefill_candidates, decision.reason) == (("r", "q", "p"), Reason.REMOTE)


@pytest.mark.parametrize(
    ("decode", "prefills", "need", "reason"),
    [
        pytest.param(worker("d"), (), NEED, Reason.NO_PREFILL, id="no-prefill"),
        pytest.param(
            worker("d"),
            (worker("p", Role.PREFILL, layout=replace(LAYOUT, dtype="bfloat16")),),
            NEED,
            Reason.LAYOUT,
            id="other-layout",
        ),
        pytest.param(
            worker("d"),
            (worker("p", Role.PREFILL),),
            replace(NEED, prompt_logprobs=True),
            Reason.PROMPT_LOGPROBS,
            id="prompt-logprobs",
        ),
        pytest.param(
            worker("d"),
            (worker("p", Role.PREFILL),),
            Need(tokens=100, prompt_tokens=16),
            Reason.SHORT,
            id="a-block",
        ),
        pytest.param(
            worker("d", cached=64),
            (worker("p", Role.PREFILL),),
            NEED,
            Reason.CACHED,
            id="a-block-is-missing",
        ),
        pytest.param(
            busy(worker("d")),
            (busy(worker("p", Role.PREFILL), prefill_tokens_waiting=2_000),),
            NEED,
            Reason.PREFILL_SATURATED,
            id="long-queue-at-prefill",
        ),
        pytest.param(
            replace(
                worker("d"),
                load=WorkerLoad(coefficients=LEARNED, transfer_bytes_per_s=(("p", 1_000.0),)),
            ),
            (busy(worker("p", Role.PREFILL)),),
            NEED,
            Reason.LOCAL_FASTER,
            id="slow-network",
        ),
    ],
)
def test_the_prompt_is_computed_on_decode_for_a_reason(
    decode: Candidate, prefills: tuple[Candidate, ...], need: Need, reason: Reason
) -> None:
    decision = decided(decode, *prefills, need=need)
    assert (decision.prefill_candidates, decision.reason) == ((), reason)


def test_a_prefill_worker_that_looks_slow_is_asked_now_and_then() -> None:
    """Else nothing would ever correct what is known of it."""
    rate = (("p", 1_000.0),)
    decode = replace(worker("d"), load=WorkerLoad(coefficients=LEARNED, transfer_bytes_per_s=rate))
    fleet = (decode, busy(worker("p", Role.PREFILL)))
    found = [decide(fleet, NEED, turn) for turn in range(3 * PROBE_TURNS)]
    probes = [one for one in found if one is not None and one.reason is Reason.PROBE]
    assert [one.prefill_candidates for one in probes] == 3 * [("p",)]
    reasons = {one.reason for one in found if one is not None}
    assert reasons == {Reason.PROBE, Reason.LOCAL_FASTER}


@pytest.mark.parametrize("turn", range(PROBE_TURNS))
def test_on_shared_cores_no_wait_for_prefill_is_too_long(turn: int) -> None:
    rate = (("p", 1_000.0),)
    slow_way = WorkerLoad(coefficients=LEARNED, transfer_bytes_per_s=rate)
    queue = busy(worker("p", Role.PREFILL), prefill_tokens_waiting=1_000_000)
    for load in (slow_way, WorkerLoad(coefficients=LEARNED)):
        decision = decide((replace(worker("d"), load=load), queue), NEED, turn, cores_shared=True)
        assert decision is not None
        assert (decision.prefill_candidates, decision.reason) == (("p",), Reason.REMOTE)


def test_on_shared_cores_too_what_decode_has_cached_stays_there() -> None:
    fleet = (worker("d", cached=64), worker("p", Role.PREFILL))
    decision = decide(fleet, NEED, 0, cores_shared=True)
    assert decision is not None
    assert (decision.prefill_candidates, decision.reason) == ((), Reason.CACHED)


def test_the_more_a_local_prefill_would_hold_up_the_longer_the_wait_that_is_worth_it() -> None:
    queue = busy(worker("p", Role.PREFILL), prefill_tokens_waiting=300)
    assert decided(busy(worker("d")), queue).reason is Reason.PREFILL_SATURATED
    assert decided(busy(worker("d"), running=8), queue).reason is Reason.REMOTE
