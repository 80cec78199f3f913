"""`python -m baton.router` as a process: real tokenizer and template, flags, drain, exit code."""

import asyncio
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from baton.common.signals import decode_signals
from baton.model.tokenizer import load_tokenizer
from support.fake_decode import FakeDecode
from support.smollm2 import CACHE_DIR, REFERENCE, smollm2_model

QUESTION: Any = [{"role": "user", "content": "Say something in French."}]
START_LIMIT_S = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def started(*flags: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "baton.router", *flags, stdout=PIPE, stderr=PIPE
    )


@asynccontextmanager
async def router(worker: FakeDecode, *flags: str) -> AsyncIterator[tuple[Process, str]]:
    """A router process over `worker`, and its address once it is ready."""
    port = free_port()
    process = await started(
        *("--model", REFERENCE, "--model-name", "smol", "--cache-dir", str(CACHE_DIR)),
        *("--port", str(port), "--decode-workers", worker.address),
        *flags,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url) as http, asyncio.timeout(START_LIMIT_S):
            while not await is_ready(http):
                assert process.returncode is None, "the router ended"
                await asyncio.sleep(0.1)
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/ready")).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.smollm2
async def test_the_real_tokenizer_and_template_are_used() -> None:
    tokenizer = load_tokenizer(smollm2_model())
    reply = tokenizer.encode("Bonjour, ça va ? 🎼<|im_end|>", add_special=False, parse_special=True)
    async with FakeDecode(context_length_max=4_096, model_name="smol") as worker:
        worker.script.reply = lambda submit: reply
        async with router(worker) as (_, url):
            client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
            answer = await client.chat.completions.create(
                model="smol",
                messages=QUESTION,
                extra_body={"stop_token_ids": [reply[-1]]},
            )
            assert answer.choices[0].message.content == "Bonjour, ça va ? 🎼"
            prompt = tokenizer.decode(worker.submits[0].prompt_token_ids, skip_special=False)
            assert prompt.endswith(
                "<|im_start|>user\nSay something in French.<|im_end|>\n<|im_start|>assistant\n"
            )
            assert worker.submits[0].sampling.max_tokens == 4_096 - answer.usage.prompt_tokens
            await client.close()


@pytest.mark.smollm2
async def test_sigterm_lets_requests_end_and_sends_clients_elsewhere() -> None:
    async with FakeDecode(context_length_max=4_096, model_name="smol") as worker:
        worker.script.reply = lambda submit: [100, 101, 102]
        worker.script.hold_after = 1
        async with router(worker) as (process, url), httpx.AsyncClient(base_url=url) as http:
            client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
            stream = await client.completions.create(model="smol", prompt="x", stream=True)
            chunks = aiter(stream)
            await anext(chunks)
            process.terminate()
            async with asyncio.timeout(10):
                while (await http.get("/health")).status_code == 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert (await http.get("/ready")).status_code == 503
            late = await http.post("/v1/completions", json={"model": "smol", "prompt": ""})
            assert (late.status_code, late.headers["connection"]) == (400, "close")  # heard
            assert process.returncode is None
            worker.script.released.set()
            rest = [chunk async for chunk in chunks]
            assert rest[-1].choices[0].finish_reason == "length"
            assert await asyncio.wait_for(process.wait(), 10) == 0
            await client.close()


@pytest.mark.smollm2
async def test_metrics_and_probes_have_a_port_of_their_own() -> None:
    port = free_port()
    async with (
        FakeDecode(context_length_max=4_096, model_name="smol") as worker,
        router(worker, "--metrics-port", str(port), "--slo-ttft-s", "5") as (process, url),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as operations,
        httpx.AsyncClient(base_url=url) as http,
    ):
        statuses = [(await operations.get(p)).status_code for p in ("/live", "/ready", "/metrics")]
        assert statuses == [200, 200, 200]
        assert (await http.get("/metrics")).status_code == 404
        told = decode_signals((await operations.get("/signals")).content)
        assert [one.address for one in told.workers] == [worker.address]
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest.mark.smollm2
async def test_a_metrics_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = await started(
            *("--model", REFERENCE, "--model-name", "smol", "--cache-dir", str(CACHE_DIR)),
            *("--port", str(free_port()), "--decode-workers", "127.0.0.1:1"),
            *("--metrics-port", str(taken.getsockname()[1])),
        )
        _, err = await asyncio.wait_for(process.communicate(), START_LIMIT_S)
        assert process.returncode == 1
        assert "--metrics-port" in err.decode()


async def test_every_wrong_flag_is_told_at_once() -> None:
    process = await started("--model", "nonsense", "--port", "0", "--frobnicate")
    _, err = await process.communicate()
    assert process.returncode == 1
    for problem in ("--port='0'", "--frobnicate", "--model-name", "--decode-workers"):
        assert problem in err.decode()


async def test_the_router_does_without_torch_and_outside_clusters_without_kubernetes() -> None:
    code = (
        "import sys, baton.router.process; "
        "sys.exit(any(heavy in sys.modules for heavy in ('torch', 'kubernetes')))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0
