"""What the router knows of its workers: prefixes, loads, work on its way, last words."""

from dataclasses import replace

from baton.engine.costmodel import Coefficients
from baton.engine.identity import block_ids, root_id
from baton.router.decide import Need, Reason
from baton.router.fleet import Heard, Role, WorkerLoad, WorkerState
from baton.router.picture import Picture, Prompt
from baton.router.pulse import Pulse
from baton.router.underway import SETTLE_S
from support.fake_fleet import LAYOUT, decode_worker, picture_of

A, B = decode_worker("a:1"), decode_worker("b:1")
P = replace(decode_worker("p:1"), role=Role.PREFILL)
TOKENS = tuple(range(100))
NEED = Need(tokens=200, prompt_tokens=len(TOKENS))
LEARNED = WorkerLoad(coefficients=Coefficients(fixed_s=0.01, prefill_token_s=0.001))


def ids(salt: bytes = b"") -> tuple[bytes, ...]:
    """Ids of the full blocks of TOKENS, as an engine computes them."""
    root = root_id(
        model_revision=LAYOUT.model_revision,
        dtype=LAYOUT.dtype,
        block_size=LAYOUT.block_size,
        cache_salt=salt,
    )
    return tuple(block_ids(root, TOKENS, LAYOUT.block_size))


def cached(picture: Picture, salt: bytes = b"") -> tuple[str, int]:
    decision = picture.decide(NEED, Prompt(TOKENS, salt), 0.0)
    assert decision is not None
    return decision.decode.address, decision.cached_tokens


def test_a_prompt_goes_where_its_blocks_are() -> None:
    picture = Picture()
    picture.hear(Heard(A, LEARNED), 0.0)
    picture.hear(Heard(B, LEARNED, blocks_added=ids()[:3]), 0.0)
    assert cached(picture) == ("b:1", 48)


def test_a_tenant_does_not_find_anothers_prefix() -> None:
    picture = Picture()
    picture.hear(Heard(B, LEARNED, blocks_added=ids(b"tenant")), 0.0)
    assert cached(picture) == ("b:1", 0)
    assert cached(picture, b"tenant") == ("b:1", 96)


def test_at_least_one_token_is_left_to_compute() -> None:
    picture = Picture()
    picture.hear(Heard(B, LEARNED, blocks_added=ids()), 0.0)
    decision = picture.decide(NEED, Prompt(TOKENS[:96]), 0.0)
    assert decision is not None
    assert decision.cached_tokens == 95


def test_deltas_add_and_remove_and_a_snapshot_begins_anew() -> None:
    picture = Picture()
    picture.hear(Heard(A, LEARNED, blocks_added=ids()[:4]), 0.0)
    delta = Heard(A, LEARNED, blocks_removed=ids()[2:4], snapshot=False)
    picture.hear(delta, 0.0)
    assert cached(picture) == ("a:1", 32)
    picture.hear(Heard(A, LEARNED, blocks_added=ids()[:1]), 0.0)
    assert cached(picture) == ("a:1", 16)


def test_load_alone_makes_no_new_fleet() -> None:
    picture = picture_of(A)
    fleet = picture.fleet
    assert not picture.hear(Heard(A, WorkerLoad(running=9), snapshot=False), 1.0)
    assert picture.fleet is fleet
    assert picture.reports()[0][1].load.running == 9
    assert picture.hear(Heard(replace(A, state=WorkerState.DRAINING)), 2.0)


def test_a_burst_is_spread_although_no_worker_has_reported_it_yet() -> None:
    picture = Picture()
    picture.hear(Heard(A, LEARNED), 0.0)
    picture.hear(Heard(B, LEARNED), 0.0)
    assert sorted(cached(picture)[0] for _ in range(6)) == ["a:1"] * 3 + ["b:1"] * 3


def test_a_report_speaks_for_what_was_sent_well_before_it() -> None:
    picture = Picture()
    picture.hear(Heard(A, LEARNED), 0.0)
    picture.hear(Heard(B, replace(LEARNED, waiting=1, prefill_tokens_waiting=50)), 0.0)
    assert cached(picture)[0] == "a:1"  # 100 tokens are on their way there now
    picture.hear(Heard(A, LEARNED, snapshot=False), SETTLE_S / 2)
    assert cached(picture)[0] == "b:1"  # too early to know of them
    picture.hear(Heard(A, LEARNED, snapshot=False), 2 * SETTLE_S)
    assert cached(picture)[0] == "a:1"


def test_prompts_on_their_way_to_prefill_count_there_until_it_is_saturated() -> None:
    picture = Picture()
    for view in (A, P):
        picture.hear(Heard(view, LEARNED), 0.0)
    reasons = []
    for _ in range(4):
        decision = picture.decide(NEED, Prompt(TOKENS), 0.0)
        assert decision is not None
        reasons.append(decision.reason)
    assert reasons[0] is Reason.REMOTE
    assert Reason.PREFILL_SATURATED in reasons


def test_a_worker_that_left_is_forgotten_but_for_its_last_words() -> None:
    picture = Picture()
    picture.hear(Heard(replace(A, state=WorkerState.DRAINING), blocks_added=ids()), 0.0)
    picture.hear(Heard(B), 0.0)
    assert picture.lose("a:1")
    assert not picture.lose("a:1")
    assert (picture.left_politely(A), picture.left_politely(B)) == (True, False)
    assert not picture.left_politely(replace(A, incarnation=2))
    assert cached(picture) == ("b:1", 0)


def test_a_pulse_is_lost_only_with_work_and_without_steps() -> None:
    pulse = Pulse()
    work = WorkerLoad(running=1, step=5)
    assert not pulse.frozen(work, 0.0)
    assert not pulse.frozen(work, 3.0)
    assert pulse.frozen(work, 3.1)
    assert not pulse.frozen(replace(work, step=6), 3.2)
    assert not pulse.frozen(replace(work, step=6, running=0), 99.0)
    assert not pulse.frozen(replace(work, step=6), 101.9)


def test_a_model_whose_steps_take_seconds_has_its_time() -> None:
    slow = WorkerLoad(running=1, step=5, coefficients=Coefficients(fixed_s=2.0))
    pulse = Pulse()
    assert not pulse.frozen(slow, 0.0)
    assert not pulse.frozen(slow, 7.9)
    assert pulse.frozen(slow, 8.1)
