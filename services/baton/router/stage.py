"""Acts on what is heard of the workers: requests that wait are served, streams are let go, gauges
are set. Knows no network and no policy.
"""

from baton.common.metrics import Metrics
from baton.router.decide import Decision
from baton.router.decode_link import DecodeLinks
from baton.router.holding import Holding
from baton.router.picture import Picture, ready_workers


class Stage:
    """Implements Audience of `members`."""

    def __init__(
        self, picture: Picture, holding: Holding[Decision], links: DecodeLinks, metrics: Metrics
    ) -> None:
        self._picture = picture
        self._holding = holding
        self._links = links
        self._metrics = metrics
        self._show()

    def fleet_changed(self) -> None:
        self._show()
        self._holding.serve()

    def removed(self, address: str) -> None:
        self._links.retire(address)

    def frozen(self, address: str) -> None:
        self._links.lose(address)

    def refused(self, reason: str) -> None:
        self._metrics.count("baton_router_workers_refused_total", reason=reason)

    def _show(self) -> None:
        for role, count in ready_workers(self._picture.fleet).items():
            self._metrics.gauge("baton_router_workers_ready", count, role=role)
