"""The calling thread's place among others on its cores. Knows the system; knows no engine."""

import os
import sys
import threading


def stand_back(niceness: int) -> None:
    """Make this thread, and those it starts from now on, nicer by `niceness`; its process stays as
    it was. Elsewhere than on Linux threads have no niceness of their own, and nothing happens.
    """
    if niceness and sys.platform == "linux":
        thread = threading.get_native_id()
        now = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, now + niceness)
