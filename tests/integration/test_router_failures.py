"""Clients that go away and workers that die: nothing keeps running, nothing is lost."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from baton.rpc.v1 import decode_pb2
from support.fake_decode import DRAINING, PARIS, READY, FakeDecode, Script
from support.router_process import RunningRouter, running_router
from support.tls_files import Authority, secret

BODY: dict[str, Any] = {"model": "bytes", "prompt": "x", "max_tokens": 50}


@pytest.mark.parametrize("stream", [True, False], ids=["before-the-first-token", "whole"])
async def test_a_client_that_leaves_cancels_its_work(stream: bool) -> None:
    async with FakeDecode(Script(silent=True)) as worker, running_router([worker]) as router:
        asked = asyncio.create_task(
            router.http.post("/v1/completions", json={**BODY, "stream": stream})
        )
        await worker.until(lambda w: len(w.submits) == 1)
        asked.cancel()
        await worker.until(lambda w: w.cancels == [w.submits[0].request_id])
        assert await router.traffic.wait_idle(5)
        metrics = (await router.http.get("/metrics")).text
        assert 'finished_reason="abort",model_name="bytes"} 1.0' in metrics
        assert 'endpoint="/v1/completions",model_name="bytes",status="499"} 1.0' in metrics


async def test_a_client_that_leaves_mid_stream_cancels_its_work() -> None:
    async with FakeDecode(Script(hold_after=3)) as worker, running_router([worker]) as router:
        stream = await router.openai.completions.create(**BODY, stream=True)
        assert (await anext(aiter(stream))).choices[0].text == "P"
        await stream.close()
        await worker.until(lambda w: w.cancels == [w.submits[0].request_id])
        assert await router.traffic.wait_idle(5)


async def test_all_choices_of_a_client_that_leaves_are_cancelled() -> None:
    async with FakeDecode(Script(silent=True)) as worker, running_router([worker]) as router:
        asked = asyncio.create_task(router.openai.completions.create(**BODY, n=3))
        await worker.until(lambda w: len(w.submits) == 3)
        asked.cancel()
        await worker.until(lambda w: len(w.cancels) == 3)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_request_continues_where_its_worker_stopped(stream: bool) -> None:
    async with (
        FakeDecode(Script(break_after=10)) as dying,
        FakeDecode() as other,
        running_router([dying, other]) as router,
    ):
        # Round-robin: at least one of the two begins on the worker that breaks.
        assert [await _text(router, stream) for _ in range(2)] == [PARIS] * 2
        first = dying.submits[0]
        resumed = next(submit for submit in other.submits if submit.output_token_ids)
        assert bytes(resumed.output_token_ids) == b"Paris is t"
        assert resumed.prompt_token_ids == first.prompt_token_ids
        assert resumed.sampling == first.sampling
        assert resumed.request_id != first.request_id


async def test_a_killed_worker_costs_no_request() -> None:
    async with (
        FakeDecode(Script(hold_after=10)) as dying,
        FakeDecode() as other,
        running_router([dying, other]) as router,
    ):
        asked = [asyncio.create_task(_text(router, stream=True)) for _ in range(8)]
        await dying.until(lambda w: len(w.submits) == 4)
        await dying.kill()
        assert await asyncio.gather(*asked) == [PARIS] * 8


async def _text(router: RunningRouter, stream: bool) -> str:
    if not stream:
        answer = await router.openai.completions.create(**BODY)
        assert answer.usage.completion_tokens == len(PARIS) + 1
        return str(answer.choices[0].text)
    chunks = await router.openai.completions.create(**BODY, stream=True)
    return "".join([chunk.choices[0].text async for chunk in chunks])


async def test_a_refused_request_goes_to_another_worker() -> None:
    full = decode_pb2.RequestError(code="draining", message="no", retryable=True)
    async with (
        FakeDecode(Script(refuse=full)) as refusing,
        FakeDecode() as other,
        running_router([refusing, other]) as router,
    ):
        texts = [await _text(router, stream=False) for _ in range(2)]
        assert texts == [PARIS, PARIS]
        assert len(refusing.submits) >= 1
        assert len(other.submits) == 2


async def test_a_request_that_two_workers_did_not_survive_is_refused() -> None:
    async with (
        FakeDecode(Script(break_after=3)) as one,
        FakeDecode(Script(break_after=3)) as two,
        FakeDecode(Script(break_after=3)) as three,
        running_router([one, two, three]) as router,
    ):
        answer = await router.http.post("/v1/completions", json=BODY)
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "engine_failure"
        assert answer.headers["x-should-retry"] == "false"
        assert len(one.submits) + len(two.submits) + len(three.submits) == 2


async def test_a_draining_worker_gets_no_new_requests() -> None:
    async with (
        FakeDecode() as leaving,
        FakeDecode() as staying,
        running_router([leaving, staying]) as router,
    ):
        await leaving.become(DRAINING)
        await router.until_ready(1)
        for _ in range(3):
            await _text(router, stream=False)
        assert (len(leaving.submits), len(staying.submits)) == (0, 3)
        await leaving.become(READY)
        await router.until_ready(2)


async def test_a_worker_that_restarts_is_found_again() -> None:
    async with FakeDecode() as first:
        port = int(first.address.rsplit(":", 1)[1])
        async with running_router([first], ready_wait_s=5.0) as router:
            await first.kill()
            await router.until_ready(0)
            asked = asyncio.create_task(_text(router, stream=False))
            async with FakeDecode(port=port) as second:
                assert await asked == PARIS
                assert len(second.submits) == 1


async def test_one_stream_per_worker_carries_all_requests() -> None:
    async with FakeDecode() as worker, running_router([worker]) as router:
        await asyncio.gather(*(_text(router, stream=True) for _ in range(16)))
        assert (worker.streams, len(worker.submits)) == (1, 16)


async def test_over_tls_requests_reach_workers_of_the_service_and_no_others(tmp_path: Path) -> None:
    authority = Authority()
    tls = secret(tmp_path / "ours", authority).files()
    foreign = secret(tmp_path / "foreign", Authority("somebody else")).files()
    async with (
        FakeDecode(tls=tls) as ours,
        FakeDecode(tls=foreign) as theirs,
        FakeDecode() as plain,
        running_router(
            [ours, theirs, plain], wait=False, tls_dir=tls.dir, tls_name=tls.name
        ) as router,
    ):
        await router.until_ready(1)
        assert [await _text(router, stream=True) for _ in range(2)] == [PARIS] * 2
        assert (len(ours.submits), len(theirs.submits), len(plain.submits)) == (2, 0, 0)
