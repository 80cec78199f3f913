"""What the scheduler promises, one situation at a time. The random schedules are in
tests/property."""

import pytest
from baton.common.errors import IllegalTransition, InvalidRequest, PromptTooLong
from baton.engine.messages import (
    Cancel,
    KvArrived,
    KvComplete,
    KvLost,
    Progress,
    Release,
    Reserved,
    Submit,
    Tokens,
)
from baton.engine.params import FinishReason, SamplingParams, TokenSample
from baton.engine.plan import SchedulerLimits
from support.engine_world import BLOCK_SIZE, World, prompt, solo
from support.fake_runner import next_token


def test_what_planning_tells_is_told_before_the_step_is_run() -> None:
    world = World()
    world.submit("talks", prompt(3), max_tokens=9)
    world.step()
    world.submit("far", prompt(9, salt=1), remote=True)
    [reserved] = world.step()
    assert isinstance(reserved, Reserved)
    [tokens] = world.step()
    assert isinstance(tokens, Tokens)
    assert tokens.request_id == "talks"


def test_a_request_that_ends_between_plan_and_step_is_left_out_of_it() -> None:
    world = World()
    world.submit("talks", prompt(3), max_tokens=9)
    world.submit("ends", prompt(4, salt=2), max_tokens=9)
    world.step()
    world.submit("far", prompt(9, salt=1), remote=True)
    world.step()  # tells the reservation; both decodes are planned
    world.engine.apply(Cancel("ends", FinishReason.CANCELLED))
    events = world.step()
    told = [event.request_id for event in events if isinstance(event, Tokens) and event.tokens]
    assert told == ["talks"]


def test_decode_goes_first_and_prefill_takes_what_is_left_of_the_budget() -> None:
    world = World(budget=8)
    world.submit("talks", prompt(3))
    world.step()
    world.submit("long", prompt(20, salt=1))
    plan = world.scheduler.plan()
    assert [(piece.request.request_id, piece.length) for piece in plan] == [
        ("talks", 1),
        ("long", 7),
    ]


def test_prompts_beside_decodes_get_larger_steps() -> None:
    world = World(blocks=64, budget=4, backlog=9)
    world.submit("talks", prompt(3), max_tokens=30)
    world.step()
    for index in range(3):
        world.submit(f"long {index}", prompt(40, salt=index + 1))
    sizes = []
    while world.scheduler.load().prefill_tokens_waiting:
        sizes.append(sum(piece.length for piece in world.scheduler.plan()))
        world.step()
    assert set(sizes[:-1]) == {9}
    assert 1 < sizes[-1] <= 9


@pytest.mark.parametrize("budget", [4, 5, 7, 64])
def test_chunks_of_any_size_give_the_same_output(budget: int) -> None:
    world = World(budget=budget)
    world.submit("a", prompt(19))
    assert world.finish_all() == {"a": solo(prompt(19))}


def test_a_prefix_is_shared_but_the_last_token_is_always_computed() -> None:
    world = World()
    world.submit("a", prompt(8))
    world.finish_all()
    world.submit("b", prompt(8))
    (piece,) = world.scheduler.plan()
    assert (piece.request.computed, piece.length) == (4, 4)
    (event,) = [event for event in world.step() if isinstance(event, Tokens)] or [None]
    assert event is not None
    assert event.cached_tokens == 4


def test_another_salt_shares_nothing() -> None:
    world = World()
    params = SamplingParams(max_tokens=1, temperature=0.0)
    for name, salt in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        world.runner.expect(name, prompt(9))
        world.engine.apply(Submit(name, prompt(9), params, cache_salt=salt))
    found = {
        event.request_id: event.cached_tokens
        for _ in range(6)
        for event in world.step()
        if isinstance(event, Tokens)
    }
    world.submit("d", prompt(9))
    assert found["b"] == 0
    world.runner.expect("e", prompt(9))
    world.engine.apply(Submit("e", prompt(9), params, cache_salt=b"one"))
    events = [event for _ in range(3) for event in world.step() if isinstance(event, Tokens)]
    by_name = {event.request_id: event.cached_tokens for event in events if event.cached_tokens}
    assert by_name == {"e": 8}


def test_the_youngest_is_preempted_and_still_says_the_same() -> None:
    world = World(blocks=6, seats=2)
    world.submit("old", prompt(8), max_tokens=12)
    world.submit("young", prompt(8, salt=3), max_tokens=12)
    outputs = world.finish_all()
    assert world.scheduler.load().preemptions >= 1
    assert outputs == {
        "old": solo(prompt(8), 12, world.capacity),
        "young": solo(prompt(8, salt=3), 12, world.capacity),
    }


def test_a_remote_request_reserves_waits_and_goes_on_with_the_first_token() -> None:
    world = World()
    world.submit("r", prompt(10), remote=True)
    (reserved,) = world.step()
    assert isinstance(reserved, Reserved)
    assert (len(reserved.block_table), reserved.held_blocks) == (3, 0)
    assert not world.engine.has_work()
    world.runner.fill(reserved.block_table, prompt(10))
    world.engine.apply(KvArrived("r", 2))
    token = TokenSample(next_token(prompt(10), SamplingParams(max_tokens=4, temperature=0)))
    world.engine.apply(KvComplete("r", token, cached_tokens=8))
    events = world.step()
    assert isinstance(events[0], Tokens)
    assert events[0].cached_tokens == 8
    outputs = [
        token.token_id for event in events if isinstance(event, Tokens) for token in event.tokens
    ]
    assert outputs + world.finish_all()["r"] == solo(prompt(10))


def test_steps_stand_back_while_a_prompt_is_awaited_and_no_longer() -> None:
    world = World()

    def steps_stand_back() -> bool:
        world.step()
        return world.runner.stood_back

    world.submit("here", prompt(5), max_tokens=9)
    assert not steps_stand_back()
    world.submit("there", prompt(10, salt=3), remote=True)
    world.step()  # reserves
    assert steps_stand_back()
    world.engine.apply(KvLost("there"))
    assert not steps_stand_back()


@pytest.mark.parametrize("arrived", [0, 1, 2])
def test_a_lost_transfer_keeps_what_arrived_and_computes_the_rest(arrived: int) -> None:
    world = World()
    world.submit("r", prompt(8), remote=True)
    (reserved,) = world.step()
    assert isinstance(reserved, Reserved)
    world.runner.fill(reserved.block_table, prompt(8)[: arrived * BLOCK_SIZE])
    world.engine.apply(KvArrived("r", arrived))
    world.engine.apply(KvLost("r"))
    (piece,) = world.scheduler.plan()
    assert piece.length == max(8 - arrived * BLOCK_SIZE, 1)
    assert world.finish_all() == {"r": solo(prompt(8))}


def test_an_export_tells_its_progress_and_keeps_its_blocks_until_released() -> None:
    world = World(budget=4)
    world.submit("e", prompt(10), export=True)
    events = [event for _ in range(3) for event in world.step()]
    progress = [event.computed_tokens for event in events if isinstance(event, Progress)]
    assert progress == [4, 8, 10]
    assert isinstance(events[-1], Tokens)
    assert events[-1].finish is None
    assert world.scheduler.load().blocks_used == 3
    world.engine.apply(Release("e"))
    assert world.scheduler.load().blocks_used == 0
    assert len(world.engine.cached_ids()) == 2


def test_an_export_of_a_cached_prefix_can_be_sent_before_anything_is_computed() -> None:
    world = World()
    world.submit("a", prompt(9), export=True)
    world.step()
    world.engine.apply(Release("a"))
    world.submit("b", prompt(9), export=True)
    first = world.step()[0]
    assert isinstance(first, Progress)
    assert first.computed_tokens == 8


def test_a_decode_without_room_never_takes_the_blocks_of_an_export() -> None:
    world = World(blocks=9, seats=2, budget=4)
    world.submit("talks", prompt(11), max_tokens=12)
    world.step()
    world.step()
    world.step()
    world.submit("gives", prompt(20, salt=4), export=True)
    events = [event for _ in range(20) for event in world.step()]
    tables = {event.block_table for event in events if isinstance(event, Progress)}
    assert world.scheduler.load().preemptions == 1
    assert len(tables) == 1, "the export was moved while its blocks were being read"


def test_who_arrives_first_is_admitted_first_even_if_a_later_one_would_fit() -> None:
    world = World(blocks=6)
    world.submit("running", prompt(8), max_tokens=8)
    world.step()
    world.submit("large", prompt(20, salt=1))
    world.submit("small", prompt(2, salt=2))
    assert [piece.request.request_id for piece in world.scheduler.plan()] == ["running"]
    assert set(world.finish_all()) == {"running", "large", "small"}


def test_a_blocked_queue_is_no_work_until_something_ends() -> None:
    world = World(blocks=4)
    world.submit("held", prompt(13), export=True)
    world.step()
    world.submit("waits", prompt(9, salt=5))
    world.step()
    assert not world.engine.has_work()
    world.engine.apply(Release("held"))
    assert world.engine.has_work()
    assert world.finish_all() == {"waits": solo(prompt(9, salt=5), capacity=world.capacity)}


@pytest.mark.parametrize("length", [64, 65, 1000])
def test_a_prompt_without_room_for_an_answer_is_refused_with_the_limit(length: int) -> None:
    world = World()
    with pytest.raises(PromptTooLong, match=f"has {length} tokens; at most 63"):
        world.submit("long", prompt(length))
    assert not world.engine.has_work()


def test_an_id_in_use_and_an_empty_prompt_are_refused() -> None:
    world = World()
    world.submit("a", prompt(3))
    with pytest.raises(InvalidRequest, match="in use"):
        world.submit("a", prompt(3))
    with pytest.raises(InvalidRequest, match="empty"):
        world.submit("b", ())


def test_kv_for_a_request_that_expects_none_is_our_bug_but_for_an_ended_one_it_is_nothing() -> None:
    world = World()
    world.submit("a", prompt(3))
    with pytest.raises(IllegalTransition):
        world.engine.apply(KvLost("a"))
    world.engine.apply(Cancel("a", FinishReason.CANCELLED))
    world.engine.apply(KvLost("a"))
    (event,) = world.step()
    assert isinstance(event, Tokens)
    assert event.finish is FinishReason.CANCELLED
    assert world.step() == []


def test_a_budget_below_the_number_of_seats_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        SchedulerLimits(token_budget=3, sequences_max=4, context_length_max=8)


def test_a_request_is_told_admitted_when_it_gets_its_blocks() -> None:
    world = World(blocks=6)
    world.submit("first", prompt(12))
    world.submit("second", prompt(20, salt=1))
    assert world.engine.step().admitted == ("first",)
    world.submit("fetched", prompt(4, salt=2), remote=True)
    world.finish_all()
    assert world.scheduler.load().awaiting_kv == 1, "the KV of the third is still on its way"
