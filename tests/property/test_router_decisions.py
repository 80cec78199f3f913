"""Laws of the decision, whatever the fleet looks like."""

from dataclasses import replace
from random import Random

from baton.engine.costmodel import Coefficients
from baton.router.decide import (
    PREFILL_CANDIDATES_MAX,
    Candidate,
    Need,
    Reason,
    decide,
    eligible,
    score,
)
from baton.router.fleet import Layout, Role, WorkerLoad, WorkerState, WorkerView
from baton.router.prefix_index import PrefixIndex
from hypothesis import given
from hypothesis import strategies as st

LAYOUTS = [
    Layout(revision, layers=2, kv_heads=1, head_size=8, block_size=16, dtype="float32")
    for revision in ("one", "two")
]
costs = st.sampled_from([0.0, 1e-4, 1e-3, 0.05])
counts = st.integers(0, 200)
coefficients = st.builds(Coefficients, costs, costs, costs, costs, costs)
loads = st.builds(
    WorkerLoad,
    running=counts,
    waiting=counts,
    blocks_used=counts,
    prefill_tokens_waiting=st.integers(0, 5_000),
    coefficients=coefficients,
    transfer_bytes_per_s=st.sampled_from([(), (("w1:1", 1e4), ("w2:1", 1e9))]),
)


@st.composite
def fleets(draw: st.DrawFn) -> list[Candidate]:
    def candidate(number: int) -> Candidate:
        view = WorkerView(
            address=f"w{number}:1",
            role=draw(st.sampled_from(Role)),
            incarnation=1,
            state=draw(st.sampled_from([WorkerState.READY, *WorkerState])),
            model_name="m",
            layout=draw(st.sampled_from(LAYOUTS)),
            context_length_max=draw(st.sampled_from([100, 1_000])),
            block_count=draw(st.sampled_from([0, 50, 500])),
            frozen=draw(st.booleans()) and draw(st.booleans()),
        )
        return Candidate(view, draw(loads), draw(st.integers(0, 80)))

    return [candidate(number) for number in range(draw(st.integers(0, 6)))]


needs = st.builds(
    Need,
    tokens=st.sampled_from([90, 500]),
    prompt_tokens=st.integers(1, 90),
    prompt_logprobs=st.booleans(),
    avoid=st.sets(st.integers(0, 5).map(lambda n: (f"w{n}:1", 1)), max_size=3).map(frozenset),
    layout=st.sampled_from([None, *LAYOUTS]),
)
turns = st.integers(0, 20)


@given(fleets(), needs, turns)
def test_a_decision_names_workers_that_may_do_it(
    fleet: list[Candidate], need: Need, turn: int
) -> None:
    able = [c.view for c in fleet if c.view.role is Role.DECODE and eligible(c.view, need)]
    decision = decide(fleet, need, turn)
    assert (decision is None) == (not able)
    if decision is None:
        return
    assert decision.decode in able
    named = [c.view for c in fleet if c.view.address in decision.prefill_candidates]
    assert len(named) == len(set(decision.prefill_candidates)) <= PREFILL_CANDIDATES_MAX
    assert all(view.ready and view.role is Role.PREFILL for view in named)
    assert all(view.layout == decision.decode.layout for view in named)
    assert bool(named) == (decision.reason is Reason.REMOTE)


@given(fleets(), needs, turns, st.randoms())
def test_the_order_of_workers_changes_neither_scores_nor_the_decision(
    fleet: list[Candidate], need: Need, turn: int, random: Random
) -> None:
    shuffled = list(fleet)
    random.shuffle(shuffled)
    scores = {c.view.address: score(c, need) for c in fleet}
    assert all(0.0 <= value <= 1.0 for value in scores.values())
    assert {c.view.address: score(c, need) for c in shuffled} == scores
    one, other = decide(fleet, need, turn), decide(shuffled, need, turn)
    assert (one and one.decode) == (other and other.decode)
    assert (one and one.reason) == (other and other.reason)


@given(fleets(), needs, turns, loads, st.integers(0, 5))
def test_more_load_never_makes_a_decode_worker_preferred(
    fleet: list[Candidate], need: Need, turn: int, more: WorkerLoad, which: int
) -> None:
    before = decide(fleet, need, turn)
    if before is None or which >= len(fleet):
        return
    old = fleet[which]
    heavier = replace(
        old.load,
        running=old.load.running + more.running,
        waiting=old.load.waiting + more.waiting,
        blocks_used=old.load.blocks_used + more.blocks_used,
        prefill_tokens_waiting=old.load.prefill_tokens_waiting + more.prefill_tokens_waiting,
    )
    loaded = [*fleet[:which], replace(old, load=heavier), *fleet[which + 1 :]]
    after = decide(loaded, need, turn)
    assert after is not None
    if before.decode != old.view:
        assert after.decode != old.view


operations = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "forget"]),
        st.sampled_from(["a", "b", "c"]),
        st.sets(st.integers(0, 9)),
    ),
    max_size=30,
)


@given(operations, st.lists(st.integers(0, 9), unique=True))
def test_the_index_answers_as_plain_sets_would(
    told: list[tuple[str, str, set[int]]], prompt: list[int]
) -> None:
    index, truth = PrefixIndex(), dict[str, set[int]]()
    for kind, address, numbers in told:
        ids = [bytes([number]) for number in numbers]
        if kind == "add":
            index.add(address, ids)
            truth.setdefault(address, set()).update(numbers)
        elif kind == "remove":
            index.remove(address, ids)
            truth.setdefault(address, set()).difference_update(numbers)
        else:
            index.forget(address)
            truth.pop(address, None)
        index.audit()
    expected = {}
    for address, held in truth.items():
        count = next((i for i, n in enumerate(prompt) if n not in held), len(prompt))
        if count:
            expected[address] = count
    assert index.leading_blocks(bytes([number]) for number in prompt) == expected
