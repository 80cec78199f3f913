"""A mixture of experts equals transformers' Qwen3MoeForCausalLM: logits, from a real directory.

transformers makes the tiny random model and saves it as it publishes such models: a tensor per
expert. Computed by torch: the C++ kernels know dense layers only.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from baton.common.errors import ModelFileError
from baton.engine.batch import BatchSlice, StepBatch
from baton.engine.kernels.selection import Kernels, choose_library
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import build_runner
from baton.model.card import read_config
from baton.model.config import Family
from baton.model.fetch import LocalModel

TOLERANCE = 1e-4
TOKENS = torch.randint(3, 90, (41,), generator=torch.Generator().manual_seed(6)).tolist()


def tiny(**changes: Any) -> Any:
    torch.manual_seed(0)
    make: Any = transformers.Qwen3MoeConfig
    config = make(
        vocab_size=97,
        hidden_size=48,
        intermediate_size=64,
        moe_intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=6,
        num_experts_per_tok=2,
        max_position_embeddings=256,
        initializer_range=0.3,  # so that routers choose, and logits differ
        **changes,
    )
    model: Any = transformers.Qwen3MoeForCausalLM(config)
    return model.eval()


def logprobs(model: LocalModel, quantization: Quantization, chunk: int) -> torch.Tensor:
    """[T - 1, vocab] through the runner, chunk by chunk."""
    runner = build_runner(
        model,
        read_config(model),
        quantization=quantization,
        block_count=16,
        block_size=8,
        threads=1,
    )
    rows = []
    for start in range(0, len(TOKENS), chunk):
        piece = BatchSlice(
            "a",
            TOKENS[start : start + chunk],
            start,
            range(8),
            prompt_logprobs=1_000,
            next_token_ids=TOKENS[start + 1 : start + chunk + 1],
        )
        (result,) = runner.run(StepBatch((piece,)))
        assert result.error is None
        for sample in result.prompt_logprobs:
            row = torch.full((97,), float("nan"))
            for entry in sample.top:
                row[entry.token_id] = entry.logprob
            rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("normed", "tied"), [(True, False), (False, True)], ids=["normed", "raw-tied"]
)
def test_every_logit_is_transformers(normed: bool, tied: bool, tmp_path: Path) -> None:
    oracle = tiny(norm_topk_prob=normed, tie_word_embeddings=tied)
    oracle.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = oracle(torch.tensor([TOKENS])).logits[0].log_softmax(-1)[:-1]
    model = LocalModel(tmp_path, "0")
    config = read_config(model)
    assert (config.family, config.experts, config.experts_per_token) == (Family.QWEN3_MOE, 6, 2)
    assert config.norm_topk_prob == normed
    for chunk in (len(TOKENS), 7):
        assert (logprobs(model, Quantization.NONE, chunk) - expected).abs().max() < TOLERANCE
    plausible = expected > -5
    near = logprobs(model, Quantization.BF16, 16)
    assert (near - expected)[plausible].abs().mean() < 0.1


def test_experts_are_left_to_torch() -> None:
    assert choose_library(Kernels.AUTO, Quantization.NONE, experts=6) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"decoder_sparse_step": 2}, "dense layers in between"),
        ({"mlp_only_layers": [1]}, "dense layers in between"),
        ({"num_experts_per_tok": 7}, "7 experts for each token, of 6"),
        ({"use_sliding_window": True, "sliding_window": 16}, "sliding window"),
    ],
)
def test_mixtures_that_are_not_built_here_are_refused(
    change: dict[str, object], reason: str, tmp_path: Path
) -> None:
    tiny().config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelFileError, match=reason):
        read_config(LocalModel(tmp_path, "0"))
