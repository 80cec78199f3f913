"""Whether this router can serve, and why not. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from baton.router.fleet import Fleet, Role
from baton.router.picture import ready_workers


@dataclass(frozen=True, slots=True)
class Readiness:
    ready: bool
    status: str
    workers: dict[str, int]  # by role: how many take requests

    def body(self) -> dict[str, object]:
        return {"status": self.status, "workers": self.workers}


def readiness(
    fleet: Fleet,
    *,
    draining: bool,
    unlisted: Sequence[str],
    scale_from_zero: bool,
    deserted_for_s: float | None,
    held_s: float,
) -> Readiness:
    """`unlisted`: why the list of workers is not known; `scale_from_zero`: no decode worker is no
    trouble, requests are held until one comes; `deserted_for_s`: how long ago the last decode
    worker was lost, None: there is one, or never was; `held_s`: how long requests are held."""
    workers = ready_workers(fleet)
    if draining:
        return Readiness(False, "draining", workers)
    if unlisted:
        return Readiness(False, "; ".join(unlisted), workers)
    if workers[Role.DECODE.value]:
        return Readiness(True, "ready", workers)
    if scale_from_zero or (deserted_for_s is not None and deserted_for_s < held_s):
        # the last worker's restart loses nothing that comes here and is held meanwhile; requests to
        # a service without ready routers are refused
        return Readiness(True, "ready; requests wait for a decode worker", workers)
    return Readiness(False, "no decode worker is ready", workers)
