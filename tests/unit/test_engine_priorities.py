"""Who comes first: the lower the number, the sooner admitted, and the later preempted."""

from baton.engine.messages import Tokens
from support.engine_world import World, prompt


def test_who_has_the_lowest_priority_is_preempted_however_old() -> None:
    world = World(blocks=6, seats=2)
    world.submit("batch", prompt(8), max_tokens=12, priority=1)
    world.submit("chat", prompt(8, salt=3), max_tokens=12)
    told: list[str] = []
    for _ in range(100):
        events = [event for event in world.step() if isinstance(event, Tokens)]
        told += [event.request_id for event in events if event.finish is not None]
        if not world.engine.has_work():
            break
    assert world.scheduler.load().preemptions >= 1
    assert told == ["chat", "batch"]


def test_the_lower_priority_is_admitted_first_and_equals_as_they_came() -> None:
    world = World(seats=1)
    for name, priority in (("a", 0), ("b", 1), ("c", -1), ("d", 0)):
        world.submit(name, prompt(3), max_tokens=1, priority=priority)
    assert list(world.finish_all()) == ["c", "a", "d", "b"]


def test_who_was_preempted_comes_before_its_equals_and_behind_the_urgent() -> None:
    world = World(blocks=6, seats=2)
    world.submit("old", prompt(8), max_tokens=12)
    world.submit("young", prompt(8, salt=3), max_tokens=12)
    while not world.scheduler.load().preemptions:
        world.step()
    world.submit("equal", prompt(2, salt=5), max_tokens=1)
    world.submit("urgent", prompt(2, salt=7), max_tokens=1, priority=-1)
    assert list(world.finish_all())[-3:] == ["urgent", "young", "equal"]


def test_a_long_prompt_does_not_hold_up_one_that_is_more_urgent() -> None:
    world = World(budget=8)
    world.submit("long", prompt(40), max_tokens=1)
    world.step()
    world.submit("equal", prompt(8, salt=1), max_tokens=1)
    world.submit("urgent", prompt(8, salt=2), max_tokens=1, priority=-1)
    [first] = world.scheduler.plan()
    assert (first.request.request_id, first.length) == ("urgent", 8)
