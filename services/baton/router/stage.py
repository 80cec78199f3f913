"""Acts on what is heard of the workers: requests that wait are served, streams are let go, gauges
are set. Remembers when the last decode worker was lost. Knows no network and no policy.
"""

from baton.common.clock import Clock
from baton.common.metrics import Metrics
from baton.router.decide import Decision
from baton.router.decode_link import DecodeLinks
from baton.router.fleet import Role
from baton.router.holding import Holding
from baton.router.picture import Picture, ready_workers
from baton.router.tenants.gate import Gate


class Stage:
    """Implements Audience of `members`."""

    def __init__(
        self,
        picture: Picture,
        holding: Holding[Decision],
        gate: Gate,
        links: DecodeLinks,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._picture = picture
        self._holding = holding
        self._gate = gate
        self._links = links
        self._metrics = metrics
        self._clock = clock
        self._decoding = False  # whether a decode worker is ready
        self._deserted_s: float | None = None
        self._show()

    def deserted_for_s(self) -> float | None:
        """How long ago the last decode worker was lost; None: there is one, or never was."""
        since_s = self._deserted_s
        return None if since_s is None else self._clock.monotonic_s() - since_s

    def fleet_changed(self) -> None:
        decoding = bool(self._picture.fleet.ready(Role.DECODE))
        if decoding != self._decoding:
            self._decoding = decoding
            self._deserted_s = None if decoding else self._clock.monotonic_s()
        self._show()
        self._holding.serve()  # who had its turn before those that have it now
        self._gate.fleet_changed()

    def removed(self, address: str) -> None:
        self._links.retire(address)

    def frozen(self, address: str) -> None:
        self._links.lose(address)

    def refused(self, reason: str) -> None:
        self._metrics.count("baton_router_workers_refused_total", reason=reason)

    def _show(self) -> None:
        for role, count in ready_workers(self._picture.fleet).items():
            self._metrics.gauge("baton_router_workers_ready", count, role=role)
