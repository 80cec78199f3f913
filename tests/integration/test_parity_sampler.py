"""Penalties and filters equal transformers' LogitsProcessors where both mean the same."""

from typing import Any

import numpy as np
import pytest
import torch
from baton.engine.batch import SampleRequest
from baton.engine.filters import Row, edit_row, filter_row
from baton.engine.params import SamplingParams
from transformers.generation import logits_process

VOCAB = 400


def logits() -> torch.Tensor:
    return torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(2)) * 3


def processed(processor: Any, tokens: list[int]) -> torch.Tensor:
    found: torch.Tensor = processor(torch.tensor([tokens]), logits())
    return found[0]


def same(ours: Row, theirs: torch.Tensor) -> bool:
    return np.array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("penalty", [0.8, 1.3])
def test_repetition_penalty(penalty: float) -> None:
    prompt, output = [3, 7, 7, 200], [9, 3]
    row = logits()[0].numpy()
    params = SamplingParams(max_tokens=9, repetition_penalty=penalty)
    edit_row(row, SampleRequest(params, prompt, output, ()))
    theirs = logits_process.RepetitionPenaltyLogitsProcessor(penalty)
    assert same(row, processed(theirs, prompt + output))


def test_logit_bias() -> None:
    row = logits()[0].numpy()
    params = SamplingParams(max_tokens=9, logit_bias=((5, 2.5), (9, -100.0)))
    edit_row(row, SampleRequest(params, [], [], ()))
    theirs = logits_process.SequenceBiasLogitsProcessor([[[5], 2.5], [[9], -100.0]])
    assert same(row, processed(theirs, [1]))


def test_min_tokens() -> None:
    row = logits()[0].numpy()
    params = SamplingParams(max_tokens=9, min_tokens=4, stop_token_ids=(11,))
    edit_row(row, SampleRequest(params, [1, 2], [3, 4, 5], (12,)))
    theirs = logits_process.MinNewTokensLengthLogitsProcessor(2, 4, [11, 12])
    assert same(row, processed(theirs, [1, 2, 3, 4, 5]))


@pytest.mark.parametrize(
    ("fields", "processor"),
    [
        ({"temperature": 0.6}, logits_process.TemperatureLogitsWarper(0.6)),
        ({"top_k": 7}, logits_process.TopKLogitsWarper(7)),
        ({"top_p": 0.8}, logits_process.TopPLogitsWarper(0.8)),
        ({"min_p": 0.03}, logits_process.MinPLogitsWarper(0.03)),
    ],
    ids=["temperature", "top_k", "top_p", "min_p"],
)
def test_filters(fields: dict[str, float], processor: Any) -> None:
    params = SamplingParams(max_tokens=1, **fields)  # type: ignore[arg-type]
    ours = torch.from_numpy(filter_row(logits()[0].numpy(), params))
    assert torch.allclose(ours, processed(processor, [1]))
