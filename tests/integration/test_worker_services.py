"""What a router sees of a decode worker, over real gRPC: one terminal update per request, whatever
happens to the request, the stream or the worker."""

import asyncio
from functools import partial
from typing import Any

import grpc.aio
import pytest
from baton.decode.service import DecodeService
from baton.decode.updates import finish_update
from baton.engine.messages import Cancel, EngineLoad, StepReport
from baton.engine.params import FinishReason, SamplingParams
from baton.rpc.channels import Channels
from baton.rpc.v1 import decode_pb2, decode_pb2_grpc, worker_pb2, worker_pb2_grpc
from baton.worker.drain import drain
from baton.worker.loop import QueueLimits
from baton.worker.state import WorkerEvent
from baton.worker.turns import Turn
from baton.worker.watch import PENDING_BLOCKS_MAX, Role
from support.fake_engine import FakeEngine, greedy, solo_output
from support.fake_workers import (
    LIMIT_S,
    NUDGE_ID,
    FakeWorker,
    RouterClient,
    cancel_command,
    running,
    submit_command,
)

PROMPT = [7 + i % 50 for i in range(21)]


def decode_worker(**options: Any) -> FakeWorker:
    return FakeWorker(Role.DECODE, FakeEngine(), **options)


def cancelled(worker: FakeWorker) -> set[str]:
    """Engine ids of requests that were cancelled."""
    told = {c.request_id for c in worker.engine.commands if isinstance(c, Cancel)}
    return told - {NUDGE_ID}


async def test_a_local_request_is_answered_and_says_why_it_was_local() -> None:
    decode = decode_worker()
    async with running(decode), RouterClient(decode.address) as router:
        await router.send(submit_command("a", PROMPT, greedy(5)))
        assert await router.output("a") == solo_output(PROMPT, 5)
        updates = router.updates["a"]
        assert updates[0].prefill_path == "local:no_prefill"
        assert updates[0].HasField("cached_tokens")
        assert not any(update.prefill_path for update in updates[1:])
        assert updates[-1].finish_reason == decode_pb2.FINISH_REASON_LENGTH


async def test_one_frame_carries_all_requests_of_a_step() -> None:
    decode = decode_worker()
    async with running(decode), RouterClient(decode.address) as router:
        decode.ration(0)
        for request_id in ("a", "b", "c"):
            await router.send(submit_command(request_id, [1, 2], greedy(3)))
        await decode.until(lambda: len(decode.engine.commands) >= 4)
        decode.ration(None)
        for request_id in ("a", "b", "c"):
            await router.finished(request_id)
        assert [len(frame.updates) for frame in router.frames] == [3, 3, 3]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (submit_command("bad", [], greedy(5)), "invalid_request"),
        (submit_command("bad", [9_999], greedy(5)), "invalid_request"),
        (submit_command("bad", [1] * 1_000, greedy(5)), "context_length_exceeded"),
        (submit_command("bad", [1], SamplingParams(max_tokens=0)), "invalid_request"),
        (submit_command("bad", [1], SamplingParams(5, top_p=0.0)), "invalid_request"),
    ],
)
async def test_a_bad_request_ends_alone(command: decode_pb2.DecodeCommand, code: str) -> None:
    decode = decode_worker()
    async with running(decode), RouterClient(decode.address) as router:
        await router.send(submit_command("good", PROMPT, greedy(5)))
        await router.send(command)
        last = await router.finished("bad")
        assert last.finish_reason == decode_pb2.FINISH_REASON_ERROR
        assert (last.error.code, last.error.retryable) == (code, False)
        assert await router.output("good") == solo_output(PROMPT, 5)


async def test_a_request_that_comes_too_late_ends_at_once() -> None:
    decode = decode_worker()
    async with running(decode), RouterClient(decode.address) as router:
        await router.send(submit_command("a", PROMPT, greedy(5), deadline_s=0.0))
        last = await router.finished("a")
        assert last.finish_reason == decode_pb2.FINISH_REASON_DEADLINE
        assert decode.loop.live == 0


async def test_an_id_used_twice_ends_once_with_an_error() -> None:
    decode = decode_worker()
    async with running(decode), RouterClient(decode.address) as router:
        decode.ration(0)
        await router.send(submit_command("a", PROMPT, greedy(50)))
        await router.send(submit_command("a", PROMPT, greedy(50)))
        last = await router.finished("a")
        assert last.error.code == "invalid_request"
        decode.ration(None)
        await decode.until_idle()
        await router.send(submit_command("b", PROMPT, greedy(2)))
        await router.finished("b")
        assert len(router.terminals("a")) == 1


async def test_two_routers_may_use_the_same_id() -> None:
    decode = decode_worker()
    async with (
        running(decode),
        RouterClient(decode.address) as one,
        RouterClient(decode.address) as two,
    ):
        await one.send(submit_command("a", PROMPT, greedy(5)))
        await two.send(submit_command("a", PROMPT[::-1], greedy(5)))
        assert await one.output("a") == solo_output(PROMPT, 5)
        assert await two.output("a") == solo_output(PROMPT[::-1], 5)


async def test_cancel_ends_the_request_and_crossing_or_unknown_ones_are_ignored() -> None:
    decode = decode_worker()
    async with running(decode), RouterClient(decode.address) as router:
        decode.ration(3)
        await router.send(cancel_command("nobody"))
        await router.send(submit_command("a", PROMPT, greedy(50)))
        await decode.until(lambda: len(decode.engine.commands) >= 2)
        await router.send(cancel_command("a"))
        await router.send(cancel_command("a"))
        last = await router.finished("a")
        assert last.finish_reason == decode_pb2.FINISH_REASON_CANCELLED
        await decode.until_idle()
        assert len(router.terminals("a")) == 1


async def test_a_broken_stream_cancels_what_it_carried_and_nothing_else() -> None:
    decode = decode_worker()
    async with running(decode), RouterClient(decode.address) as staying:
        async with RouterClient(decode.address) as leaving:
            decode.ration(4)
            await leaving.send(submit_command("gone", PROMPT, greedy(200)))
            await leaving.until(lambda: bool(leaving.updates["gone"]))
            await staying.send(submit_command("kept", PROMPT, greedy(20)))
        await decode.until(lambda: len(cancelled(decode)) == 1)
        decode.ration(None)
        assert await staying.output("kept") == solo_output(PROMPT, 20)
        await decode.until_idle()


async def test_a_router_that_closes_its_side_gets_all_answers_then_the_end() -> None:
    decode = decode_worker()
    async with running(decode), RouterClient(decode.address) as router:
        await router.send(submit_command("a", PROMPT, greedy(20)))
        await router.call.done_writing()
        assert await router.output("a") == solo_output(PROMPT, 20)
        assert await asyncio.wait_for(router.call.code(), LIMIT_S) is grpc.StatusCode.OK


async def test_above_the_queue_a_request_is_refused_as_retryable() -> None:
    decode = decode_worker(limits=QueueLimits(1, 1_000))
    async with running(decode), RouterClient(decode.address) as router:
        decode.ration(0)
        await router.send(submit_command("a", PROMPT, greedy(2)))
        await router.send(submit_command("b", PROMPT, greedy(2)))
        last = await router.finished("b")
        assert (last.error.code, last.error.retryable) == ("overloaded", True)
        decode.ration(None)
        await router.finished("a")


async def test_a_failed_engine_ends_every_request_as_retryable() -> None:
    decode = decode_worker()
    async with running(decode), RouterClient(decode.address) as router:
        decode.engine.runner.fail_next = RuntimeError("device lost")
        await router.send(submit_command("a", PROMPT, greedy(2)))
        last = await router.finished("a")
        assert (last.error.code, last.error.retryable) == ("worker_failed", True)
        await router.send(submit_command("b", PROMPT, greedy(2)))
        assert (await router.finished("b")).error.retryable
        assert isinstance(decode.failure, RuntimeError)


SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384))
"""Of a channel: gRPC otherwise grows its windows to megabytes, an hour's tokens for a fake."""


async def read_to_end(call: Any) -> None:
    """Raises what the call ended with."""
    while await asyncio.wait_for(call.read(), LIMIT_S) is not grpc.aio.EOF:
        pass


async def test_a_router_that_does_not_read_loses_its_stream_and_its_work() -> None:
    decode = FakeWorker(
        Role.DECODE,
        FakeEngine(block_count=600),
        new_service=partial(DecodeService, outbox_frames_max=4),
    )
    async with running(decode):
        channel = grpc.aio.insecure_channel(decode.address, options=SMALL_WINDOW)
        stub = decode_pb2_grpc.DecodeStub(channel)
        call = stub.Stream()
        wanted = SamplingParams(2_000, temperature=0.0, ignore_eos=True)
        decode.ration(0)
        for number in range(8):  # ids as long as allowed fill the windows faster
            name = f"{number}" + "x" * 255
            await call.write(submit_command(name, [number + 1], wanted, deadline_s=60))
        await decode.until(lambda: decode.loop.live == 8)
        decode.ration(None)
        await decode.until(lambda: len(cancelled(decode)) == 8)
        await decode.until_idle()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await read_to_end(call)
        assert ended.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await channel.close()


async def watched(worker: FakeWorker, channels: Channels) -> Any:
    stub = worker_pb2_grpc.WorkerStub(channels.channel(worker.address))
    return stub.Watch(worker_pb2.WatchRequest())


async def next_event(call: Any) -> worker_pb2.WatchEvent:
    event = await asyncio.wait_for(call.read(), LIMIT_S)
    assert isinstance(event, worker_pb2.WatchEvent)
    return event


async def test_a_watcher_follows_blocks_load_and_state_without_a_gap() -> None:
    decode, channels = decode_worker(), Channels()
    async with running(decode), RouterClient(decode.address) as router:
        call = await watched(decode, channels)
        events = [await next_event(call)]
        assert events[0].card.model_name == "fake"
        assert events[0].state == worker_pb2.WORKER_STATE_READY
        await router.send(submit_command("a", PROMPT, greedy(5)))
        while sum(len(event.blocks_added) for event in events) < 6:  # 25 tokens of KV
            events.append(await next_event(call))
        assert events[-1].load.step > 0
        decode.life.advance(WorkerEvent.DRAIN)
        decode.hub.state_changed()
        while events[-1].state != worker_pb2.WORKER_STATE_DRAINING:
            events.append(await next_event(call))
        assert [event.sequence for event in events] == list(range(len(events)))
        assert {event.incarnation for event in events} == {7}
        call.cancel()
        await channels.aclose()


async def test_an_idle_worker_still_sends_heartbeats() -> None:
    decode, channels = decode_worker(heartbeat_s=0.01), Channels()
    async with running(decode):
        call = await watched(decode, channels)
        sequences = [(await next_event(call)).sequence for _ in range(4)]
        assert sequences == [0, 1, 2, 3]
        call.cancel()
        await channels.aclose()


async def test_a_watcher_that_goes_is_forgotten() -> None:
    decode, channels = decode_worker(heartbeat_s=0.01), Channels()
    async with running(decode):
        call = await watched(decode, channels)
        await next_event(call)
        assert decode.hub.watchers == 1
        call.cancel()
        await channels.aclose()
        await decode.server.stop(LIMIT_S)  # returns when no call is left
        assert decode.hub.watchers == 0


async def test_a_watcher_too_slow_for_deltas_loses_its_stream() -> None:
    decode, channels = decode_worker(), Channels()
    async with running(decode):
        call = await watched(decode, channels)
        await next_event(call)
        flood = tuple(number.to_bytes(16, "big") for number in range(PENDING_BLOCKS_MAX + 1))
        decode.hub.observe(Turn(StepReport((), flood, (), EngineLoad(0, 0, 0, 0, 0)), (), 0.0))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await read_to_end(call)
        assert ended.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        again = await watched(decode, channels)
        assert (await next_event(again)).HasField("card")
        again.cancel()
        await channels.aclose()


async def test_a_starting_worker_can_be_watched_and_refuses_work() -> None:
    decode, channels = decode_worker(), Channels()
    decode.address = f"127.0.0.1:{decode.server.add_insecure_port('127.0.0.1:0')}"
    await decode.server.start()
    async with RouterClient(decode.address) as router:
        call = await watched(decode, channels)
        assert (await next_event(call)).state == worker_pb2.WORKER_STATE_STARTING
        await router.send(submit_command("a", PROMPT, greedy(2)))
        last = await router.finished("a")
        assert (last.error.code, last.error.retryable) == ("unavailable", True)
        call.cancel()
    await channels.aclose()
    await decode.server.stop(0)


def test_every_finish_reason_has_its_own_word_on_the_wire() -> None:
    words = {finish_update("a", reason).finish_reason for reason in FinishReason}
    assert len(words) == len(FinishReason)
    assert decode_pb2.FINISH_REASON_UNSPECIFIED not in words


async def test_the_end_of_a_worker_ends_its_watches_with_its_state_as_the_last_word() -> None:
    decode, channels = decode_worker(), Channels()
    async with running(decode):
        call = await watched(decode, channels)
        await next_event(call)
        assert await drain(decode.life, decode.hub, decode.loop, timeout_s=LIMIT_S, linger_s=0)
        decode.hub.end()
        states = []
        while (event := await asyncio.wait_for(call.read(), LIMIT_S)) is not grpc.aio.EOF:
            states.append(event.state)
        assert states[-1] == worker_pb2.WORKER_STATE_DRAINING
        assert await call.code() is grpc.StatusCode.OK
        await channels.aclose()
