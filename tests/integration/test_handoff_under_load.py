"""Many hand-offs at once, over real gRPC with the fake engine: every output is its solo run's."""

import asyncio

from baton.engine.messages import KvArrived
from baton.worker.watch import Role
from support.fake_engine import FakeEngine, greedy, solo_output
from support.fake_workers import FakeWorker, RouterClient, running, submit_command


def arrived_blocks(worker: FakeWorker) -> int:
    """Leading blocks the decode engine was told of."""
    told = [c.blocks for c in worker.engine.commands if isinstance(c, KvArrived)]
    return max(told, default=0)


async def test_64_requests_at_once_are_each_that_of_their_solo_run() -> None:
    prefill = FakeWorker(Role.PREFILL, FakeEngine(block_count=96, step_tokens_max=32))
    decode = FakeWorker(
        Role.DECODE, FakeEngine(block_count=160, step_tokens_max=32, sequences_max=16)
    )
    prompts = {f"r{i}": [(i * 31 + j * 7) % 250 + 1 for j in range(3 + i)] for i in range(64)}
    async with running(prefill, decode), RouterClient(decode.address) as router:
        for request_id, prompt in prompts.items():
            await router.send(
                submit_command(request_id, prompt, greedy(8), candidates=[prefill.address])
            )
        for request_id, prompt in prompts.items():
            assert await router.output(request_id) == solo_output(prompt, 8)
            assert len(router.terminals(request_id)) == 1
        assert decode.metric("baton_decode_prefill_total", path="remote") > 0
        await asyncio.gather(prefill.until_idle(), decode.until_idle())


async def test_prefill_killed_under_load_changes_no_output() -> None:
    prefill = FakeWorker(Role.PREFILL, FakeEngine(block_count=160))
    decode = FakeWorker(Role.DECODE, FakeEngine(block_count=160, sequences_max=8))
    prompts = {f"r{i}": [(i * 31 + j * 7) % 250 + 1 for j in range(20 + i)] for i in range(24)}
    async with running(prefill, decode), RouterClient(decode.address) as router:
        prefill.ration(40)
        for request_id, prompt in prompts.items():
            await router.send(
                submit_command(request_id, prompt, greedy(8), candidates=[prefill.address])
            )
        await decode.until(lambda: arrived_blocks(decode) >= 3)
        await prefill.kill()
        for request_id, prompt in prompts.items():
            assert await router.output(request_id) == solo_output(prompt, 8)
        await decode.until_idle()
