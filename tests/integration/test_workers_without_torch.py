"""A worker on our kernels never loads torch, whatever is asked of it; without kernels it does.

Seen from outside, in the process's memory map: no import hook and no cooperation is needed.
"""

import os
from pathlib import Path

import pytest
from baton.engine.params import SamplingParams
from baton.engine.quant.quantization import Quantization
from baton.rpc.v1.decode_pb2 import FINISH_REASON_LENGTH
from support.fake_workers import RouterClient, submit_command
from support.kernels import kernels
from support.real_workers import real_worker
from support.smollm2 import smollm2_model
from support.tiny_models import tiny_model
from support.worker_processes import WorkerProcess

PROMPT = [(17 * index) % 200 + 3 for index in range(40)]
PLAIN = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True)
EVERYTHING = SamplingParams(
    max_tokens=8,
    temperature=0.8,
    top_k=50,
    top_p=0.9,
    min_p=0.001,
    min_tokens=8,
    repetition_penalty=1.1,
    presence_penalty=0.2,
    logit_bias=((7, 1.0),),
    logprobs=3,
    prompt_logprobs=1,
    seed=5,
)


def libraries(worker: WorkerProcess) -> set[str]:
    """Names of the files in the worker's memory."""
    lines = Path(f"/proc/{worker.process.pid}/maps").read_text().splitlines()
    return {os.path.basename(line.split()[5]) for line in lines if len(line.split()) > 5}


def torch_of(worker: WorkerProcess) -> set[str]:
    found = libraries(worker)
    assert any(name.startswith("libpython") or "python" in name for name in found)
    return {name for name in found if "torch" in name}


async def answer(
    decode: WorkerProcess, params: SamplingParams, prefill: WorkerProcess | None = None
) -> list[int]:
    async with RouterClient(decode.address) as router:
        candidates = [] if prefill is None else [prefill.address]
        await router.send(submit_command("a", PROMPT, params, candidates=candidates))
        ended = await router.finished("a")
        assert ended.finish_reason == FINISH_REASON_LENGTH, ended.error
        return router.tokens("a")


async def sent_bytes(prefill: WorkerProcess) -> float:
    """KV handed over."""
    lines = (await prefill.get("/metrics")).text.splitlines()
    sent = [
        line for line in lines if line.startswith("baton_handoff_bytes_total") and "sent" in line
    ]
    return sum(float(line.rpartition(" ")[2]) for line in sent)


def flags_of(quantization: Quantization) -> tuple[str, str]:
    kernels()  # skips where there are none
    return ("--quantization", quantization.value)


@pytest.mark.smollm2
@pytest.mark.parametrize("quantization", [Quantization.INT8, Quantization.BF16])
async def test_a_pair_of_workers_answers_without_torch(quantization: Quantization) -> None:
    flags, model = flags_of(quantization), smollm2_model().path
    async with (
        real_worker("prefill", model, *flags) as prefill,
        real_worker("decode", model, *flags) as decode,
    ):
        for params in (PLAIN, EVERYTHING):
            assert len(await answer(decode, params, prefill)) == 8
        assert torch_of(prefill) == torch_of(decode) == set()
        assert await sent_bytes(prefill) > 0


async def test_a_draft_model_guesses_without_torch(tmp_path: Path) -> None:
    model = tiny_model("qwen3", tmp_path).path
    drafted = ("--speculation", "draft-model", "--draft-model", f"file://{model}")
    async with real_worker("decode", model, *flags_of(Quantization.NONE), *drafted) as worker:
        assert len(await answer(worker, PLAIN)) == 8
        assert torch_of(worker) == set()


async def test_without_kernels_torch_computes_the_same_answer(tmp_path: Path) -> None:
    model, flags = tiny_model("llama3", tmp_path).path, flags_of(Quantization.NONE)
    async with real_worker("decode", model, *flags) as ours:
        expected = await answer(ours, PLAIN)
    async with real_worker("decode", model, *flags, "--kernels", "torch") as theirs:
        assert await answer(theirs, PLAIN) == expected
        assert torch_of(theirs) != set()
