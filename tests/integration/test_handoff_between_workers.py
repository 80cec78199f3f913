"""A prompt computed by a prefill worker and continued by a decode worker, over real gRPC.

The fake engine's tokens depend on every byte of KV, so an output equal to the solo run says that
every byte arrived where it belongs.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import cast

import grpc.aio
import pytest
from baton.engine.messages import Cancel, KvArrived, KvComplete, KvLost
from baton.handoff.codec import PrefillOrder, order_to_wire
from baton.handoff.layout import KvLayout
from baton.prefill.service import PrefillService, RunContext
from baton.rpc.channels import Channels
from baton.rpc.v1 import decode_pb2, prefill_pb2, prefill_pb2_grpc
from baton.worker.state import WorkerEvent
from baton.worker.watch import Role
from support.fake_engine import BLOCK_SIZE, LAYOUT, FakeEngine, greedy, solo_output
from support.fake_workers import (
    LIMIT_S,
    NUDGE_ID,
    FakeWorker,
    RouterClient,
    cancel_command,
    running,
    submit_command,
)

PROMPT = [7 + i % 50 for i in range(42)]  # ten full blocks and a half one


def prefill_worker(*, step_tokens_max: int = 8, layout: KvLayout = LAYOUT) -> FakeWorker:
    engine = FakeEngine(step_tokens_max=step_tokens_max)
    return FakeWorker(Role.PREFILL, engine, layout=layout)


def decode_worker(*, block_count: int = 64, sequences_max: int = 8) -> FakeWorker:
    engine = FakeEngine(block_count=block_count, sequences_max=sequences_max)
    return FakeWorker(Role.DECODE, engine)


def arrived_blocks(worker: FakeWorker) -> int:
    """Leading blocks the decode engine was told of."""
    told = [c.blocks for c in worker.engine.commands if isinstance(c, KvArrived)]
    return max(told, default=0)


def was_told(worker: FakeWorker, kind: type[object]) -> bool:
    return any(
        isinstance(command, kind) and command.request_id != NUDGE_ID
        for command in worker.engine.commands
    )


@pytest.mark.parametrize("length", [5, 8, 39, 40, 41, 42])
@pytest.mark.parametrize("step_tokens_max", [8, 13, 64], ids=["2-blocks", "odd", "whole-prompt"])
async def test_output_is_that_of_the_solo_run(length: int, step_tokens_max: int) -> None:
    prefill, decode = prefill_worker(step_tokens_max=step_tokens_max), decode_worker()
    prompt = PROMPT[:length]
    async with running(prefill, decode), RouterClient(decode.address) as router:
        await router.send(submit_command("a", prompt, greedy(6), candidates=[prefill.address]))
        assert await router.output("a") == solo_output(prompt, 6)
        assert router.updates["a"][0].prefill_path == "remote"
        assert prefill.engine.runner.computed_tokens == length
        assert decode.engine.runner.computed_tokens == 5  # decode steps only
        await prefill.until_idle()
        await decode.until_idle()


@pytest.mark.parametrize("shared", [4, 17, 36], ids=["a-block", "odd", "nearly-all"])
async def test_decode_skips_what_it_holds_and_prefill_computes_what_it_lacks(shared: int) -> None:
    prefill, decode = prefill_worker(), decode_worker()
    earlier = [*PROMPT[:shared], 200, 201, 202, 203]
    async with running(prefill, decode), RouterClient(decode.address) as router:
        await router.send(submit_command("warm", earlier, greedy(1)))
        await router.finished("warm")
        await router.send(submit_command("a", PROMPT, greedy(6), candidates=[prefill.address]))
        assert await router.output("a") == solo_output(PROMPT, 6)
        first = router.updates["a"][0]
        held = shared // BLOCK_SIZE
        assert (first.prefill_path, first.cached_tokens) == ("remote", held * BLOCK_SIZE)
        sent = prefill.metric("baton_handoff_bytes_total", direction="sent")
        assert sent == (11 - held) * LAYOUT.block_bytes


async def test_a_prefix_prefill_has_cached_is_sent_but_not_computed() -> None:
    prefill, decode, other = prefill_worker(), decode_worker(), decode_worker()
    async with running(prefill, decode, other):
        async with RouterClient(other.address) as router:
            await router.send(
                submit_command("warm", PROMPT, greedy(1), candidates=[prefill.address])
            )
            await router.finished("warm")
        async with RouterClient(decode.address) as router:
            await router.send(submit_command("a", PROMPT, greedy(6), candidates=[prefill.address]))
            assert await router.output("a") == solo_output(PROMPT, 6)
            assert router.updates["a"][0].cached_tokens == 40
        assert prefill.engine.runner.computed_tokens == 42 + 2


async def test_a_resumed_request_continues_after_its_output() -> None:
    prefill, decode = prefill_worker(), decode_worker()
    whole = solo_output(PROMPT, 9)
    async with running(prefill, decode), RouterClient(decode.address) as router:
        await router.send(
            submit_command("a", PROMPT, greedy(9), candidates=[prefill.address], output=whole[:4])
        )
        assert await router.output("a") == whole[4:]


Tamper = Callable[[prefill_pb2.PrefillFrame], Awaitable[None]]


class TamperingContext:
    """What a servicer needs of its call, with something between it and the wire."""

    def __init__(self, context: RunContext, tamper: Tamper) -> None:
        self._context = context
        self._tamper = tamper
        self.abort = context.abort

    async def write(self, frame: prefill_pb2.PrefillFrame) -> None:
        await self._tamper(frame)
        await self._context.write(frame)


def tampering_worker(tamper: Tamper) -> FakeWorker:
    """A prefill worker between whose engine and wire something goes wrong."""

    class Service(PrefillService):
        async def Run(  # type: ignore[override]  # noqa: N802  # as in the service itself
            self, request: prefill_pb2.PrefillRequest, context: RunContext
        ) -> None:
            await super().Run(request, cast(RunContext, TamperingContext(context, tamper)))

    return FakeWorker(Role.PREFILL, FakeEngine(), new_service=Service)


async def test_a_corrupt_frame_is_refused_and_the_next_candidate_begins_behind_what_came() -> None:
    noise = asyncio.Event()

    async def flip(frame: prefill_pb2.PrefillFrame) -> None:
        if noise.is_set() and frame.HasField("kv"):
            payload = bytearray(frame.kv.payload)
            payload[0] ^= 1
            frame.kv.payload = bytes(payload)

    bad, good, decode = tampering_worker(flip), prefill_worker(), decode_worker()
    async with running(bad, good, decode), RouterClient(decode.address) as router:
        bad.ration(2)
        await router.send(
            submit_command("a", PROMPT, greedy(6), candidates=[bad.address, good.address])
        )
        await decode.until(lambda: arrived_blocks(decode) == 4)
        noise.set()
        bad.ration(None)
        assert await router.output("a") == solo_output(PROMPT, 6)
        assert router.updates["a"][0].prefill_path == "remote"
        assert good.metric("baton_handoff_bytes_total", direction="sent") == (
            (11 - 4) * LAYOUT.block_bytes
        )
        assert decode.metric("baton_handoff_total", outcome="corrupt") == 1
        assert decode.metric("baton_handoff_total", outcome="complete") == 1
        await bad.until_idle()


async def test_prefill_killed_midway_leaves_its_blocks_and_decode_computes_the_rest() -> None:
    prefill, decode = prefill_worker(), decode_worker()
    async with running(prefill, decode), RouterClient(decode.address) as router:
        prefill.ration(3)
        await router.send(submit_command("a", PROMPT, greedy(6), candidates=[prefill.address]))
        await decode.until(lambda: arrived_blocks(decode) == 6)
        await prefill.kill()
        assert await router.output("a") == solo_output(PROMPT, 6)
        assert router.updates["a"][0].prefill_path == "local:prefill_failed"
        assert decode.engine.runner.computed_tokens == (42 - 24) + 5
        await decode.until_idle()


async def test_prefill_killed_before_its_last_frame_costs_the_partial_block_only() -> None:
    gate = asyncio.Event()

    async def hold_token(frame: prefill_pb2.PrefillFrame) -> None:
        if frame.HasField("first_token"):
            await gate.wait()

    prefill, decode = tampering_worker(hold_token), decode_worker()
    prompt = PROMPT[:40]  # full blocks only: the last token must be computed again for its logits
    async with running(prefill, decode), RouterClient(decode.address) as router:
        await router.send(submit_command("a", prompt, greedy(6), candidates=[prefill.address]))
        await decode.until(lambda: arrived_blocks(decode) == 10)
        await prefill.kill()
        assert await router.output("a") == solo_output(prompt, 6)
        assert decode.engine.runner.computed_tokens <= BLOCK_SIZE + 5


async def test_no_prefill_worker_answers_and_the_request_is_computed_locally() -> None:
    decode, gone = decode_worker(), prefill_worker()
    async with running(decode), RouterClient(decode.address) as router:
        port = gone.server.add_insecure_port("127.0.0.1:0")
        await gone.server.stop(0)  # nobody listens there any more
        await router.send(submit_command("a", PROMPT, greedy(6), candidates=[f"127.0.0.1:{port}"]))
        assert await router.output("a") == solo_output(PROMPT, 6)
        assert router.updates["a"][0].prefill_path == "local:prefill_failed"


async def test_a_draining_prefill_worker_is_passed_over() -> None:
    draining, ready, decode = prefill_worker(), prefill_worker(), decode_worker()
    async with running(draining, ready, decode), RouterClient(decode.address) as router:
        draining.life.advance(WorkerEvent.DRAIN)
        await router.send(
            submit_command("a", PROMPT, greedy(6), candidates=[draining.address, ready.address])
        )
        assert await router.output("a") == solo_output(PROMPT, 6)
        assert router.updates["a"][0].prefill_path == "remote"
        assert decode.metric("baton_handoff_total", outcome="refused") == 1


@pytest.mark.parametrize("by", ["router", "stream"])
async def test_cancelling_midway_frees_blocks_on_both_sides(by: str) -> None:
    prefill, decode = prefill_worker(), decode_worker()
    async with running(prefill, decode):
        async with RouterClient(decode.address) as router:
            prefill.ration(3)
            await router.send(submit_command("a", PROMPT, greedy(6), candidates=[prefill.address]))
            await decode.until(lambda: arrived_blocks(decode) == 6)
            if by == "router":
                await router.send(cancel_command("a"))
                last = await router.finished("a")
                assert last.finish_reason == decode_pb2.FINISH_REASON_CANCELLED
        await prefill.until(lambda: was_told(prefill, Cancel))
        await asyncio.gather(prefill.until_idle(), decode.until_idle())
        assert not was_told(decode, KvComplete)
        assert not was_told(decode, KvLost)


async def test_a_silent_prefill_worker_is_left_in_time_to_compute_the_prompt_here() -> None:
    prefill, decode = prefill_worker(), decode_worker()
    async with running(prefill, decode), RouterClient(decode.address) as router:
        prefill.ration(3)
        await router.send(
            submit_command("a", PROMPT, greedy(6), candidates=[prefill.address], deadline_s=3.0)
        )
        assert await router.output("a") == solo_output(PROMPT, 6)
        assert decode.metric("baton_handoff_total", outcome="stalled") == 1
        await prefill.until_idle()


async def test_the_deadline_ends_a_request_and_frees_its_blocks() -> None:
    prefill, decode = prefill_worker(), decode_worker()
    async with running(prefill, decode), RouterClient(decode.address) as router:
        prefill.ration(3)
        await router.send(
            submit_command("a", PROMPT, greedy(6), candidates=[prefill.address], deadline_s=2.0)
        )
        await decode.until(lambda: arrived_blocks(decode) == 6)
        decode.ration(0)
        last = await router.finished("a")
        assert last.finish_reason == decode_pb2.FINISH_REASON_DEADLINE
        await asyncio.gather(prefill.until_idle(), decode.until_idle())


async def test_another_layout_is_refused_with_both_fingerprints() -> None:
    foreign = dataclasses.replace(LAYOUT, dtype="bfloat16")
    prefill = prefill_worker(layout=foreign)
    order = PrefillOrder("a", tuple(PROMPT), (), greedy(1))
    channels = Channels()
    async with running(prefill):
        stub = prefill_pb2_grpc.PrefillStub(channels.channel(prefill.address))
        call = stub.Run(order_to_wire(order, LAYOUT, skip_blocks=0), timeout=LIMIT_S)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        await channels.aclose()
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    details = refused.value.details() or ""
    assert foreign.fingerprint() in details
    assert LAYOUT.fingerprint() in details
    assert "dtype 'bfloat16' here, 'float32' there" in details


@pytest.mark.parametrize(
    ("skip_blocks", "prompt", "says"),
    [(11, PROMPT, "skip_blocks"), (0, [], "empty"), (0, [1, 10_000], "vocabulary")],
)
async def test_a_malformed_order_is_an_invalid_argument(
    skip_blocks: int, prompt: list[int], says: str
) -> None:
    prefill, channels = prefill_worker(), Channels()
    order = PrefillOrder("a", tuple(prompt), (), greedy(1))
    async with running(prefill):
        stub = prefill_pb2_grpc.PrefillStub(channels.channel(prefill.address))
        call = stub.Run(order_to_wire(order, LAYOUT, skip_blocks=skip_blocks), timeout=LIMIT_S)
        with pytest.raises(grpc.aio.AioRpcError, match=says) as refused:
            await call.read()
        await channels.aclose()
        await prefill.until_idle()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("fields", "length", "path"),
    [
        ({}, 4, "local:short"),
        ({"prompt_logprobs": 1}, 42, "local:prompt_logprobs"),
    ],
)
async def test_what_a_handoff_cannot_help_is_computed_locally(
    fields: dict[str, int], length: int, path: str
) -> None:
    prefill, decode = prefill_worker(), decode_worker()
    prompt = PROMPT[:length]
    async with running(prefill, decode), RouterClient(decode.address) as router:
        await router.send(
            submit_command("a", prompt, greedy(6, **fields), candidates=[prefill.address])
        )
        assert await router.output("a") == solo_output(prompt, 6)
        first = router.updates["a"][0]
        assert first.prefill_path == path
        assert len(first.prompt_logprobs) == (length if fields else 0)
        assert prefill.engine.commands == []


async def test_a_prompt_cached_here_is_not_fetched() -> None:
    prefill, decode = prefill_worker(), decode_worker()
    async with running(prefill, decode), RouterClient(decode.address) as router:
        await router.send(submit_command("warm", PROMPT, greedy(1)))
        await router.finished("warm")
        await router.send(submit_command("a", PROMPT, greedy(6), candidates=[prefill.address]))
        assert await router.output("a") == solo_output(PROMPT, 6)
        assert router.updates["a"][0].prefill_path == "local:cached"
        assert prefill.engine.commands == []
