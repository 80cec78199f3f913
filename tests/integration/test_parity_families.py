"""Logits and greedy output equal transformers', per family, from real files in both formats.

Tolerance: 1e-4 on log-probabilities (float32 sums in another order differ by some 1e-5 here).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from baton.engine.batch import BatchSlice, StepBatch
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import CpuRunner, build_runner
from baton.model.card import read_config
from baton.model.fetch import LocalModel
from support.runner_steps import Job, run_jobs, shuffled_tables
from support.tiny_models import TINY_MODELS, tiny_model

TOLERANCE = 1e-4
BLOCK_SIZE, BLOCK_COUNT = 8, 64
# The GGUF files leave out what the format cannot say for these architectures.
GGUF_VARIANTS = ("llama", "llama3", "qwen2", "qwen3")
FORMS = [(name, "hub") for name in TINY_MODELS] + [(name, "gguf") for name in GGUF_VARIANTS]

_random = torch.Generator().manual_seed(4)
PROMPTS = [torch.randint(3, 300, (n,), generator=_random).tolist() for n in (61, 9, 1, 30)]


class Oracle:
    """transformers on the same weights, remembering what it was asked."""

    def __init__(self, path: Path) -> None:
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, output_loading_info=True
        )
        self.model, info = loaded
        assert not any(info.values()), info  # every tensor of the file is where it belongs

    def logprobs(self, tokens: list[int]) -> torch.Tensor:
        """[T, vocab]: of the token after each one."""
        with torch.no_grad():
            logits: torch.Tensor = self.model(torch.tensor([tokens])).logits[0]
        return logits.log_softmax(-1)

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        out: torch.Tensor = self.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            do_sample=False,
            max_new_tokens=count,
            min_new_tokens=count,
            pad_token_id=0,
            eos_token_id=None,
        )
        tokens: list[int] = out[0, len(prompt) :].tolist()
        return tokens


@pytest.fixture(scope="module")
def oracles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[LocalModel, Oracle]]:
    made: dict[str, tuple[LocalModel, Oracle]] = {}

    def get(variant: str) -> tuple[LocalModel, Oracle]:
        if variant not in made:
            model = tiny_model(variant, tmp_path_factory.mktemp("hub"))
            made[variant] = (model, Oracle(model.path))
        return made[variant]

    return get


Oracles = Callable[[str], tuple[LocalModel, Oracle]]


def runner_of(model: LocalModel, quantization: Quantization = Quantization.NONE) -> CpuRunner:
    return build_runner(
        model,
        read_config(model),
        quantization=quantization,
        block_count=BLOCK_COUNT,
        block_size=BLOCK_SIZE,
        threads=1,
    )


def scored(runner: CpuRunner, tokens: list[int], table: list[int], chunk: int) -> torch.Tensor:
    """[T - 1, vocab] log-probabilities through the runner, chunk by chunk."""
    rows = []
    for start in range(0, len(tokens), chunk):
        piece = BatchSlice(
            "a",
            tokens[start : start + chunk],
            start,
            table,
            prompt_logprobs=10_000,
            next_token_ids=tokens[start + 1 : start + chunk + 1],
        )
        (result,) = runner.run(StepBatch((piece,)))
        assert result.error is None
        for sample in result.prompt_logprobs:
            ids = torch.tensor([entry.token_id for entry in sample.top])
            row = torch.full((len(ids),), float("nan"))
            row[ids] = torch.tensor([entry.logprob for entry in sample.top])
            rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize(("variant", "form"), FORMS, ids=lambda value: value)
def test_every_logit_is_transformers_whatever_the_chunks(
    variant: str, form: str, oracles: Oracles, tmp_path: Path
) -> None:
    model, oracle = oracles(variant)
    runner = runner_of(tiny_model(variant, tmp_path, gguf=True) if form == "gguf" else model)
    tokens = PROMPTS[0]
    expected = oracle.logprobs(tokens)[:-1]
    for seed, chunk in enumerate((len(tokens), BLOCK_SIZE, 7, 1)):
        (table,) = shuffled_tables(BLOCK_COUNT, BLOCK_SIZE, [len(tokens)], seed)
        found = scored(runner, tokens, table, chunk)
        assert (found - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize(("variant", "form"), FORMS, ids=lambda value: value)
def test_greedy_output_in_mixed_batches_is_transformers(
    variant: str, form: str, oracles: Oracles, tmp_path: Path
) -> None:
    model, oracle = oracles(variant)
    count = 24
    expected = [oracle.greedy(prompt, count) for prompt in PROMPTS]
    runner = runner_of(tiny_model(variant, tmp_path, gguf=True) if form == "gguf" else model)
    for chunk, stagger in ((10_000, 0), (BLOCK_SIZE, 3), (5, 1)):
        tables = shuffled_tables(BLOCK_COUNT, BLOCK_SIZE, [len(p) + count for p in PROMPTS], chunk)
        jobs = [
            Job(prompt, table, count, chunk, index * stagger)
            for index, (prompt, table) in enumerate(zip(PROMPTS, tables, strict=True))
        ]
        assert run_jobs(runner, jobs) == expected


@pytest.mark.parametrize("variant", ["llama3", "mistral", "qwen3"])
def test_a_directory_saved_by_transformers_is_read_as_well(
    variant: str, oracles: Oracles, tmp_path: Path
) -> None:
    _, oracle = oracles(variant)
    oracle.model.save_pretrained(tmp_path / "saved", max_shard_size="150KB")  # several files
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > 1
    runner = runner_of(LocalModel(tmp_path / "saved", "0"))
    (table,) = shuffled_tables(BLOCK_COUNT, BLOCK_SIZE, [61])
    found = scored(runner, PROMPTS[0], table, 1000)
    assert (found - oracle.logprobs(PROMPTS[0])[:-1]).abs().max() < TOLERANCE


@pytest.mark.parametrize("variant", ["llama3", "qwen3"])
@pytest.mark.parametrize(
    ("quantization", "tolerance"), [(Quantization.BF16, 0.1), (Quantization.INT8, 0.15)]
)
def test_the_rounded_schemes_stay_close(
    variant: str, quantization: Quantization, tolerance: float, oracles: Oracles
) -> None:
    """Mean error of the log-probabilities of plausible tokens."""
    model, oracle = oracles(variant)
    (table,) = shuffled_tables(BLOCK_COUNT, BLOCK_SIZE, [61])
    found = scored(runner_of(model, quantization), PROMPTS[0], table, 16)
    expected = oracle.logprobs(PROMPTS[0])[:-1]
    plausible = expected > -5
    assert (found - expected)[plausible].abs().mean() < tolerance
