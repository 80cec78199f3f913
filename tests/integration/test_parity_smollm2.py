"""SmolLM2 from its GGUF file: greedy text equals transformers', token by token.

transformers reads the same file through the `gguf` package's own dequantization. One answer is
compared with `generate`; of longer texts, one forward pass must find each token of ours the best.
"""

from typing import Any

import pytest
import torch
import transformers
from baton.engine.quant.quantization import Quantization
from baton.engine.runner import CpuRunner, build_runner
from baton.model.card import read_config
from support.runner_steps import Job, everything_scored, run_jobs, shuffled_tables
from support.smollm2 import smollm2_model

pytestmark = pytest.mark.smollm2

TOKENS = 64
BLOCK_SIZE, BLOCK_COUNT = 16, 96
VOCAB = 49_152
QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
PROMPTS = [
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n    ",
    "The three states of matter are",
]
LOGPROB_TOLERANCE = 2e-3  # float32, whose sums run in another order
# Mean error of the log-probabilities of plausible tokens (above -5); measured 0.03 and 0.11 over a
# longer text.
BF16_TOLERANCE, INT8_TOLERANCE = 0.1, 0.25


class Oracle:
    def __init__(self) -> None:
        path = smollm2_model().path
        load = {"gguf_file": path.name}
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path.parent, **load)
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, dtype=torch.float32, **load
        )
        chat = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": QUESTION}], add_generation_prompt=True, tokenize=False
        )
        texts = [chat, *PROMPTS]
        self.prompts: list[list[int]] = [self.tokenizer(text)["input_ids"] for text in texts]

    def logprobs(self, tokens: list[int]) -> torch.Tensor:
        """[T, vocab]: of the token after each one."""
        with torch.no_grad():
            logits: torch.Tensor = self.model(torch.tensor([tokens])).logits[0]
        return logits.log_softmax(-1)

    def generate(self, prompt: list[int], count: int) -> list[int]:
        with torch.no_grad():
            out: torch.Tensor = self.model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                do_sample=False,
                max_new_tokens=count,
                pad_token_id=0,
            )
        tokens: list[int] = out[0, len(prompt) :].tolist()
        return tokens


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture(scope="module")
def exact_runner() -> CpuRunner:
    return make_runner(Quantization.NONE)


def make_runner(quantization: Quantization) -> CpuRunner:
    model = smollm2_model()
    return build_runner(
        model,
        read_config(model),
        quantization=quantization,
        block_count=BLOCK_COUNT,
        block_size=BLOCK_SIZE,
        threads=1,
    )


def jobs_of(prompts: list[list[int]], chunk: int, tokens: int) -> list[Job]:
    tables = shuffled_tables(BLOCK_COUNT, BLOCK_SIZE, [len(p) + tokens for p in prompts])
    return [
        Job(prompt, table, tokens, chunk, first_step=2 * index)
        for index, (prompt, table) in enumerate(zip(prompts, tables, strict=True))
    ]


def next_logprobs(runner: CpuRunner, prompt: list[int]) -> torch.Tensor:
    """[vocab], of the token after the prompt."""
    (job,) = jobs_of([prompt], chunk=10_000, tokens=1)
    job.params = everything_scored(VOCAB)
    run_jobs(runner, [job])
    row = torch.full((VOCAB,), float("nan"))
    for entry in job.samples[0].top:
        row[entry.token_id] = entry.logprob
    return row


def test_the_answer_to_the_question_is_paris(oracle: Oracle, exact_runner: CpuRunner) -> None:
    expected = oracle.generate(oracle.prompts[0], 12)
    (answer,) = run_jobs(exact_runner, jobs_of(oracle.prompts[:1], 10_000, len(expected)))
    assert answer == expected
    assert oracle.tokenizer.decode(answer, skip_special_tokens=True) == ANSWER


def test_greedy_texts_in_a_mixed_batch_are_those_of_transformers(
    oracle: Oracle, exact_runner: CpuRunner
) -> None:
    outputs = run_jobs(exact_runner, jobs_of(oracle.prompts, chunk=10, tokens=TOKENS))
    for prompt, output in zip(oracle.prompts, outputs, strict=True):
        best = oracle.logprobs(prompt + output).argmax(-1)
        assert output == best[len(prompt) - 1 : -1].tolist()


def test_logprobs_are_those_of_transformers(oracle: Oracle, exact_runner: CpuRunner) -> None:
    for prompt in oracle.prompts[:2]:
        error = next_logprobs(exact_runner, prompt) - oracle.logprobs(prompt)[-1]
        assert error.abs().max() < LOGPROB_TOLERANCE


@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [(Quantization.BF16, BF16_TOLERANCE), (Quantization.INT8, INT8_TOLERANCE)],
)
def test_the_rounded_schemes_answer_alike(
    quantization: Quantization, tolerance: float, oracle: Oracle
) -> None:
    runner = make_runner(quantization)
    prompt = oracle.prompts[0]
    expected = oracle.logprobs(prompt)[-1]
    error = (next_logprobs(runner, prompt) - expected)[expected > -5]
    assert error.abs().mean() < tolerance
    (answer,) = run_jobs(runner, jobs_of([prompt], chunk=16, tokens=7))
    assert oracle.tokenizer.decode(answer) == ANSWER
