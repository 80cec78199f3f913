"""Whatever routers say, and in whatever order: the sum is sound, and no worker counts twice."""

import math
from typing import Any

from baton.common.signals import Lately, RouterSignals, Traffic, WorkerSignals
from baton_operator.signals import Heard, add_up, distinct_workers
from hypothesis import given
from hypothesis import strategies as st
from support.router_signals import SUMS

counts = st.integers(0, 10**6)
latelies = st.builds(Lately, **dict.fromkeys(Lately.__struct_fields__, counts))
seconds = st.floats(0, 10, allow_nan=False)


@st.composite
def traffic(draw: Any) -> Traffic:
    drawn = {name: draw(counts) for name in SUMS}
    drawn["ttft_attained"] = min(drawn["ttft_attained"], drawn["ttft_requests"])
    drawn["itl_attained"] = min(drawn["itl_attained"], drawn["itl_requests"])
    return Traffic(**drawn, window_s=draw(st.floats(0, 60)), lately=draw(st.none() | latelies))


@st.composite
def workers(draw: Any) -> WorkerSignals:
    return WorkerSignals(
        address=f"10.0.0.{draw(st.integers(1, 4))}:7000",
        role=draw(st.sampled_from(["prefill", "decode"])),
        incarnation=draw(counts),
        state=draw(st.sampled_from(["starting", "ready", "draining"])),
        age_s=draw(st.floats(0, 60) | st.just(math.inf)),
        requests_running=draw(counts),
        requests_waiting=draw(counts),
        blocks_used=draw(counts),
        block_count=draw(counts),
        block_size=draw(st.integers(1, 64)),
        prefill_tokens_waiting=draw(counts),
        **{
            name: draw(seconds)
            for name in (
                *("fixed_s", "prefill_token_s", "prefill_kv_token_s"),
                *("decode_row_s", "kv_token_s"),
            )
        },
    )


@st.composite
def answers(draw: Any) -> Heard:
    told = RouterSignals(
        model_name="m",
        incarnation=draw(counts),
        traffic=draw(traffic()),
        workers=tuple(draw(st.lists(workers(), max_size=4))),
    )
    return Heard(told, draw(st.floats(0, 1_000)))


@given(st.lists(answers(), min_size=1, max_size=4), st.randoms())
def test_the_sum_is_sound_and_has_no_order(heard: list[Heard], random: Any) -> None:
    signals = add_up(heard, expected=len(heard))
    assert signals is not None
    assert signals.prefill is not None
    assert signals.prefill.sound
    assert signals.decode is not None
    assert signals.decode.sound
    for attained in (signals.ttft, signals.itl):
        assert attained is None or 0 <= attained.share <= 1
    addresses = [one.address for one in distinct_workers(heard)]
    assert len(addresses) == len(set(addresses))
    shuffled = list(heard)
    random.shuffle(shuffled)
    again = add_up(shuffled, expected=len(heard))
    assert again is not None
    assert again.requests_running == signals.requests_running
    assert again.taken_s == signals.taken_s
    assert again.decode is not None
    assert again.ttft == signals.ttft
