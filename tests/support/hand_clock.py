"""A clock that stands still until a test moves it."""


class HandClock:
    """Implements baton.common.clock.Clock."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_s(self) -> float:
        return self.now_s
