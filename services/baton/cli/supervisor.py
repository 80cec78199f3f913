"""Keeps child processes running until asked to stop: starts, restarts, stops, and says so.

Acts on the decisions of `restarts`. Knows commands and exit codes; knows nothing of what the
children serve. Each child sits in its own process group (Ctrl-C reaches only us) and is tethered
(it dies when we are killed), so whatever ends the supervisor ends the stack. A stop reaches those
first that need the others to end well.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from baton.cli.child import Child, described_exit
from baton.cli.restarts import DeathRecord, GiveUp, RestartPolicy
from baton.common.clock import Clock
from baton.common.errors import Unavailable

STOP_LIMIT_S = 10.0
"""From SIGTERM to SIGKILL: enough for a worker to end its streams, short enough for a person to
wait."""

OUTPUT_LINE_BYTES_MAX = 1 << 20
"""A longer line of a child's output is dropped; our own logs cut fields far below this."""

OUTPUT_LIMIT_S = 1.0
"""What a dead child wrote is in the pipe already; only a stranger holding the pipe would make us
wait."""


class Report(Protocol):
    """Where the supervisor says what happens; the terminal in `baton serve`, a list in tests."""

    def event(self, text: str) -> None: ...

    def output(self, child: str, line: str) -> None: ...


class Supervisor:
    """Runs `children` until `stop` is called or one of them keeps dying."""

    def __init__(
        self,
        children: Sequence[Child],
        *,
        clock: Clock,
        report: Report,
        policy: RestartPolicy | None = None,
        stop_limit_s: float = STOP_LIMIT_S,
    ) -> None:
        self._children = tuple(children)
        self._clock = clock
        self._report = report
        self._policy = policy or RestartPolicy()
        self._stop_limit_s = stop_limit_s
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._first = {child.name for child in children if child.ends_first}  # that have not ended
        self._first_ended = asyncio.Event()
        self._note_first()
        self._failure: Unavailable | None = None

    def stop(self) -> None:
        """Begin a clean stop; called again, kill what still runs."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def run(self) -> None:
        """Returns after a clean stop.

        Raises Unavailable when a child kept dying (all others stopped).
        """
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(self._keep(child))
        if self._failure is not None:
            raise self._failure

    async def _keep(self, child: Child) -> None:
        try:
            await self._keep_alive(child)
        finally:
            self._first.discard(child.name)
            self._note_first()

    def _note_first(self) -> None:
        if not self._first:
            self._first_ended.set()

    async def _keep_alive(self, child: Child) -> None:
        record = DeathRecord()
        while not self._stopping.is_set():
            exit_code = await self._live(child)
            if self._stopping.is_set():
                return
            record, decision = record.after(self._clock.monotonic_s(), self._policy)
            how = described_exit(exit_code)
            if isinstance(decision, GiveUp):
                self._failure = Unavailable(
                    f"{child.name} died {decision.deaths} times within {decision.window_s:.0f} s "
                    f"(last: {how}); giving up"
                )
                self._stopping.set()
                return
            self._report.event(
                f"{child.name} died ({how}); restarting it in {decision.delay_s:.1f} s"
            )
            await first_of(self._stopping.wait(), asyncio.sleep(decision.delay_s))

    async def _live(self, child: Child) -> int:
        """One life of a child, from start to exit; a stop ends it. Returns the exit code."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "baton.cli.tether", str(os.getpid())),
            *child.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            process_group=0,
            limit=OUTPUT_LINE_BYTES_MAX,
        )
        relay = asyncio.create_task(self._relay(child.name, process))
        try:
            await first_of(process.wait(), self._stopping.wait())
            if not child.ends_first:
                await first_of(process.wait(), self._first_ended.wait(), self._hurry.wait())
            if process.returncode is None:
                await self._end(process)
            return await process.wait()
        finally:
            # for a cancelled supervisor, and for whatever the child itself has started
            kill_group(process, signal.SIGKILL)
            await first_of(asyncio.gather(process.wait(), relay), asyncio.sleep(OUTPUT_LIMIT_S))

    async def _end(self, process: Process) -> None:
        """SIGTERM, a bounded wait that a second stop cuts short; the caller kills what is left."""
        kill_group(process, signal.SIGTERM)
        await first_of(process.wait(), self._hurry.wait(), asyncio.sleep(self._stop_limit_s))
        kill_group(process, signal.SIGKILL)

    async def _relay(self, name: str, process: Process) -> None:
        """Pass the child's output on, line by line, until it ends."""
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # over OUTPUT_LINE_BYTES_MAX; asyncio has dropped it
                continue
            if not line:
                return
            self._report.output(name, line.decode(errors="replace").rstrip("\n"))


def kill_group(process: Process, number: signal.Signals) -> None:
    """Signal the child and everything it started; nothing happens when they are gone."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


async def first_of(*waits: Awaitable[object]) -> None:
    """Return when the first of `waits` has ended; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Ctrl-C, a polite kill and a closed terminal all mean: stop cleanly."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
