"""Commands on their way to the engine: in order, those behind a grammar after it."""

import asyncio
import threading

import pytest
from baton.common.errors import BatonError, EngineFailure, InvalidRequest
from baton.engine.constraint import Constraint
from baton.engine.messages import Cancel, Command, KvLost, Submit
from baton.engine.params import FinishReason, SamplingParams
from baton.worker.doorway import Doorway
from support.fixed_constraint import FixedConstraint

LIMIT_S = 5.0
ANYTHING = FixedConstraint({}, 8)


class Reader:
    """Reads grammars when it is told to."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.error: Exception | None = None

    def read(self, grammar: str) -> Constraint:
        assert self.open.wait(LIMIT_S)
        if self.error is not None:
            raise self.error
        return ANYTHING


class World:
    """Both sides of a doorway."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.went: list[Command] = []
        self.refused: list[tuple[str, BatonError]] = []
        self._changed = asyncio.Event()
        self.doorway = Doorway(self.reader.read, self._post, self._refuse)

    def _post(self, command: Command) -> None:
        self.went.append(command)
        self._changed.set()

    def _refuse(self, request_id: str, error: BatonError) -> None:
        self.refused.append((request_id, error))
        self._changed.set()

    async def until(self, *, went: int = 0, refused: int = 0) -> None:
        async with asyncio.timeout(LIMIT_S):
            while len(self.went) < went or len(self.refused) < refused:
                self._changed.clear()
                await self._changed.wait()


def submit(request_id: str, grammar: str | None) -> Submit:
    return Submit(request_id, (1, 2, 3), SamplingParams(max_tokens=4, grammar=grammar))


def cancel(request_id: str) -> Cancel:
    return Cancel(request_id, FinishReason.CANCELLED)


async def test_what_has_no_grammar_goes_through_at_once() -> None:
    world = World()
    for command in (submit("a", None), cancel("a")):
        world.doorway.send(command)
    assert world.went == [submit("a", None), cancel("a")]


async def test_a_grammar_is_read_while_others_pass() -> None:
    world = World()
    world.doorway.send(submit("slow", "g"))
    world.doorway.send(submit("quick", None))
    assert [command.request_id for command in world.went] == ["quick"]
    world.reader.open.set()
    await world.until(went=2)
    last = world.went[-1]
    assert isinstance(last, Submit)
    assert (last.request_id, last.constraint) == ("slow", ANYTHING)


async def test_what_is_said_of_a_request_meanwhile_stays_behind_it() -> None:
    world = World()
    world.doorway.send(submit("a", "g"))
    world.doorway.send(KvLost("a"))
    world.doorway.send(cancel("a"))
    assert world.went == []
    world.reader.open.set()
    await world.until(went=3)
    assert [type(command) for command in world.went] == [Submit, KvLost, Cancel]
    world.doorway.send(cancel("a"))
    assert len(world.went) == 4


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (InvalidRequest("not a grammar"), InvalidRequest),
        (RuntimeError("the vocabulary is gone"), EngineFailure),
    ],
)
async def test_a_grammar_that_is_not_read_refuses_its_request_alone(
    raised: Exception, told: type[BatonError]
) -> None:
    world = World()
    world.reader.error = raised
    world.doorway.send(submit("a", "g"))
    world.doorway.send(cancel("a"))
    world.reader.open.set()
    await world.until(refused=1)
    ((request_id, error),) = world.refused
    assert request_id == "a"
    assert type(error) is told
    assert world.went == []
    world.doorway.send(submit("b", None))
    assert world.went == [submit("b", None)]
