"""Many at once, a prefill worker killed in the middle, clients that go away: no request is lost.

Every streamed answer must equal its solo run. The solo runs also tell how near to a tie each choice
was; prompts with a near tie are left out, since the batch size may change the last bits of a logit.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest
from baton.rpc.v1 import worker_pb2, worker_pb2_grpc
from openai import AsyncOpenAI, OpenAI
from support.stack import Stack, serve

MODEL = "smollm2-135m"
CONCURRENT = 64
MARGIN_MIN = 2e-3  # between the two likeliest tokens' logprobs; batching moves them by some 1e-5
FREED_LIMIT_S = 1.0
SUBJECTS = (
    *("rivers", "bread", "the moon", "chess", "bees", "glass", "Latin", "salt", "trains", "ink"),
    *("volcanoes", "silk", "owls", "tea", "maps", "rust"),
)
OPENINGS = (
    "Write a sentence about {}.",
    "The history of {} began",
    "Dear reader, this letter tells you everything that I have learned about {} in a long life: ",
    "List three facts about this, with a reason, and say where each was found. " * 4 + "Topic: {}.",
    "Q: What are {}? A:",
)

pytestmark = [pytest.mark.smollm2, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Work:
    prompt: str
    max_tokens: int


@dataclass(frozen=True)
class Solo:
    work: Work
    text: str


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with serve(tmp_path_factory.mktemp("fire") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def solos(stack: Stack) -> list[Solo]:
    """What each prompt gets when it is alone."""
    found: list[Solo] = []
    with OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        for index in range(len(SUBJECTS) * len(OPENINGS)):
            opening = OPENINGS[index % len(OPENINGS)]
            work = Work(opening.format(SUBJECTS[index % len(SUBJECTS)]), 6 + index % 11)
            answer = client.completions.create(
                model=MODEL,
                prompt=work.prompt,
                max_tokens=work.max_tokens,
                temperature=0,
                logprobs=2,
                extra_body={"ignore_eos": True},
            )
            logprobs = answer.choices[0].logprobs
            assert logprobs is not None
            leads = [sorted(top.values())[-2:] for top in logprobs.top_logprobs or []]
            if all(best - second > MARGIN_MIN for second, best in leads):
                found.append(Solo(work, answer.choices[0].text))
    assert len(found) >= CONCURRENT
    return found[:CONCURRENT]


async def stream(client: AsyncOpenAI, work: Work, begun: asyncio.Event | None = None) -> str:
    pieces = []
    async for chunk in await client.completions.create(
        model=MODEL,
        prompt=work.prompt,
        max_tokens=work.max_tokens,
        temperature=0,
        stream=True,
        extra_body={"ignore_eos": True},
    ):
        if begun is not None:
            begun.set()
        pieces += [choice.text for choice in chunk.choices]
    return "".join(pieces)


async def test_64_streams_at_once_each_say_what_they_say_alone(
    stack: Stack, solos: list[Solo]
) -> None:
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        texts = await asyncio.gather(*(stream(client, solo.work) for solo in solos))
    assert texts == [solo.text for solo in solos]


async def test_seeded_draws_are_the_same_in_a_crowd(stack: Stack) -> None:
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:

        async def draw(seed: int) -> str:
            answer = await client.completions.create(
                model=MODEL,
                prompt=f"My favourite thing about {SUBJECTS[seed]} is that",
                max_tokens=24,
                temperature=0.9,
                seed=seed,
                extra_body={"ignore_eos": True},
            )
            return answer.choices[0].text

        alone = [await draw(seed) for seed in range(8)]
        crowd = await asyncio.gather(*(draw(seed) for seed in range(8)))
    assert crowd == alone


async def test_a_killed_prefill_worker_costs_no_request_and_is_restarted(
    stack: Stack, solos: list[Solo]
) -> None:
    victim = stack.children()["prefill"]
    # Other prompts than before, so that decode's cache does not spare the hand-off.
    works = [Work(f"{index}. {solo.work.prompt}", 8) for index, solo in enumerate(solos)]
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        begun = asyncio.Event()
        running = [asyncio.create_task(stream(client, work, begun)) for work in works]
        await begun.wait()
        assert sum(task.done() for task in running) < CONCURRENT
        os.kill(victim, signal.SIGKILL)
        texts = await asyncio.gather(*running)
        stack.wait_for(r"prefill-0 .*(killed|SIGKILL|signal)")
        again = [await stream(client, work) for work in works[:16]]
    assert all(texts)
    assert texts[:16] == again
    stack.wait_for(r"restart")
    assert stack.children()["prefill"] != victim


async def watch_blocks(address: str, used: dict[str, int], changed: asyncio.Condition) -> None:
    """Keep `used[address]` at the KV blocks that a worker says it holds."""
    async with grpc.aio.insecure_channel(address) as channel:
        async for event in worker_pb2_grpc.WorkerStub(channel).Watch(worker_pb2.WatchRequest()):
            async with changed:
                used[address] = event.load.blocks_used
                changed.notify_all()


@pytest.fixture
def fresh_stack(tmp_path: Path) -> Iterator[Stack]:
    """Its workers were calibrated side by side: one that was restarted in a crowd looks slow to the
    router, which then has decode compute prompts itself, as it should."""
    with serve(tmp_path / "log") as running:
        yield running


async def test_clients_that_go_away_free_their_blocks_on_both_sides_within_a_second(
    fresh_stack: Stack,
) -> None:
    stack, addresses = fresh_stack, fresh_stack.worker_addresses()
    used: dict[str, int] = {}
    changed = asyncio.Condition()
    watches = [asyncio.create_task(watch_blocks(a, used, changed)) for a in addresses]
    # Two that decode for long, and prompts of seconds: more than decode would rather compute alone.
    works = [Work(f"Never stop counting, {index}: 1, 2, 3,", 1500) for index in range(2)]
    works += [Work(f"{index}: " + "So many words. " * 480, 10) for index in range(8)]

    async def until(wanted: Callable[[int], bool]) -> None:
        async with changed:
            await changed.wait_for(
                lambda: len(used) == len(addresses) and all(wanted(n) for n in used.values())
            )

    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        async with asyncio.timeout(30):
            await until(lambda blocks: blocks == 0)
        running = [asyncio.create_task(stream(client, work)) for work in works]
        async with asyncio.timeout(60):
            await until(lambda blocks: blocks > 0)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        async with asyncio.timeout(FREED_LIMIT_S):
            await until(lambda blocks: blocks == 0)
    for watch in watches:
        watch.cancel()
    await asyncio.gather(*watches, return_exceptions=True)


def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    with serve(tmp_path / "log", "--prefill", "0") as stack:
        children = list(stack.children().values())
        assert len(children) == 2
        assert stack.stop() == 0
        assert not any(Path(f"/proc/{child}").exists() for child in children)
