"""Time as a dependency. Knows seconds; knows no schedules. Tests inject a clock they move by
hand."""

import time
from typing import Protocol


class Clock(Protocol):
    def monotonic_s(self) -> float: ...
    def unix_s(self) -> float: ...


class SystemClock:
    """The machine's clocks."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def unix_s(self) -> float:
        return time.time()
