"""Workers on their way out, over real gRPC: what runs finishes or is handed back, what comes is
told to go elsewhere, and no output changes by it."""

import asyncio

import grpc.aio
from baton.worker.drain import drain
from baton.worker.state import WorkerState
from baton.worker.watch import Role
from support.fake_engine import FakeEngine, greedy, solo_output
from support.fake_workers import (
    LIMIT_S,
    FakeWorker,
    RouterClient,
    running,
    submit_command,
)

PROMPT = [7 + i % 50 for i in range(21)]


def decode_worker() -> FakeWorker:
    return FakeWorker(Role.DECODE, FakeEngine())


def prefill_worker() -> FakeWorker:
    return FakeWorker(Role.PREFILL, FakeEngine())


async def test_draining_finishes_what_runs_and_refuses_what_comes() -> None:
    decode = decode_worker()
    async with running(decode), RouterClient(decode.address) as router:
        decode.ration(3)
        await router.send(submit_command("old", PROMPT, greedy(20)))
        await decode.until(lambda: decode.loop.live == 1)
        drained = asyncio.create_task(
            drain(decode.life, decode.hub, decode.loop, timeout_s=LIMIT_S)
        )
        await router.send(submit_command("idle", [1], greedy(1)))
        last = await router.finished("idle")
        assert (last.error.code, last.error.retryable) == ("draining", True)
        decode.ration(None)
        assert await drained
        assert await router.output("old") == solo_output(PROMPT, 20)
        await decode.service.aclose()
        assert await asyncio.wait_for(router.call.code(), LIMIT_S) is grpc.StatusCode.OK


async def test_what_outlives_the_drain_is_told_so_and_goes_on_elsewhere_token_for_token() -> None:
    going, staying = decode_worker(), decode_worker()
    async with running(going, staying), RouterClient(going.address) as router:
        going.ration(10)
        await router.send(submit_command("a", PROMPT, greedy(60)))
        await router.until(lambda: len(router.tokens("a")) >= 3)
        await going.until(lambda: going.engine.spent)
        assert not await drain(going.life, going.hub, going.loop, timeout_s=0.05)
        last = await router.finished("a")
        assert (last.error.code, last.error.retryable) == ("draining", True)
        await going.service.aclose()
        # The stream ends as asked, not as broken: no router takes it for a crash.
        assert await asyncio.wait_for(router.call.code(), LIMIT_S) is grpc.StatusCode.OK
        await going.until_idle()
        told = router.tokens("a")
        assert 3 <= len(told) < 60
        async with RouterClient(staying.address) as other:
            await other.send(submit_command("a-2", PROMPT, greedy(60), output=told))
            assert [*told, *await other.output("a-2")] == solo_output(PROMPT, 60)


async def test_a_draining_decode_worker_still_fetches_from_prefill() -> None:
    decode, prefill = decode_worker(), prefill_worker()
    async with running(decode, prefill), RouterClient(decode.address) as router:
        prefill.ration(1)
        await router.send(submit_command("a", PROMPT, greedy(6), candidates=[prefill.address]))
        await prefill.until(lambda: prefill.loop.live == 1)
        drained = asyncio.create_task(
            drain(decode.life, decode.hub, decode.loop, timeout_s=LIMIT_S)
        )
        await asyncio.sleep(0)  # one turn of the loop: it begins
        assert decode.life.state is WorkerState.DRAINING
        prefill.ration(None)
        assert await router.output("a") == solo_output(PROMPT, 6)
        assert router.updates["a"][0].prefill_path == "remote"
        assert await drained


async def test_a_prefill_worker_finishes_its_handoffs_and_refuses_new_ones_while_it_drains() -> (
    None
):
    going, staying = prefill_worker(), prefill_worker()
    decode = decode_worker()
    async with running(going, staying, decode), RouterClient(decode.address) as router:
        candidates = [going.address, staying.address]
        going.ration(1)
        await router.send(submit_command("old", PROMPT, greedy(6), candidates=candidates))
        await going.until(lambda: going.loop.live == 1)
        drained = asyncio.create_task(drain(going.life, going.hub, going.loop, timeout_s=LIMIT_S))
        await asyncio.sleep(0)  # one turn of the loop: it begins
        assert going.life.state is WorkerState.DRAINING
        other = [token + 1 for token in PROMPT]
        await router.send(submit_command("new", other, greedy(6), candidates=candidates))
        assert await router.output("new") == solo_output(other, 6)
        assert staying.engine.runner.computed_tokens == len(other)
        going.ration(None)
        assert await router.output("old") == solo_output(PROMPT, 6)
        assert await drained
        assert going.engine.runner.computed_tokens == len(PROMPT)
        for request_id in ("old", "new"):
            assert router.updates[request_id][0].prefill_path == "remote"


async def test_handoffs_that_outlive_the_drain_of_prefill_are_refused_and_done_elsewhere() -> None:
    prefill, decode = prefill_worker(), decode_worker()
    async with running(prefill, decode), RouterClient(decode.address) as router:
        prefill.ration(1)
        await router.send(submit_command("a", PROMPT, greedy(6), candidates=[prefill.address]))
        await prefill.until(lambda: prefill.loop.live == 1)
        assert not await drain(prefill.life, prefill.hub, prefill.loop, timeout_s=0.05)
        assert await router.output("a") == solo_output(PROMPT, 6)
        assert router.updates["a"][0].prefill_path == "local:prefill_failed"
        assert decode.metric("baton_handoff_total", outcome="refused") == 1
        await prefill.until_idle()
