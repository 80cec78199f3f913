"""Threads that stand back: they and their own, and nobody else of the process."""

import os
import sys
import threading
from collections.abc import Callable

import pytest
from baton.worker.niceness import stand_back

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are nice on Linux only")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def on_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.mark.parametrize("amount", [0, 5])
def test_a_thread_and_what_it_starts_stand_back_and_nobody_else(amount: int) -> None:
    ours = niceness()
    found = []

    def work() -> None:
        stand_back(amount)
        found.append(niceness())
        on_a_thread(lambda: found.append(niceness()))

    on_a_thread(work)
    assert found == [ours + amount] * 2
    assert niceness() == ours
