"""A mixture of experts out of a GGUF file equals transformers' of the same file, and our own of the
weights that transformers found there, saved as safetensors: whatever format the experts are in.

transformers reads no `expert_feed_forward_length` and takes Qwen3MoeConfig's 768, so these have
that.
"""

from pathlib import Path

import pytest
import torch
from baton.engine.batch import BatchSlice, StepBatch
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import build_runner
from baton.model.card import read_config
from baton.model.config import Family
from baton.model.fetch import LocalModel
from baton.model.ggml import GgmlType
from support.tiny_moe import tiny_moe
from support.tiny_tokenizer import VOCAB_SIZE
from support.transformers_oracle import Oracle

TOLERANCE = 1e-4
TOKENS = torch.randint(3, 300, (37,), generator=torch.Generator().manual_seed(6)).tolist()


def logprobs(model: LocalModel, quantization: Quantization, chunk: int) -> torch.Tensor:
    """[T - 1, vocab] through the runner, chunk by chunk."""
    config = read_config(model)
    runner = build_runner(
        model, config, quantization=quantization, block_count=8, block_size=8, threads=1
    )
    rows = torch.full((len(TOKENS) - 1, VOCAB_SIZE), float("nan"))
    for start in range(0, len(TOKENS), chunk):
        piece = BatchSlice(
            "a",
            TOKENS[start : start + chunk],
            start,
            range(8),
            prompt_logprobs=VOCAB_SIZE,
            next_token_ids=TOKENS[start + 1 : start + chunk + 1],
        )
        (result,) = runner.run(StepBatch((piece,)))
        for row, sample in enumerate(result.prompt_logprobs, start):
            for entry in sample.top:
                rows[row, entry.token_id] = entry.logprob
    return rows


@pytest.mark.parametrize(
    ("gate_up", "down"),
    [
        (GgmlType.F32, GgmlType.F32),
        (GgmlType.Q8_0, GgmlType.Q8_0),
        (GgmlType.Q4_K, GgmlType.Q6_K),  # as Q4_K_M files mix them
    ],
    ids=["f32", "q8_0", "q4_k_m"],
)
def test_every_logit_is_transformers(gate_up: GgmlType, down: GgmlType, tmp_path: Path) -> None:
    model = tiny_moe(
        tmp_path / "m.gguf", gate_up=gate_up, down=down, hidden=256, inner=768, head_size=64
    )
    config = read_config(model)
    assert (config.family, config.experts, config.experts_per_token) == (Family.QWEN3_MOE, 4, 2)
    assert (config.expert_intermediate_size, config.norm_topk_prob) == (768, True)
    oracle = Oracle(model)
    expected = oracle.logits(TOKENS).log_softmax(-1)[:-1]
    found = logprobs(model, Quantization.NONE, 16)
    assert (found - expected).abs().max() < TOLERANCE
    oracle.save(tmp_path / "saved")
    saved = LocalModel(tmp_path / "saved", "0")
    assert torch.equal(logprobs(saved, Quantization.NONE, 16), found)
