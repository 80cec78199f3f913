"""From the first signal to the exit: a polite request to stop, and the way to insist.

SIGTERM or Ctrl-C asks the process to drain; a second one ends it at once. Knows signals and exit
codes; knows nothing of what there is to drain.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence

EXIT_FAILED = 1
SIGNALLED_EXIT_BASE = 128  # the shell's convention: 128 + signal number

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """Whether this process was asked to stop. Lives on one event loop."""

    def __init__(self, *, exit_at_once: Callable[[int], object] = os._exit) -> None:
        self._requested = asyncio.Event()
        self._exit_at_once = exit_at_once

    @property
    def requested(self) -> bool:
        return self._requested.is_set()

    def install(self, signals: Sequence[signal.Signals] = STOP_SIGNALS) -> None:
        """Take over `signals` on the running loop."""
        loop = asyncio.get_running_loop()
        for number in signals:
            loop.add_signal_handler(number, self.request, number)

    def request(self, number: int) -> None:
        """Ask to stop; asked twice, leave without draining."""
        if self._requested.is_set():
            self._exit_at_once(SIGNALLED_EXIT_BASE + number)
        self._requested.set()

    async def wait(self) -> None:
        """Returns once a stop was requested."""
        await self._requested.wait()
