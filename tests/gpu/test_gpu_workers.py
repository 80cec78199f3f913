"""On a CUDA device: a prefill and a decode worker, a process each, hand KV over on one GPU."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import torch
from baton.engine.params import SamplingParams
from baton.model.fetch import LocalModel
from support.fake_workers import RouterClient, submit_command
from support.tiny_models import HfConfig, tiny_model
from support.worker_processes import free_port, until

SHAPE: HfConfig = {"hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8}
# salt and length of each: the smallest leads of their tokens are 0.18, 0.48, 0.20 and 0.38
PROMPTS = ((3, 40), (10, 70), (9, 100), (8, 130))
TOKENS = 12
MARGIN_MIN = 0.1  # of logits: below it rounding may decide
START_LIMIT_S = 180.0  # kernels are compiled at the first start
END_LIMIT_S = 5.0  # less than an interrupted test has to say what it knows
SERVICES = Path(__file__).resolve().parents[2] / "services"


@asynccontextmanager
async def worker(role: str, model: LocalModel, device: str, *flags: str) -> AsyncIterator[str]:
    """The address of a real worker, once it is ready."""
    port, metrics_port = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"baton.{role}", "--device", device),
        *("--model", f"file://{model.path}", "--model-name", "tiny"),
        *("--port", str(port), "--metrics-port", str(metrics_port), *flags),
        # from where the test imports, on a machine with packages in a folder of their own too
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(SERVICES), *sys.path)),
            "PYTHONFAULTHANDLER": "1",
        },
    )
    try:
        await _ready(process, metrics_port)
        yield f"127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(END_LIMIT_S):
                await process.wait()
        except TimeoutError:
            process.send_signal(signal.SIGABRT)  # it hangs, and says where
            await process.wait()


async def _ready(process: Process, metrics_port: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:

        async def answers() -> bool:
            assert process.returncode is None, "the worker has ended"
            try:
                found = await client.get(f"http://127.0.0.1:{metrics_port}/ready")
            except httpx.TransportError:
                return False
            return found.status_code == 200

        await until(answers, START_LIMIT_S)


async def answers_of_two_workers(directory: Path, device: str, *, drafted: bool) -> None:
    """Requests whose prompts a prefill worker computes and whose tokens a decode worker says."""
    from support.transformers_oracle import Oracle  # seconds, which a skipped test need not take

    model = tiny_model("llama3", directory, shape=SHAPE)
    prompts = [[(11 * i + salt) % 250 + 3 for i in range(length)] for salt, length in PROMPTS]
    params = SamplingParams(TOKENS, temperature=0.0, ignore_eos=True)
    guessing: tuple[str, ...] = ()
    if drafted:
        draft = tiny_model("qwen3", directory, shape={"num_hidden_layers": 1})
        guessing = ("--speculation", "draft-model", "--draft-model", f"file://{draft.path}")
    async with (
        # of the whole device: the second counts what the first has taken
        worker("prefill", model, device, "--memory-fraction", "0.2") as prefill,
        worker("decode", model, device, "--memory-fraction", "0.4", *guessing) as decode,
        RouterClient(decode) as router,
    ):
        for index, prompt in enumerate(prompts):
            await router.send(submit_command(f"r{index}", prompt, params, candidates=[prefill]))
        found = [await router.output(f"r{index}") for index in range(len(prompts))]
    oracle = Oracle(model)
    for prompt, tokens in zip(prompts, found, strict=True):
        expected = oracle.following(prompt, tokens)
        assert len(tokens) == TOKENS
        assert tokens == expected.tokens, f"the smallest lead is {expected.margin}"
        assert expected.margin > MARGIN_MIN, "choose other prompts: rounding would decide"


@pytest.mark.timeout(600)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("drafted", [False, True])
async def test_a_prompt_computed_on_one_worker_goes_on_on_another(
    drafted: bool, tmp_path: Path
) -> None:
    await answers_of_two_workers(tmp_path, "cuda", drafted=drafted)
