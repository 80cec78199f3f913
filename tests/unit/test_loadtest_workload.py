"""Prompts and arrivals are a function of the seed."""

import pytest
from baton_loadtest.workload import TOKEN_ID_END, TOKEN_ID_MIN, arrivals_s, plan_requests


def test_same_seed_same_plan_other_seed_other_prompts() -> None:
    def plan(seed: int) -> object:
        return plan_requests(3, prompt_tokens=20, output_tokens=5, seed=seed, rate_per_s=2.0)

    assert plan(7) == plan(7)
    assert plan(7) != plan(8)


def test_prompts_have_the_length_ordered_and_ordinary_token_ids() -> None:
    plan = plan_requests(4, prompt_tokens=100, output_tokens=9, seed=1)
    assert [len(request.prompt) for request in plan] == [100] * 4
    assert {request.output_tokens for request in plan} == {9}
    ids = [token for request in plan for token in request.prompt]
    assert min(ids) >= TOKEN_ID_MIN
    assert max(ids) < TOKEN_ID_END
    assert len(set(ids)) > 300  # spread, not a handful of tokens


def test_no_two_prompts_share_a_first_block() -> None:
    plan = plan_requests(32, prompt_tokens=16, output_tokens=1, seed=0)
    assert len({request.prompt for request in plan}) == 32


def test_without_a_rate_all_start_at_once() -> None:
    assert list(arrivals_s(3, None, 0)) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("rate_per_s", [0.5, 20.0])
def test_arrivals_ascend_and_keep_the_rate_in_the_long_run(rate_per_s: float) -> None:
    times_s = list(arrivals_s(5_000, rate_per_s, seed=3))
    assert times_s[0] == 0.0
    assert times_s == sorted(times_s)
    assert times_s[-1] == pytest.approx(5_000 / rate_per_s, rel=0.05)
