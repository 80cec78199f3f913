"""The story of one request: followed to its end, moved when a worker fails, never lost."""

import asyncio
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
    SloUnattainable,
    Unavailable,
    WorkerFailed,
)
from baton.engine.costmodel import Coefficients
from baton.engine.params import FinishReason, SamplingParams, TokenSample
from baton.router.fleet import Heard, WorkerLoad, WorkerState
from baton.router.tenants.register import Tenant
from baton.router.work import Update
from msgspec import structs
from support.fake_fleet import (
    EOS,
    LOST,
    WORK,
    FakeLinks,
    Fleet,
    decode_worker,
    dispatcher,
    ran,
    refused,
    tokens,
)
from support.hand_clock import HandClock

NOW_S = HandClock().monotonic_s()
STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH
DRAINING, STARTING = WorkerState.DRAINING, WorkerState.STARTING
A, B, C, D = (decode_worker(address) for address in "abcd")


def token_ids(updates: list[Update]) -> list[int]:
    return [sample.token_id for update in updates for sample in update.tokens]


async def test_updates_pass_through_until_the_finish() -> None:
    links = FakeLinks([tokens(5), tokens(6, 7, finish=STOP)])
    updates = await ran(links, Fleet(A))
    assert token_ids(updates) == [5, 6, 7]
    assert [update.finish for update in updates] == [None, STOP]
    submission = links.tickets[0].submission
    assert (submission.prompt, submission.output, submission.remaining_s) == ((1, 2, 3), (), 60.0)


LEARNED = Coefficients(fixed_s=0.01, prefill_token_s=0.5, decode_row_s=0.001)
"""On which a prompt of three tokens takes a second and a half."""


def busy_fleet() -> Fleet:
    fleet = Fleet(A)
    fleet.picture.hear(Heard(A, WorkerLoad(coefficients=LEARNED)), 0.0)
    return fleet


async def test_what_would_come_too_late_is_refused_before_any_worker_hears_of_it() -> None:
    links, fleet = FakeLinks(), busy_fleet()
    with pytest.raises(SloUnattainable) as refused_with:
        await ran(links, fleet, replace(WORK, first_token_by_s=NOW_S + 1.0))
    assert refused_with.value.late_s == pytest.approx(0.5, abs=0.1)
    assert links.addresses == []
    # Nor does it count as load: the next one is judged alike.
    links = FakeLinks([tokens(5, finish=STOP)])
    assert token_ids(await ran(links, fleet, replace(WORK, first_token_by_s=NOW_S + 2.0))) == [5]


async def test_a_request_that_moves_is_not_judged_again() -> None:
    links, fleet = FakeLinks([tokens(5), LOST], [tokens(6, finish=STOP)]), Fleet(A, B)
    updates = await ran(links, fleet, replace(WORK, first_token_by_s=NOW_S))
    assert token_ids(updates) == [5, 6]


async def test_no_worker_is_waited_for_longer_than_the_first_token_may_take() -> None:
    work = replace(WORK, first_token_by_s=NOW_S + 0.001)
    with pytest.raises(Unavailable):
        await ran(FakeLinks(), Fleet(), work, ready_wait_s=50.0)


@pytest.mark.parametrize(("tenant", "told"), [(None, -3), (Tenant("red"), 0)])
async def test_workers_are_told_priorities_only_where_there_are_no_tenants(
    tenant: Tenant | None, told: int
) -> None:
    links = FakeLinks([tokens(5, finish=STOP)])
    await ran(links, Fleet(A), replace(WORK, priority=-3, tenant=tenant))
    assert links.tickets[0].submission.priority == told


async def test_a_lost_worker_is_replaced_by_another_which_continues() -> None:
    links = FakeLinks([tokens(5), tokens(6), LOST], [tokens(7, 8, finish=LENGTH)])
    updates = await ran(links, Fleet(A, B))
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
    assert token_ids(await ran(links, Fleet(A, B))) == [5]
    assert len(set(links.addresses)) == 2


@pytest.mark.parametrize(
    "error", [InvalidRequest("bad"), EngineFailure("a step failed")], ids=["invalid", "failed"]
)
async def test_what_would_fail_anywhere_is_not_tried_again(error: InvalidRequest) -> None:
    links = FakeLinks([refused(error)])
    with pytest.raises(type(error)):
        await ran(links, Fleet(A, B))


async def test_two_crashes_under_a_request_are_enough() -> None:
    links = FakeLinks([tokens(5), LOST], [tokens(6), LOST])
    with pytest.raises(EngineFailure, match="2 workers went away"):
        await ran(links, Fleet(A, B, C))


async def test_three_tries_are_the_limit() -> None:
    links = FakeLinks(*([refused(Unavailable("no"))] for _ in range(3)))
    with pytest.raises(Unavailable):
        await ran(links, Fleet(A, B, C, D))
    assert len(links.addresses) == 3


async def test_workers_that_said_they_were_going_are_no_failures() -> None:
    """However many a rollout takes away under a request."""
    fleet = Fleet(A, B, C, D)
    links = FakeLinks(*([tokens(n), LOST] for n in (5, 6, 7, 8)), [tokens(EOS, finish=STOP)])
    for view in (A, B, C, D):  # said while the request ran there
        fleet.picture.hear(Heard(replace(view, state=DRAINING)), 0.0)
        fleet.picture.hear(Heard(view), 0.0)
    work = replace(WORK, params=SamplingParams(max_tokens=8))
    asked = asyncio.create_task(ran(links, fleet, work))
    await fleet.until_held(1)
    fleet.becomes(decode_worker("e"))
    assert token_ids(await asked) == [5, 6, 7, 8, EOS]


async def test_a_worker_that_failed_under_a_request_is_a_crash_although_it_says_it_goes() -> None:
    fleet = Fleet(A, B, C)
    failed = refused(WorkerFailed("broke"))
    links = FakeLinks([tokens(5), failed], [tokens(6), failed])
    for view in (A, B, C):
        fleet.picture.hear(Heard(replace(view, state=DRAINING)), 0.0)
        fleet.picture.hear(Heard(view), 0.0)
    with pytest.raises(EngineFailure, match="2 workers went away"):
        await ran(links, fleet)


async def test_refusals_of_draining_workers_do_not_use_up_the_tries() -> None:
    links = FakeLinks(*([refused(Draining("no"))] for _ in range(3)), [tokens(5, finish=STOP)])
    assert token_ids(await ran(links, Fleet(A, B, C, D))) == [5]
    assert len(set(links.addresses)) == 4


async def test_overload_of_the_only_worker_is_told_at_once() -> None:
    fleet = Fleet(A)
    asked = asyncio.create_task(ran(FakeLinks([refused(Overloaded("full"))]), fleet))
    with pytest.raises(Overloaded, match="full"):
        await asked


async def test_a_worker_that_comes_back_takes_its_request_again() -> None:
    links = FakeLinks([tokens(5), LOST], [tokens(6, finish=STOP)])
    fleet = Fleet(A)
    asked = asyncio.create_task(ran(links, fleet))
    await fleet.until_held(1)
    fleet.becomes(decode_worker("a", incarnation=2))
    assert token_ids(await asked) == [5, 6]
    assert links.addresses == ["a", "a"]


async def test_without_a_ready_worker_the_wait_is_limited() -> None:
    fleet = Fleet(decode_worker("a", state=STARTING))
    with pytest.raises(Unavailable, match="no decode worker is ready"):
        await ran(FakeLinks(), fleet, ready_wait_s=0.001)
    assert len(fleet.holding) == 0


async def test_the_wait_never_exceeds_the_deadline() -> None:
    with pytest.raises(Unavailable):
        await ran(FakeLinks(), Fleet(), replace(WORK, deadline_s=100.001), ready_wait_s=3600.0)


async def test_held_requests_are_served_in_order_of_arrival_and_spread() -> None:
    fleet = Fleet()
    links = FakeLinks(*([tokens(5, finish=STOP)] for _ in range(4)))
    runs = dispatcher(links, fleet)
    asked = []
    for number in range(4):
        work = replace(WORK, work_id=f"w{number}")
        asked.append(asyncio.create_task(anext(runs.run(work))))
        await fleet.until_held(number + 1)
    assert fleet.tally.traffic().requests_waiting == 4
    fleet.picture.hear(Heard(A), 0.0)
    fleet.becomes(B)
    await asyncio.gather(*asked)
    assert [ticket.submission.request_id for ticket in links.tickets] == [
        *("w0-1", "w1-1", "w2-1", "w3-1")
    ]
    assert sorted(links.addresses) == ["a", "a", "b", "b"]  # load counts before it is reported


async def test_a_held_request_whose_client_leaves_gives_its_place_up() -> None:
    fleet, links = Fleet(), FakeLinks([tokens(5, finish=STOP)])
    leaving = asyncio.create_task(ran(links, fleet))
    await fleet.until_held(1)
    staying = asyncio.create_task(ran(links, fleet, replace(WORK, work_id="stays")))
    await fleet.until_held(2)
    leaving.cancel()
    await fleet.until_held(1)
    fleet.becomes(A)
    assert token_ids(await staying) == [5]
    assert links.tickets[0].submission.request_id == "stays-1"


async def test_output_is_continued_only_by_the_same_model() -> None:
    """A worker of another revision would go on with other tokens."""
    other = replace(B, layout=replace(B.layout, model_revision="next"))
    links = FakeLinks([tokens(5), LOST], [tokens(6, finish=STOP)])
    fleet = Fleet(A)
    asked = asyncio.create_task(ran(links, fleet))
    await fleet.until_held(1)
    fleet.becomes(other)
    await asyncio.sleep(0)
    assert len(fleet.holding) == 1
    fleet.becomes(C)
    assert token_ids(await asked) == [5, 6]
    assert links.addresses == ["a", "c"]


async def test_a_request_that_no_ready_worker_can_hold_does_not_wait() -> None:
    work = replace(WORK, params=SamplingParams(max_tokens=2_000))
    with pytest.raises(PromptTooLong, match="2003 tokens exceed the 1000"):
        await ran(FakeLinks(), Fleet(A), work)


async def test_a_held_request_that_no_arriving_worker_can_hold_is_told_so() -> None:
    work = replace(WORK, params=SamplingParams(max_tokens=2_000))
    fleet = Fleet()
    asked = asyncio.create_task(ran(FakeLinks(), fleet, work))
    await fleet.until_held(1)
    fleet.becomes(A)
    with pytest.raises(PromptTooLong):
        await asked


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
    updates = await ran(links, Fleet(A, B), replace(WORK, params=params))
    assert token_ids(updates) == list(output)
    assert updates[-1].finish is finish
    assert len(links.tickets) == 1


async def test_an_ignored_end_of_sequence_is_no_finish() -> None:
    work = replace(WORK, params=replace(WORK.params, ignore_eos=True))
    links = FakeLinks([tokens(5, EOS), LOST], [tokens(6, finish=STOP)])
    assert token_ids(await ran(links, Fleet(A, B), work)) == [5, EOS, 6]


async def test_what_the_first_update_tells_is_told_once() -> None:
    work = replace(WORK, params=replace(WORK.params, prompt_logprobs=1))
    echo = (TokenSample(1), TokenSample(2, -0.5))
    first = structs.replace(tokens(5), cached_tokens=2, prompt_logprobs=echo)
    again = structs.replace(tokens(6, finish=STOP), cached_tokens=3, prompt_logprobs=echo)
    links = FakeLinks([first, LOST], [again])
    updates = await ran(links, Fleet(A, B), work)
    assert [update.cached_tokens for update in updates] == [2, None]
    assert [update.prompt_logprobs for update in updates] == [echo, ()]
    assert links.tickets[1].submission.params.prompt_logprobs is None  # not computed again


async def test_leaving_early_cancels_the_work() -> None:
    links = FakeLinks([tokens(5)])
    async with aclosing(dispatcher(links, Fleet(A)).run(WORK)) as updates:
        await anext(updates)
        assert not links.tickets[0].cancelled
    assert links.tickets[0].cancelled


async def test_a_workers_deadline_is_the_requests() -> None:
    links = FakeLinks([tokens(5), Update(finish=FinishReason.DEADLINE)])
    with pytest.raises(DeadlineExceeded):
        await ran(links, Fleet(A, B))


async def test_work_that_is_late_already_is_not_submitted() -> None:
    links = FakeLinks()
    with pytest.raises(DeadlineExceeded):
        await ran(links, Fleet(A), replace(WORK, deadline_s=99.0))
    assert links.addresses == []


async def test_what_ran_is_told_for_scaling() -> None:
    fleet = Fleet(A, B)
    first = structs.replace(tokens(5), cached_tokens=2)
    await ran(FakeLinks([first, LOST], [tokens(6, finish=STOP)]), fleet)
    traffic = fleet.tally.traffic()
    assert (traffic.requests_arrived, traffic.requests_ended, traffic.requests_running) == (1, 1, 0)
    assert (traffic.prompt_tokens_arrived, traffic.prompt_tokens_cached) == (3, 2)
    assert traffic.output_tokens == 2
