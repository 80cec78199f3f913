"""Bytes no Baton sends: a worker says what is wrong with the call, and the connection serves on."""

import asyncio

import grpc
import grpc.aio
import pytest
from baton.handoff.codec import PrefillOrder, order_to_wire
from baton.rpc.channels import CHANNEL_OPTIONS, MESSAGE_BYTES_MAX
from baton.rpc.v1 import prefill_pb2, prefill_pb2_grpc
from baton.worker.watch import Role
from support.fake_engine import LAYOUT, FakeEngine, greedy, solo_output
from support.fake_workers import (
    LIMIT_S,
    FakeWorker,
    RouterClient,
    running,
    submit_command,
)

PROMPT = [7 + i % 50 for i in range(21)]
GARBAGE = [b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"\x00"]
UNBOUNDED = (*CHANNEL_OPTIONS, ("grpc.max_send_message_length", -1))


def raw(message: bytes) -> bytes:
    return message


async def runs(channel: grpc.aio.Channel) -> bool:
    """Whether a good hand-off comes through."""
    order = PrefillOrder("a", tuple(PROMPT), (), greedy(1))
    stub = prefill_pb2_grpc.PrefillStub(channel)
    call = stub.Run(order_to_wire(order, LAYOUT, skip_blocks=0), timeout=LIMIT_S)
    return [frame async for frame in call][-1].HasField("first_token")


async def ended(call: object) -> grpc.aio.AioRpcError:
    async def read_to_end() -> None:
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            pass

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(read_to_end(), LIMIT_S)
    return caught.value


@pytest.mark.parametrize("message", GARBAGE)
async def test_garbage_to_prefill_is_an_invalid_argument_and_the_connection_survives(
    message: bytes,
) -> None:
    prefill = FakeWorker(Role.PREFILL, FakeEngine())
    async with running(prefill):
        async with grpc.aio.insecure_channel(prefill.address, options=CHANNEL_OPTIONS) as channel:
            run = channel.unary_stream("/baton.rpc.v1.Prefill/Run", raw, raw)
            error = await ended(run(message))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert await runs(channel)
        await prefill.until_idle()


@pytest.mark.parametrize("message", GARBAGE)
async def test_garbage_on_a_decode_stream_ends_it_with_a_reason_and_no_other_stream(
    message: bytes,
) -> None:
    decode = FakeWorker(Role.DECODE, FakeEngine())
    async with running(decode), RouterClient(decode.address) as router:
        decode.ration(2)
        await router.send(submit_command("a", PROMPT, greedy(5)))
        async with grpc.aio.insecure_channel(decode.address, options=CHANNEL_OPTIONS) as channel:
            call = channel.stream_stream("/baton.rpc.v1.Decode/Stream", raw, raw)()
            wire = submit_command("b", PROMPT, greedy(5)).SerializeToString()
            await call.write(wire)
            await decode.until(lambda: decode.loop.live == 2)
            await call.write(message)
            assert (await ended(call)).code() is grpc.StatusCode.INVALID_ARGUMENT
        await decode.until(lambda: decode.loop.live == 1)
        decode.ration(None)
        assert await router.output("a") == solo_output(PROMPT, 5)
        await decode.until_idle()


async def test_a_message_above_the_limit_is_refused_and_the_connection_survives() -> None:
    prefill = FakeWorker(Role.PREFILL, FakeEngine())
    async with running(prefill):
        channel = grpc.aio.insecure_channel(prefill.address, options=UNBOUNDED)
        run = channel.unary_stream("/baton.rpc.v1.Prefill/Run", raw, raw)
        error = await ended(run(b"\x0a" + b"x" * (MESSAGE_BYTES_MAX + 1)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await runs(channel)
        await channel.close()


@pytest.mark.parametrize(
    "frames",
    [
        [prefill_pb2.PrefillFrame()],
        [prefill_pb2.PrefillFrame(kv=prefill_pb2.KvBlocks())],
        [prefill_pb2.PrefillFrame(kv=prefill_pb2.KvBlocks(first_block=0, block_count=2**32 - 1))],
        [prefill_pb2.PrefillFrame(kv=prefill_pb2.KvBlocks(block_count=1, payload=b"x"))],
        [prefill_pb2.PrefillFrame(first_token=prefill_pb2.FirstToken(position=2**31))],
        [],
    ],
    ids=["empty", "no blocks", "too many blocks", "short payload", "early token", "nothing"],
)
async def test_frames_that_do_not_fit_cost_the_handoff_and_nothing_else(
    frames: list[prefill_pb2.PrefillFrame],
) -> None:
    class Liar(prefill_pb2_grpc.PrefillServicer):
        async def Run(self, request, context) -> None:  # type: ignore[no-untyped-def]  # noqa: N802
            for frame in frames:
                await context.write(frame)

    server = grpc.aio.server()
    prefill_pb2_grpc.add_PrefillServicer_to_server(Liar(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    decode = FakeWorker(Role.DECODE, FakeEngine())
    async with running(decode), RouterClient(decode.address) as router:
        await router.send(submit_command("a", PROMPT, greedy(5), candidates=[address]))
        assert await router.output("a") == solo_output(PROMPT, 5)
        assert router.updates["a"][0].prefill_path == "local:prefill_failed"
        assert decode.metric("baton_handoff_total", outcome="corrupt") == 1
        await decode.until_idle()
    await server.stop(0)
