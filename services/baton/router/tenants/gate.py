"""The gate before the workers: so much work is out without a first token. The rest of it waits
here, where turns can be shared fairly, and not in the workers' queues.

Knows the event loop; whose turn it is is decided in `turns`. A turn that is given back in a
`finally` cannot be lost, wherever its request was cancelled.
"""

import asyncio
from typing import Protocol

from baton.common.clock import Clock
from baton.common.errors import SloUnattainable
from baton.router.fleet import Role
from baton.router.journey import too_late
from baton.router.tally import Tally
from baton.router.tenants.register import Tenant
from baton.router.tenants.turns import Turns, Urgency, pieces_out_max
from baton.router.work import FleetSource, Work


def _no_turn(waited_s: float) -> SloUnattainable:
    return SloUnattainable(
        f"the first token was asked for within {max(0.0, waited_s):.3f} s, in which others' turns"
        " came first",
        late_s=0.0,
    )


class Turn(Protocol):
    """One piece of work's: waited for once, given back whatever happens."""

    async def comes(self) -> float:
        """Returns when it does: for how many seconds, up to now, there was no decode worker while
        it waited. Raises DeadlineExceeded, or SloUnattainable where it comes too late for that."""

    def give_back(self) -> None:
        """The next one's turn. At any time, any number of times."""


class Gate(Protocol):
    def turn(self, work: Work) -> Turn: ...

    def fleet_changed(self) -> None: ...


class OpenGate:
    """Nobody waits: where there are no tenants. Every turn is this one."""

    def turn(self, work: Work) -> Turn:
        return self

    async def comes(self) -> float:
        return 0.0

    def give_back(self) -> None:
        pass

    def fleet_changed(self) -> None:
        pass


class FairGate:
    """One per process. How much may wait is bounded where requests are admitted."""

    def __init__(self, fleet: FleetSource, clock: Clock, tally: Tally) -> None:
        self.clock = clock
        self.tally = tally
        self._fleet = fleet
        self._turns: Turns[_Turn] = Turns()
        self._out = 0
        self._deserted_s: float | None = clock.monotonic_s()  # since when; None: not now

    def turn(self, work: Work) -> Turn:
        assert work.tenant is not None, "nothing is run without a key where there are tenants"
        return _Turn(self, work, work.tenant)

    def fleet_changed(self) -> None:
        if self._fleet.fleet.ready(Role.DECODE):
            self._deserted_s = None
        elif self._deserted_s is None:
            self._deserted_s = self.clock.monotonic_s()
        self._serve()

    def deserted_for_s(self, since_s: float) -> float:
        """Of the time since then, how long there has been no decode worker up to now."""
        if self._deserted_s is None:
            return 0.0
        return self.clock.monotonic_s() - max(since_s, self._deserted_s)

    def join(self, turn: "_Turn") -> None:
        work, tenant = turn.work, turn.tenant
        due_s = work.deadline_s if work.first_token_by_s is None else work.first_token_by_s
        urgency = Urgency(work.priority, due_s)
        self._turns.join(turn, tenant.name, tenant.weight, len(work.prompt), urgency)
        self._serve()
        self._tell(turn)

    def leave(self, turn: "_Turn") -> None:
        self._turns.leave(turn, turn.tenant.name)
        self._tell(turn)

    def come_back(self) -> None:
        self._out -= 1
        self._serve()

    def _serve(self) -> None:
        """Let out whose turn it is, as far as there is room."""
        out_max = pieces_out_max(self._fleet.fleet)
        while self._out < out_max and (turn := self._turns.next()) is not None:
            self._out += 1
            turn.let_out()
            self._tell(turn)

    def _tell(self, turn: "_Turn") -> None:
        self.tally.in_line(turn.tenant.name, self._turns.waiting(turn.tenant.name))


class _Turn:
    def __init__(self, gate: FairGate, work: Work, tenant: Tenant) -> None:
        self.work = work
        self.tenant = tenant
        self.out = False  # whether it keeps another one from its turn
        self._gate = gate
        self._place: asyncio.Future[None] | None = None  # None: has not come, or has come back

    async def comes(self) -> float:
        gate = self._gate
        since_s = gate.clock.monotonic_s()
        self._place = asyncio.get_running_loop().create_future()
        gate.join(self)
        by_s = self.work.first_token_by_s
        wait_s = (self.work.deadline_s if by_s is None else by_s) - since_s
        try:
            async with asyncio.timeout(wait_s):
                await self._place
        except TimeoutError:
            raise (too_late() if by_s is None else _no_turn(wait_s)) from None
        gate.tally.had_turn(self.tenant.name, gate.clock.monotonic_s() - since_s)
        return gate.deserted_for_s(since_s)

    def let_out(self) -> None:
        assert self._place is not None, "it has joined the line"
        self.out = True
        if not self._place.done():  # cancelled, and about to give it back
            self._place.set_result(None)

    def give_back(self) -> None:
        if self._place is None:
            return
        self._place = None
        if self.out:
            self.out = False
            self._gate.come_back()
        else:
            self._gate.leave(self)
