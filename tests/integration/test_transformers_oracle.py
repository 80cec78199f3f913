"""The oracle's two ways to a greedy continuation: one pass over the tokens that were found says as
much as a pass for each of them."""

from pathlib import Path

import torch
from support.tiny_models import tiny_model
from support.transformers_oracle import Oracle

PROMPT = [(7 * i) % 250 + 3 for i in range(30)]
TOKENS = 8


def test_one_pass_over_the_greedy_tokens_says_these_tokens(tmp_path: Path) -> None:
    oracle = Oracle(tiny_model("llama3", tmp_path))
    step_by_step = oracle.greedy(PROMPT, TOKENS)
    at_once = oracle.following(PROMPT, step_by_step.tokens)
    assert at_once.tokens == step_by_step.tokens
    assert abs(at_once.margin - step_by_step.margin) < 1e-4
    torch.testing.assert_close(at_once.logprobs, step_by_step.logprobs, rtol=0, atol=1e-4)


def test_another_token_anywhere_is_not_what_it_says(tmp_path: Path) -> None:
    oracle = Oracle(tiny_model("llama3", tmp_path))
    greedy = oracle.greedy(PROMPT, TOKENS).tokens
    for place in (0, 3, TOKENS - 1):
        other = [*greedy[:place], greedy[place] + 1, *greedy[place + 1 :]]
        assert oracle.following(PROMPT, other).tokens != other
