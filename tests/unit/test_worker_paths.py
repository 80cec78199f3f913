"""Where decode has a prompt computed, and what it refuses before the engine sees it."""

import dataclasses

import pytest
from baton.common.errors import InvalidRequest
from baton.decode.path import PrefillPath, path_before_reserving, path_once_reserved
from baton.engine.params import SamplingParams
from baton.handoff.codec import PrefillOrder
from baton.worker.intake import require_computable

SOMEONE = ("prefill:1",)


@pytest.mark.parametrize(
    ("candidates", "prompt_logprobs", "tokens", "path"),
    [
        ((), False, 100, PrefillPath.NO_PREFILL),
        (SOMEONE, True, 100, PrefillPath.PROMPT_LOGPROBS),
        (SOMEONE, False, 16, PrefillPath.SHORT),
        (SOMEONE, False, 17, None),
    ],
)
def test_path_before_reserving(
    candidates: tuple[str, ...], prompt_logprobs: bool, tokens: int, path: PrefillPath | None
) -> None:
    found = path_before_reserving(
        candidates, prompt_logprobs=prompt_logprobs, tokens=tokens, block_size=16
    )
    assert found is path


@pytest.mark.parametrize(("held_blocks", "path"), [(0, None), (4, None), (5, PrefillPath.CACHED)])
def test_path_once_reserved(held_blocks: int, path: PrefillPath | None) -> None:
    assert path_once_reserved(tokens=96, held_blocks=held_blocks, block_size=16) is path


GOOD = PrefillOrder("r", (1, 2, 3), (), SamplingParams(max_tokens=4))


def with_params(params: SamplingParams) -> PrefillOrder:
    return dataclasses.replace(GOOD, params=params)


def test_a_good_order_is_let_through() -> None:
    require_computable(GOOD, vocab_size=4)


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (dataclasses.replace(GOOD, prompt=()), "prompt is empty"),
        (dataclasses.replace(GOOD, prompt=(4,)), "vocabulary size, 4"),
        (dataclasses.replace(GOOD, output=(9,)), "vocabulary size, 4"),
        (with_params(SamplingParams(4, stop_token_ids=(4,))), "vocabulary size, 4"),
        (with_params(SamplingParams(4, logit_bias=((7, 1.0),))), "vocabulary size, 4"),
        (with_params(SamplingParams(4, logprobs=65)), "at most 64 logprobs"),
        (with_params(SamplingParams(4, prompt_logprobs=65)), "at most 64 logprobs"),
        (dataclasses.replace(GOOD, request_id=""), "request id"),
        (dataclasses.replace(GOOD, request_id="x" * 257), "request id"),
        (dataclasses.replace(GOOD, cache_salt=b"short"), "cache salt"),
        (dataclasses.replace(GOOD, output=(1, 1, 1, 1)), "max_tokens is 4"),
    ],
)
def test_an_order_no_step_could_compute_is_refused(order: PrefillOrder, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        require_computable(order, vocab_size=4)


def test_every_problem_is_in_the_one_error() -> None:
    with pytest.raises(InvalidRequest, match=r"request id.*prompt is empty"):
        require_computable(dataclasses.replace(GOOD, request_id="", prompt=()), vocab_size=4)
