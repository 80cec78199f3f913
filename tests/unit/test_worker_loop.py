"""The bridge to the engine's thread: who is told what, what is refused, how it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from baton.common.errors import (
    BatonError,
    EngineFailure,
    InvalidRequest,
    ModelFileError,
    Overloaded,
    PromptTooLong,
    Unavailable,
)
from baton.engine.messages import Cancel, KvLost, Release, Submit, Tokens
from baton.engine.params import FinishReason
from baton.worker.loop import EngineLoop, Notice, QueueLimits
from baton.worker.turns import EngineApi, Refused, Turn
from support.fake_engine import FakeEngine, greedy, solo_output
from support.no_grammars import refuse_grammar

LIMIT_S = 5.0


class Owner:
    """Subscriber that keeps everything, and can be waited for."""

    def __init__(self) -> None:
        self.deliveries: list[list[Notice]] = []
        self._came = asyncio.Event()

    def deliver(self, notices: Sequence[Notice]) -> None:
        self.deliveries.append(list(notices))
        self._came.set()

    @property
    def notices(self) -> list[Notice]:
        return [notice for delivery in self.deliveries for notice in delivery]

    def tokens(self, request_id: str) -> list[int]:
        return [
            token.token_id
            for notice in self.notices
            if isinstance(notice, Tokens) and notice.request_id == request_id
            for token in notice.tokens
        ]

    def ended(self, request_id: str) -> BatonError | FinishReason | None:
        for notice in self.notices:
            if notice.request_id == request_id:
                if isinstance(notice, Refused):
                    return notice.error
                if isinstance(notice, Tokens) and notice.finish is not None:
                    return notice.finish
        return None

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                self._came.clear()
                await self._came.wait()

    async def until_ended(self, request_id: str) -> BatonError | FinishReason:
        await self.until(lambda: self.ended(request_id) is not None)
        end = self.ended(request_id)
        assert end is not None
        return end


class Bridge:
    def __init__(self, engine: EngineApi, limits: QueueLimits) -> None:
        self.turns: list[Turn] = []
        self.failures: list[Exception] = []
        self.loop = EngineLoop(
            lambda: engine,
            limits=limits,
            constrain=refuse_grammar,
            observe=self.turns.append,
            broken=self.failures.append,
        )


@asynccontextmanager
async def bridged(
    engine: EngineApi, *, requests_max: int = 100, tokens_max: int = 10_000
) -> AsyncIterator[Bridge]:
    bridge = Bridge(engine, QueueLimits(requests_max, tokens_max))
    await bridge.loop.start()
    try:
        yield bridge
    finally:
        await bridge.loop.stop()


def submit(request_id: str, length: int = 5, max_tokens: int = 4) -> Submit:
    return Submit(request_id, tuple(range(1, length + 1)), greedy(max_tokens))


async def test_each_owner_hears_of_its_own_requests_only() -> None:
    async with bridged(FakeEngine()) as bridge:
        first, second = Owner(), Owner()
        bridge.loop.submit(submit("a"), first)
        bridge.loop.submit(submit("b", length=9), second)
        assert await first.until_ended("a") is FinishReason.LENGTH
        assert await second.until_ended("b") is FinishReason.LENGTH
        assert first.tokens("a") == solo_output(range(1, 6), 4)
        assert second.tokens("b") == solo_output(range(1, 10), 4)
        assert {notice.request_id for notice in first.notices} == {"a"}
        assert bridge.loop.live == 0


async def test_one_turn_is_one_delivery_whatever_it_brings() -> None:
    engine = FakeEngine()
    engine.ration(0)
    async with bridged(engine) as bridge:
        owner = Owner()
        for request_id in ("a", "b", "c"):
            bridge.loop.submit(submit(request_id, length=2, max_tokens=1), owner)
        engine.ration(None)
        bridge.loop.post(Cancel("nobody", FinishReason.CANCELLED))
        for request_id in ("a", "b", "c"):
            await owner.until_ended(request_id)
        together = [{n.request_id for n in delivery} for delivery in owner.deliveries]
        assert together == [{"a", "b", "c"}]


async def test_a_submit_the_engine_cannot_run_ends_with_its_error() -> None:
    async with bridged(FakeEngine(block_count=4)) as bridge:
        owner = Owner()
        bridge.loop.submit(submit("a", length=100), owner)
        assert isinstance(await owner.until_ended("a"), PromptTooLong)
        assert bridge.loop.live == 0


async def test_requests_above_the_queue_are_refused_until_it_moves() -> None:
    engine = FakeEngine()
    engine.ration(0)
    async with bridged(engine, requests_max=2) as bridge:
        owner = Owner()
        bridge.loop.submit(submit("a"), owner)
        bridge.loop.submit(submit("b"), owner)
        with pytest.raises(Overloaded, match="2 requests are waiting"):
            bridge.loop.submit(submit("c"), owner)
        assert bridge.loop.live == 2
        engine.ration(None)
        bridge.loop.post(Cancel("nobody", FinishReason.CANCELLED))
        await owner.until_ended("a")
        await owner.until_ended("b")
        bridge.loop.submit(submit("c"), owner)
        assert await owner.until_ended("c") is FinishReason.LENGTH


async def test_prompt_tokens_above_the_queue_are_refused_but_a_lone_prompt_is_not() -> None:
    engine = FakeEngine()
    engine.ration(0)
    async with bridged(engine, tokens_max=10) as bridge:
        owner = Owner()
        bridge.loop.submit(submit("a", length=12), owner)
        with pytest.raises(Overloaded, match="12 tokens are waiting"):
            bridge.loop.submit(submit("b", length=1), owner)


async def test_an_id_in_use_is_refused() -> None:
    engine = FakeEngine()
    engine.ration(0)
    async with bridged(engine) as bridge:
        bridge.loop.submit(submit("a"), Owner())
        with pytest.raises(InvalidRequest, match="in use"):
            bridge.loop.submit(submit("a"), Owner())


async def test_a_command_out_of_place_ends_its_request_and_no_other() -> None:
    async with bridged(FakeEngine()) as bridge:
        owner = Owner()
        bridge.loop.submit(submit("a", max_tokens=200), owner)
        bridge.loop.submit(submit("b"), owner)
        bridge.loop.post(KvLost("a"))  # it expects no KV
        assert isinstance(await owner.until_ended("a"), BatonError)
        assert await owner.until_ended("b") is FinishReason.LENGTH
        assert bridge.failures == []


async def test_a_failed_step_ends_every_request_with_a_retryable_error_and_the_worker() -> None:
    engine = FakeEngine()
    engine.ration(0)
    async with bridged(engine) as bridge:
        owner = Owner()
        bridge.loop.submit(submit("a"), owner)
        bridge.loop.submit(submit("b"), owner)
        engine.runner.fail_next = EngineFailure("boom")
        engine.ration(None)
        bridge.loop.post(Cancel("nobody", FinishReason.CANCELLED))
        for request_id in ("a", "b"):
            end = await owner.until_ended(request_id)
            assert isinstance(end, Unavailable)
            assert end.retryable
        assert [str(failure) for failure in bridge.failures] == ["boom"]
        await bridge.loop.wait_idle()
        with pytest.raises(Unavailable, match="failed"):
            bridge.loop.submit(submit("c"), owner)


async def test_an_engine_that_cannot_be_built_says_why() -> None:
    def build() -> EngineApi:
        raise ModelFileError("weights are truncated")

    loop = EngineLoop(
        build,
        limits=QueueLimits(1, 1),
        constrain=refuse_grammar,
        observe=lambda turn: None,
        broken=lambda error: None,
    )
    with pytest.raises(ModelFileError, match="truncated"):
        await loop.start()
    await loop.stop()


async def test_a_released_export_is_no_longer_live() -> None:
    async with bridged(FakeEngine()) as bridge:
        owner = Owner()
        bridge.loop.submit(Submit("a", (1, 2, 3), greedy(4), export=True), owner)
        await owner.until(lambda: bool(owner.tokens("a")))
        assert bridge.loop.live == 1
        bridge.loop.post(Release("a"))
        await asyncio.wait_for(bridge.loop.wait_idle(), LIMIT_S)


async def test_an_idle_engine_takes_no_turns() -> None:
    async with bridged(FakeEngine()) as bridge:
        owner = Owner()
        bridge.loop.submit(submit("a"), owner)
        await owner.until_ended("a")
        before = len(bridge.turns)
        bridge.loop.submit(submit("b", max_tokens=1), owner)
        await owner.until_ended("b")
        assert len(bridge.turns) == before + 1  # the step of "b", and none while there was no work


async def test_one_owners_bug_does_not_silence_the_others() -> None:
    class Broken(Owner):
        def deliver(self, notices: Sequence[Notice]) -> None:
            raise RuntimeError("bug")

    async with bridged(FakeEngine()) as bridge:
        owner = Owner()
        bridge.loop.submit(submit("a"), Broken())
        bridge.loop.submit(submit("b"), owner)
        assert await owner.until_ended("b") is FinishReason.LENGTH
