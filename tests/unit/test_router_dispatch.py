"""The story of one request: followed to its end, moved when a worker fails, never lost."""

from contextlib import aclosing
from dataclasses import replace

import pytest
from baton.common.errors import (
    DeadlineExceeded,
    Draining,
    EngineFailure,
    InvalidRequest,
    Overloaded,
    PromptTooLong,
    Unavailable,
)
from baton.common.metrics import Metrics
from baton.engine.params import FinishReason, SamplingParams, TokenSample
from baton.router.dispatch import Dispatcher
from baton.router.work import Update, Work
from prometheus_client import CollectorRegistry
from support.fake_fleet import LOST, FakeFleet, FakeLinks, HandClock, decode_worker, refused, tokens

EOS = 9
STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH
WORK = Work("w", (1, 2, 3), SamplingParams(max_tokens=4), deadline_s=160.0)
A, B, C, D = (decode_worker(address) for address in "abcd")


def dispatcher(links: FakeLinks, fleet: FakeFleet, clock: HandClock | None = None) -> Dispatcher:
    return Dispatcher(
        fleet=fleet,
        links=links,
        clock=clock or HandClock(),
        metrics=Metrics(CollectorRegistry(), model_name="m"),
        eos_token_ids=[EOS],
        ready_wait_s=5.0,
    )


async def ran(links: FakeLinks, fleet: FakeFleet, work: Work = WORK) -> list[Update]:
    return [update async for update in dispatcher(links, fleet).run(work)]


def token_ids(updates: list[Update]) -> list[int]:
    return [sample.token_id for update in updates for sample in update.tokens]


async def test_updates_pass_through_until_the_finish() -> None:
    links = FakeLinks([tokens(5), tokens(6, 7, finish=STOP)])
    updates = await ran(links, FakeFleet(A))
    assert token_ids(updates) == [5, 6, 7]
    assert [update.finish for update in updates] == [None, STOP]
    submission = links.tickets[0].submission
    assert (submission.prompt, submission.output, submission.remaining_s) == ((1, 2, 3), (), 60.0)


async def test_a_lost_worker_is_replaced_by_another_which_continues() -> None:
    links = FakeLinks([tokens(5), tokens(6), LOST], [tokens(7, 8, finish=LENGTH)])
    updates = await ran(links, FakeFleet(A, B))
    assert token_ids(updates) == [5, 6, 7, 8]
    first, second = links.tickets
    assert second.submission.output == (5, 6)
    assert second.submission.params == first.submission.params
    assert second.submission.request_id != first.submission.request_id
    assert len(set(links.addresses)) == 2


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param([refused(Draining("leaving"))], id="refused"),
        pytest.param([Update(finish=FinishReason.CANCELLED)], id="given-up"),
        pytest.param(Unavailable("not reachable"), id="not-reachable"),
        pytest.param(Overloaded("lags behind"), id="overloaded"),
    ],
)
async def test_what_may_succeed_elsewhere_is_tried_elsewhere(
    failure: list[Update] | Unavailable,
) -> None:
    links = FakeLinks(failure, [tokens(5, finish=STOP)])
    assert token_ids(await ran(links, FakeFleet(A, B))) == [5]
    assert len(set(links.addresses)) == 2


@pytest.mark.parametrize(
    "error", [InvalidRequest("bad"), EngineFailure("a step failed")], ids=["invalid", "failed"]
)
async def test_what_would_fail_anywhere_is_not_tried_again(error: InvalidRequest) -> None:
    links = FakeLinks([refused(error)])
    with pytest.raises(type(error)):
        await ran(links, FakeFleet(A, B))


async def test_two_crashes_under_a_request_are_enough() -> None:
    links = FakeLinks([tokens(5), LOST], [tokens(6), LOST])
    with pytest.raises(EngineFailure, match="2 workers went away"):
        await ran(links, FakeFleet(A, B, C))


async def test_three_tries_are_the_limit() -> None:
    links = FakeLinks(*([refused(Draining("no"))] for _ in range(3)))
    with pytest.raises(Draining):
        await ran(links, FakeFleet(A, B, C, D))
    assert len(links.addresses) == 3


async def test_overload_of_the_only_worker_is_told_at_once() -> None:
    fleet = FakeFleet(A)
    with pytest.raises(Overloaded, match="full"):
        await ran(FakeLinks([refused(Overloaded("full"))]), fleet)
    assert fleet.waited_s == []


async def test_a_worker_that_comes_back_takes_its_request_again() -> None:
    again = decode_worker("a", incarnation=2)
    links = FakeLinks([tokens(5), LOST], [tokens(6, finish=STOP)])
    fleet = FakeFleet(A, when_waited=lambda: [again])
    assert token_ids(await ran(links, fleet)) == [5, 6]
    assert links.addresses == ["a", "a"]


async def test_without_a_ready_worker_the_wait_is_short() -> None:
    fleet = FakeFleet(decode_worker("a", ready=False))
    with pytest.raises(Unavailable, match="no decode worker is ready"):
        await ran(FakeLinks(), fleet)
    assert fleet.waited_s == [5.0]


async def test_the_wait_never_exceeds_the_deadline() -> None:
    fleet = FakeFleet()
    with pytest.raises(Unavailable):
        await ran(FakeLinks(), fleet, replace(WORK, deadline_s=101.5))
    assert fleet.waited_s == [1.5]


async def test_a_request_that_no_ready_worker_can_hold_does_not_wait() -> None:
    work = replace(WORK, params=SamplingParams(max_tokens=2_000))
    fleet = FakeFleet(A)
    with pytest.raises(PromptTooLong, match="2003 tokens exceed the 1000"):
        await ran(FakeLinks(), fleet, work)
    assert fleet.waited_s == []


@pytest.mark.parametrize(
    ("output", "params", "finish"),
    [
        pytest.param((5, 6, 7, 8), WORK.params, LENGTH, id="all-tokens-told"),
        pytest.param((5, EOS), WORK.params, STOP, id="end-of-sequence-told"),
        pytest.param((5, 6), replace(WORK.params, stop_token_ids=(6,)), STOP, id="stop-token-told"),
    ],
)
async def test_a_worker_that_dies_before_telling_the_finish_is_not_missed(
    output: tuple[int, ...], params: SamplingParams, finish: FinishReason
) -> None:
    links = FakeLinks([tokens(*output), LOST])
    updates = await ran(links, FakeFleet(A, B), replace(WORK, params=params))
    assert token_ids(updates) == list(output)
    assert updates[-1].finish is finish
    assert len(links.tickets) == 1


async def test_an_ignored_end_of_sequence_is_no_finish() -> None:
    work = replace(WORK, params=replace(WORK.params, ignore_eos=True))
    links = FakeLinks([tokens(5, EOS), LOST], [tokens(6, finish=STOP)])
    assert token_ids(await ran(links, FakeFleet(A, B), work)) == [5, EOS, 6]


async def test_what_the_first_update_tells_is_told_once() -> None:
    work = replace(WORK, params=replace(WORK.params, prompt_logprobs=1))
    echo = (TokenSample(1), TokenSample(2, -0.5))
    first = replace(tokens(5), cached_tokens=2, prompt_logprobs=echo)
    again = replace(tokens(6, finish=STOP), cached_tokens=3, prompt_logprobs=echo)
    links = FakeLinks([first, LOST], [again])
    updates = await ran(links, FakeFleet(A, B), work)
    assert [update.cached_tokens for update in updates] == [2, None]
    assert [update.prompt_logprobs for update in updates] == [echo, ()]
    assert links.tickets[1].submission.params.prompt_logprobs is None  # not computed again


async def test_leaving_early_cancels_the_work() -> None:
    links = FakeLinks([tokens(5)])
    async with aclosing(dispatcher(links, FakeFleet(A)).run(WORK)) as updates:
        await anext(updates)
        assert not links.tickets[0].cancelled
    assert links.tickets[0].cancelled


async def test_a_workers_deadline_is_the_requests() -> None:
    links = FakeLinks([tokens(5), Update(finish=FinishReason.DEADLINE)])
    with pytest.raises(DeadlineExceeded):
        await ran(links, FakeFleet(A, B))


async def test_work_that_is_late_already_is_not_submitted() -> None:
    links = FakeLinks()
    with pytest.raises(DeadlineExceeded):
        await ran(links, FakeFleet(A), replace(WORK, deadline_s=99.0))
    assert links.addresses == []
