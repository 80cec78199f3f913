"""Whether the router takes requests, and when the last one has ended.

Leaving has two steps: first every answer asks its client to connect elsewhere, and requests that
still come are served; later they are refused. Knows no signals and no HTTP.
"""

import asyncio


class Traffic:
    def __init__(self) -> None:
        self.draining = False  # answers close their connections
        self.refusing = False  # and new requests are turned away
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self) -> None:
        self.in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    def drain(self) -> None:
        """We are about to go. Clients hear so with their next answer."""
        self.draining = True

    def refuse(self) -> None:
        """Take no new requests from now on."""
        self.draining = self.refusing = True

    async def wait_idle(self, limit_s: float) -> bool:
        """Whether all requests ended within `limit_s` seconds."""
        try:
            await asyncio.wait_for(self._idle.wait(), limit_s)
        except TimeoutError:
            return False
        return True
