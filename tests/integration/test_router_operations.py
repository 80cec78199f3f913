"""What the cluster sees of a router: probes, metrics and signals; and held requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import openai
import pytest
from baton.common.signals import RouterSignals, decode_signals
from baton.rpc.v1 import worker_pb2
from support.fake_decode import DRAINING, PARIS, READY, STARTING, FakeDecode, Script
from support.router_process import RunningRouter, running_router

BODY: dict[str, Any] = {"model": "bytes", "prompt": "x", "max_tokens": 50}
SLO = {"slo_ttft_s": 30.0, "slo_itl_s": 1e-9}


@pytest.fixture
async def worker() -> AsyncIterator[FakeDecode]:
    async with FakeDecode() as worker:
        yield worker


async def signals(router: RunningRouter) -> RouterSignals:
    return decode_signals((await router.operations.get("/signals")).content)


async def until_waiting(router: RunningRouter, count: int) -> None:
    async with asyncio.timeout(5):
        while (await signals(router)).traffic.requests_waiting != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_signals_tell_traffic_and_workers(worker: FakeDecode) -> None:
    worker.load = worker_pb2.Load(running=3, waiting=2, blocks_used=7, prefill_tokens_waiting=9)
    async with running_router([worker], **SLO) as router:
        answer = await router.openai.completions.create(**BODY, n=2)
        told = await signals(router)
        assert told.model_name == "bytes"
        traffic = told.traffic
        assert (traffic.requests_arrived, traffic.requests_ended) == (2, 2)
        assert (traffic.requests_waiting, traffic.requests_running) == (0, 0)
        assert traffic.prompt_tokens_arrived == 2 * answer.usage.prompt_tokens
        assert traffic.prompt_tokens_cached == 2 * 4
        assert traffic.output_tokens == answer.usage.completion_tokens
        assert (traffic.ttft_requests, traffic.ttft_attained) == (2, 2)
        assert (traffic.itl_requests, traffic.itl_attained) == (2, 0)
        (known,) = told.workers
        assert (known.address, known.role, known.state) == (worker.address, "decode", "ready")
        assert (known.requests_running, known.requests_waiting, known.blocks_used) == (3, 2, 7)
        assert (known.prefill_tokens_waiting, known.block_size) == (9, 16)
        assert 0 <= known.age_s < 5


async def test_attainment_and_refusals_are_counted(worker: FakeDecode) -> None:
    async with running_router([worker], **SLO) as router:
        await router.openai.completions.create(**BODY)
        await worker.become(STARTING)
        await router.until_ready(0)
        with pytest.raises(openai.InternalServerError):
            await router.openai.completions.create(**BODY)
        text = (await router.operations.get("/metrics")).text
        labels = 'model_name="bytes"'
        for line in (
            f'baton_router_slo_requests_total{{attained="true",{labels},slo="ttft"}} 1.0',
            f'baton_router_slo_requests_total{{attained="false",{labels},slo="itl"}} 1.0',
            f'baton_router_refusals_total{{{labels},reason="no_worker"}} 1.0',
            f"baton_router_queue_seconds_count{{{labels}}} 2.0",
            f"baton_draining{{{labels}}} 0.0",
        ):
            assert line in text


async def test_probes(worker: FakeDecode) -> None:
    async with running_router([worker], ready_wait_s=0.0) as router:
        assert (await router.operations.get("/live")).status_code == 200
        assert (await router.operations.get("/ready")).status_code == 200
        await worker.become(STARTING)
        await router.until_ready(0)
        assert (await router.operations.get("/ready")).status_code == 503
        await worker.become(READY)
        await router.until_ready(1)
        router.traffic.drain()
        assert (await router.operations.get("/ready")).status_code == 503
        assert (await router.operations.get("/live")).status_code == 200


async def test_while_the_last_decode_worker_restarts_the_router_stays_in_service(
    worker: FakeDecode,
) -> None:
    async with running_router([worker], ready_wait_s=60.0) as router:
        await worker.become(STARTING)
        await router.until_ready(0)
        told = await router.operations.get("/ready")
        assert told.status_code == 200
        assert told.json()["status"] == "ready; requests wait for a decode worker"
        asked = asyncio.create_task(router.openai.completions.create(**BODY))
        await until_waiting(router, 1)
        await worker.become(READY)
        assert (await asked).choices[0].text == PARIS


async def test_with_a_metrics_port_clients_do_not_see_the_metrics(worker: FakeDecode) -> None:
    async with running_router([worker], metrics_port=1) as router:
        assert (await router.http.get("/metrics")).status_code == 404
        assert (await router.http.get("/signals")).status_code == 404
        assert (await router.operations.get("/metrics")).status_code == 200


async def test_from_zero_requests_are_held_until_a_worker_comes(worker: FakeDecode) -> None:
    await worker.become(STARTING)
    async with running_router([worker], wait=False, scale_from_zero=True) as router:
        assert (await router.operations.get("/ready")).status_code == 200
        models = await router.openai.models.list()
        assert [model.id for model in models.data] == ["bytes"]
        asked = [asyncio.create_task(router.openai.completions.create(**BODY)) for _ in range(3)]
        await until_waiting(router, 3)
        asked.pop().cancel()  # a client that goes leaves the queue
        await until_waiting(router, 2)
        assert "baton_router_requests_held" in (await router.operations.get("/metrics")).text
        await worker.become(READY)
        for answer in await asyncio.gather(*asked):
            assert answer.choices[0].text == PARIS
        assert len(worker.submits) == 2


async def test_held_requests_count_against_the_limit(worker: FakeDecode) -> None:
    await worker.become(STARTING)
    async with running_router([worker], wait=False, scale_from_zero=True, requests_max=1) as router:
        held = asyncio.create_task(router.openai.completions.create(**BODY))
        await until_waiting(router, 1)
        with pytest.raises(openai.RateLimitError):
            await router.openai.completions.create(**BODY)
        await worker.become(READY)
        assert (await held).choices[0].text == PARIS


async def test_a_held_request_ends_at_its_deadline(worker: FakeDecode) -> None:
    await worker.become(STARTING)
    async with running_router(
        [worker], wait=False, scale_from_zero=True, request_timeout_s=0.2
    ) as router:
        with pytest.raises(openai.APIStatusError) as late:
            await router.openai.completions.create(**BODY)
        assert late.value.status_code == 504


async def test_while_the_last_worker_drains_requests_wait_for_the_next(worker: FakeDecode) -> None:
    async with (
        FakeDecode() as leaving,
        running_router([leaving, worker], ready_wait_s=10.0) as router,
    ):
        await worker.become(STARTING)
        await leaving.become(DRAINING)
        await router.until_ready(0)
        asked = asyncio.create_task(router.openai.completions.create(**BODY))
        await until_waiting(router, 1)
        await worker.become(READY)
        assert (await asked).choices[0].text == PARIS


async def test_a_rollout_moves_a_request_as_often_as_it_must() -> None:
    """Four workers drain and go under it: more than crashes would be forgiven."""
    workers = [FakeDecode(Script(hold_after=5 * n)) for n in range(1, 5)] + [FakeDecode()]
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker)
            await worker.become(STARTING)
        router = await stack.enter_async_context(
            running_router(workers, wait=False, ready_wait_s=10.0)
        )
        await workers[0].become(READY)
        asked = asyncio.create_task(router.openai.completions.create(**BODY))
        for old, new in pairwise(workers):
            await old.until(lambda w: bool(w.submits))
            await old.become(DRAINING)
            await router.until_ready(0)
            await new.become(READY)
            await router.until_ready(1)
            await old.kill()
        assert (await asked).choices[0].text == PARIS
        resumed = [len(worker.submits[0].output_token_ids) for worker in workers]
        assert resumed == sorted(resumed)
        assert [len(worker.submits) for worker in workers] == [1] * 5
        text = (await router.operations.get("/metrics")).text
        assert 'resubmissions_total{model_name="bytes",reason="draining"} 4.0' in text


async def test_a_frozen_worker_loses_its_requests_to_another(worker: FakeDecode) -> None:
    frozen = FakeDecode(Script(hold_after=5))
    frozen.load = worker_pb2.Load(running=1, step=3)
    frozen.heartbeat_s = 0.2
    async with frozen:
        await worker.become(STARTING)
        async with running_router([frozen, worker], wait=False, ready_wait_s=20.0) as router:
            await router.until_ready(1)
            asked = asyncio.create_task(router.openai.completions.create(**BODY))
            await frozen.until(lambda w: len(w.submits) == 1)
            await worker.become(READY)
            assert (await asked).choices[0].text == PARIS
            assert len(worker.submits[0].output_token_ids) == 5
            assert (await signals(router)).traffic.requests_running == 0


async def test_a_worker_of_another_model_gets_no_request(worker: FakeDecode) -> None:
    async with (
        FakeDecode(model_name="other") as other,
        running_router([other, worker], wait=False) as router,
    ):
        await router.until_ready(1)
        assert [await _text(router) for _ in range(2)] == [PARIS] * 2
        assert other.submits == []
        text = (await router.operations.get("/metrics")).text
        assert 'workers_refused_total{model_name="bytes",reason="model"} 1.0' in text


async def _text(router: RunningRouter) -> str:
    return str((await router.openai.completions.create(**BODY)).choices[0].text)
