"""The way of commands to the engine: in order, request by request.

A request with a grammar waits until that is read, beside the event loop and beside the engine's
steps; what is said of it meanwhile waits behind it. Knows commands; knows neither their owners nor
the engine.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from baton.common.errors import BatonError, EngineFailure
from baton.common.logs import get_log
from baton.engine.constraint import Constraint
from baton.engine.messages import Command, Submit


class Doorway:
    """Bounded by its callers, who admit only so many requests, each with a few commands."""

    def __init__(
        self,
        constrain: Callable[[str], Constraint],
        post: Callable[[Command], None],
        refuse: Callable[[str, BatonError], None],
    ) -> None:
        """`constrain` reads a grammar and blocks meanwhile; `post` takes what goes through;
        `refuse` hears of a request that does not, and why."""
        self._constrain, self._post, self._refuse = constrain, post, refuse
        self._behind: dict[str, list[Command]] = {}  # by id of a request that waits
        self._reading: set[asyncio.Task[None]] = set()

    def send(self, command: Command) -> None:
        """Never blocks."""
        behind = self._behind.get(command.request_id)
        if behind is not None:
            behind.append(command)
        elif isinstance(command, Submit) and command.params.grammar is not None:
            self._behind[command.request_id] = []
            task = asyncio.create_task(self._read(command, command.params.grammar))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        else:
            self._post(command)

    async def _read(self, command: Submit, grammar: str) -> None:
        try:
            constraint = await asyncio.to_thread(self._constrain, grammar)
        except BatonError as error:
            self._refuse_it(command, error)
        except Exception as error:  # the request must not wait for its deadline
            get_log(__name__).error("a grammar was not read", error=error)
            self._refuse_it(command, EngineFailure("the grammar could not be read"))
        else:
            self._post(replace(command, constraint=constraint))
            for later in self._behind.pop(command.request_id):
                self._post(later)

    def _refuse_it(self, command: Submit, error: BatonError) -> None:
        del self._behind[command.request_id]
        self._refuse(command.request_id, error)
