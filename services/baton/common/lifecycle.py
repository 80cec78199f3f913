"""From the first signal to the exit: a polite request to stop, and the way to insist.

In service, SIGTERM or Ctrl-C asks the process to drain and a second one ends it at once; before
that there is nothing to drain and the first one ends it. Knows signals and exit codes; knows
nothing of the work.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence

EXIT_FAILED = 1
SIGNALLED_EXIT_BASE = 128  # the shell's convention: 128 + signal number

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def leave_on_signals(signals: Sequence[signal.Signals] = STOP_SIGNALS) -> None:
    """Until `Shutdown.install` takes over, a signal ends the process at once.

    The default does so too, except for process 1 of a container, whom the kernel spares: it would
    sleep through its whole grace period.
    """
    for number in signals:
        signal.signal(number, _leave)


def _leave(number: int, _: object) -> None:
    os._exit(SIGNALLED_EXIT_BASE + number)


class Shutdown:
    """Whether this process was asked to stop. Lives on one event loop."""

    def __init__(self, *, exit_at_once: Callable[[int], object] = os._exit) -> None:
        self._requested = asyncio.Event()
        self._in_service = False
        self._exit_at_once = exit_at_once

    @property
    def requested(self) -> bool:
        return self._requested.is_set()

    def install(self, signals: Sequence[signal.Signals] = STOP_SIGNALS) -> None:
        """Take over `signals` on the running loop. As process 1 of a container we must: the kernel
        drops its signals otherwise."""
        loop = asyncio.get_running_loop()
        for number in signals:
            loop.add_signal_handler(number, self.request, number)

    def enter_service(self) -> None:
        """From now on there is work that deserves to be finished."""
        self._in_service = True

    def request(self, number: int) -> None:
        """Ask to stop; asked twice, or before service, leave without draining."""
        if self._requested.is_set() or not self._in_service:
            self._exit_at_once(SIGNALLED_EXIT_BASE + number)
        self._requested.set()

    async def wait(self) -> None:
        """Returns once a stop was requested."""
        await self._requested.wait()
