"""What a hand-off adds to the time to the first token, from what both workers count of it.

Prompts go straight to the decode worker with the prefill worker named: the router, which would
compute them wherever that is faster, is not asked. One at a time, so that nothing waits. Knows the
workers' metrics and streams; knows no engine.
"""

from collections.abc import Sequence

import httpx
from baton.common.errors import Unavailable
from baton.engine.params import SamplingParams
from baton.rpc.channels import Channels
from baton.rpc.convert import params_to_wire
from baton.rpc.v1 import decode_pb2, decode_pb2_grpc, worker_pb2, worker_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from baton_loadtest.gpu_report import HandoffFigures
from baton_loadtest.gpu_stack import GpuStack

LIMIT_S = 60.0
"""Of every call: a lone prompt takes seconds at most."""

CALLED = "baton_handoff_seconds"
QUEUED, COMPUTED = "vllm:request_queue_time_seconds", "vllm:request_prefill_time_seconds"
RECEIVED = "baton_handoff_bytes_total"
DECISIONS = "baton_router_decisions_total"
GREEDY = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True)


async def measure_handoff(stack: GpuStack, prompts: Sequence[Sequence[int]]) -> HandoffFigures:
    """Prompts of one length, two at least, which neither worker has seen; the first only connects
    the workers. Raises Unavailable."""
    first, *counted = prompts
    channels = Channels()
    try:
        await _hand_over(channels, stack, "handoff-first", first)
        before = await _read(stack)
        for number, prompt in enumerate(counted):
            await _hand_over(channels, stack, f"handoff-{number}", prompt)
        after = await _read(stack)
        rate = await _transfer_rate(channels, stack)
    finally:
        await channels.aclose()
    spent = {name: (after[name] - before[name]) / len(counted) for name in after}
    return HandoffFigures(
        prompts=len(counted),
        prompt_tokens=len(first),
        moved_bytes=spent[RECEIVED],
        called_s=spent[CALLED],
        prefill_s=spent[QUEUED] + spent[COMPUTED],
        bytes_per_s=rate,
    )


async def _hand_over(
    channels: Channels, stack: GpuStack, request_id: str, prompt: Sequence[int]
) -> None:
    """One request from submit to its one token."""
    call = decode_pb2_grpc.DecodeStub(channels.channel(stack.decode.address)).Stream(
        timeout=LIMIT_S
    )
    submit = decode_pb2.Submit(
        request_id=request_id,
        prompt_token_ids=prompt,
        sampling=params_to_wire(GREEDY),
        deadline_s=LIMIT_S,
        prefill_candidates=[stack.prefill.address],
    )
    await call.write(decode_pb2.DecodeCommand(submit=submit))
    while isinstance(frame := await call.read(), decode_pb2.StepFrame):
        for update in frame.updates:
            if update.HasField("error"):
                raise Unavailable(update.error.message)
            if update.prefill_path not in ("", "remote"):
                raise Unavailable(f"the prompt was not handed over: {update.prefill_path}")
            if update.finish_reason:
                call.cancel()
                return
    raise Unavailable("the decode worker ended the stream")


async def _transfer_rate(channels: Channels, stack: GpuStack) -> float:
    """Bytes per second, from the decode worker's own model of its costs."""
    stub = worker_pb2_grpc.WorkerStub(channels.channel(stack.decode.address))
    call = stub.Watch(worker_pb2.WatchRequest(), timeout=LIMIT_S)
    event = await call.read()
    call.cancel()
    if not isinstance(event, worker_pb2.WatchEvent) or not event.cost_model.transfers:
        raise Unavailable("the decode worker tells no rate of its hand-offs")
    return max(transfer.bytes_per_s for transfer in event.cost_model.transfers)


async def prompts_by_reason(stack: GpuStack) -> dict[str, int]:
    """Of what came through the router: where it had prompts computed, and why there."""
    return {
        sample.labels["reason"]: int(sample.value)
        for sample in await _samples(stack.url)
        if sample.name == DECISIONS
    }


async def _read(stack: GpuStack) -> dict[str, float]:
    """Sums since the workers' start: decode's of hand-offs, prefill's of its own time."""
    decode, prefill = (
        await _samples(stack.decode.status_url),
        await _samples(stack.prefill.status_url),
    )
    return {
        CALLED: _total(decode, f"{CALLED}_sum"),
        RECEIVED: _total(decode, RECEIVED),
        QUEUED: _total(prefill, f"{QUEUED}_sum"),
        COMPUTED: _total(prefill, f"{COMPUTED}_sum"),
    }


async def _samples(url: str) -> list[Sample]:
    async with httpx.AsyncClient(trust_env=False) as http:
        page = (await http.get(f"{url}/metrics")).text
    families = text_string_to_metric_families(page)
    return [sample for family in families for sample in family.samples]


def _total(samples: Sequence[Sample], series: str) -> float:
    """Over all label values; 0 for a series that has not begun."""
    return sum(float(sample.value) for sample in samples if sample.name == series)
