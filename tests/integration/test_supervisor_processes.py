"""The supervisor with real, tiny child processes: restarts, clean stops, and no orphans."""

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from baton.cli.child import Child
from baton.cli.restarts import RestartPolicy
from baton.cli.supervisor import Supervisor
from baton.common.errors import Unavailable

IMPATIENT = RestartPolicy(delay_first_s=0.01, delay_max_s=0.01, deaths_max=3, window_s=60.0)
WAIT_LIMIT_S = 30.0  # a busy machine starts an interpreter slowly; a hang must still end


class StillClock:
    """Time stands: every death falls into the window."""

    def monotonic_s(self) -> float:
        return 0.0

    def unix_s(self) -> float:
        return 0.0


class Heard:
    """Keeps what the supervisor reports; a test can wait for a line."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.lines: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def event(self, text: str) -> None:
        self.events.append(text)
        self._changed.set()

    def output(self, child: str, line: str) -> None:
        self.lines.append((child, line))
        self._changed.set()

    def said_by(self, child: str) -> list[str]:
        return [line for name, line in self.lines if name == child]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_LIMIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def python(name: str, code: str) -> Child:
    return Child(name, (sys.executable, "-c", textwrap.dedent(code)))


STEADY = python("steady", "import os, signal; print(os.getpid(), flush=True); signal.pause()")
FAILING = python("failing", "raise SystemExit(3)")
STUBBORN = python(
    "stubborn",
    """
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("up", flush=True)
    while True: signal.pause()
    """,
)


def supervisor(*children: Child, heard: Heard, stop_limit_s: float = 10.0) -> Supervisor:
    return Supervisor(
        children, clock=StillClock(), report=heard, policy=IMPATIENT, stop_limit_s=stop_limit_s
    )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_child_that_keeps_dying_ends_the_stack_and_says_why() -> None:
    heard = Heard()
    with pytest.raises(Unavailable, match=r"failing died 3 times within 60 s .*exit code 3"):
        await supervisor(FAILING, STEADY, heard=heard).run()
    assert heard.events == ["failing died (exit code 3); restarting it in 0.0 s"] * 2
    assert not any(alive(int(pid)) for pid in heard.said_by("steady"))


async def test_a_killed_child_comes_back_and_the_signal_is_named() -> None:
    heard = Heard()
    watched = supervisor(STEADY, heard=heard)
    running = asyncio.create_task(watched.run())
    await heard.until(lambda: len(heard.said_by("steady")) == 1)
    os.kill(int(heard.said_by("steady")[0]), signal.SIGKILL)
    await heard.until(lambda: len(heard.said_by("steady")) == 2)
    watched.stop()
    await running
    assert heard.events == ["steady died (signal SIGKILL); restarting it in 0.0 s"]
    assert not any(alive(int(pid)) for pid in heard.said_by("steady"))


async def test_a_stop_lets_children_end_in_their_own_way() -> None:
    heard = Heard()
    polite = python(
        "polite",
        """
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: (print("bye", flush=True), sys.exit(0)))
        print("up", flush=True)
        signal.pause()
        """,
    )
    watched = supervisor(polite, heard=heard)
    running = asyncio.create_task(watched.run())
    await heard.until(lambda: bool(heard.lines))
    watched.stop()
    await running
    assert heard.said_by("polite") == ["up", "bye"]
    assert heard.events == []


async def test_who_needs_the_others_ends_before_they_are_told_to(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    front = python(
        "front",
        f"""
        import pathlib, signal, sys, time
        def end(*_):
            time.sleep(0.3)
            pathlib.Path({str(ended)!r}).touch()
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("up", flush=True)
        signal.pause()
        """,
    )
    back = python(
        "back",
        f"""
        import pathlib, signal, sys
        def end(*_):
            print(pathlib.Path({str(ended)!r}).exists(), flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        print("up", flush=True)
        signal.pause()
        """,
    )
    heard = Heard()
    watched = supervisor(back, replace(front, ends_first=True), heard=heard)
    running = asyncio.create_task(watched.run())
    await heard.until(lambda: len(heard.lines) == 2)
    watched.stop()
    await asyncio.wait_for(running, WAIT_LIMIT_S)
    assert heard.said_by("back") == ["up", "True"]


async def test_a_child_that_ignores_the_stop_is_killed_after_the_limit() -> None:
    heard = Heard()
    watched = supervisor(STUBBORN, heard=heard, stop_limit_s=0.05)
    running = asyncio.create_task(watched.run())
    await heard.until(lambda: bool(heard.lines))
    watched.stop()
    await asyncio.wait_for(running, WAIT_LIMIT_S)


async def test_a_second_stop_does_not_wait_for_the_limit() -> None:
    heard = Heard()
    watched = supervisor(STUBBORN, heard=heard, stop_limit_s=3600.0)
    running = asyncio.create_task(watched.run())
    await heard.until(lambda: bool(heard.lines))
    watched.stop()
    watched.stop()
    await asyncio.wait_for(running, WAIT_LIMIT_S)


async def test_a_stop_during_backoff_does_not_wait_for_it() -> None:
    heard = Heard()
    patient = RestartPolicy(delay_first_s=3600.0, delay_max_s=3600.0)
    watched = Supervisor([FAILING], clock=StillClock(), report=heard, policy=patient)
    running = asyncio.create_task(watched.run())
    await heard.until(lambda: bool(heard.events))
    watched.stop()
    await asyncio.wait_for(running, WAIT_LIMIT_S)


async def test_children_are_out_of_reach_of_the_terminals_ctrl_c() -> None:
    heard = Heard()
    watched = supervisor(STEADY, heard=heard)
    running = asyncio.create_task(watched.run())
    await heard.until(lambda: bool(heard.lines))
    pid = int(heard.said_by("steady")[0])
    assert os.getpgid(pid) == pid != os.getpgrp()
    watched.stop()
    await running


async def test_a_cancelled_supervisor_leaves_no_process() -> None:
    heard = Heard()
    running = asyncio.create_task(supervisor(STEADY, heard=heard).run())
    await heard.until(lambda: bool(heard.lines))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not alive(int(heard.said_by("steady")[0]))


async def test_an_endless_line_is_dropped_and_the_next_one_heard() -> None:
    heard = Heard()
    chatty = python(
        "chatty",
        """
        import signal
        print("x" * (3 << 20)); print("after", flush=True)
        signal.pause()
        """,
    )
    watched = supervisor(chatty, heard=heard)
    running = asyncio.create_task(watched.run())
    await heard.until(lambda: "after" in heard.said_by("chatty"))
    watched.stop()
    await running


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal")
async def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    """The child holds a FIFO open for writing: its end is the end of the file."""
    fifo = tmp_path / "held-by-child"
    os.mkfifo(fifo)
    child = f"import os, signal; open({str(fifo)!r}, 'w').write('up') and signal.pause()"
    parent = f"""
        import asyncio, sys
        from baton.cli.child import Child
        from baton.cli.console import TerminalReport
        from baton.cli.supervisor import Supervisor
        from baton.common.clock import SystemClock
        child = Child("held", (sys.executable, "-c", {child!r}))
        report = TerminalReport(sys.stderr, verbose=True)
        asyncio.run(Supervisor([child], clock=SystemClock(), report=report).run())
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(parent))
    async with asyncio.timeout(WAIT_LIMIT_S):
        held = await asyncio.to_thread(fifo.open)  # waits until the child has opened its end
        process.kill()
        await process.wait()
        assert await asyncio.to_thread(held.read) in ("", "up")
    held.close()
