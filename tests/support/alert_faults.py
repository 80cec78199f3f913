"""What an alert's test is made of: a fault that a person on call would know, and the alerts that
must tell of it. And what such a person needs of an alert: who, what, and where to read on.

Knows no fault and no alert by name.
"""

import re
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import yaml

from support.prometheus_server import RULES, FiringAlert, Prometheus

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.25

WorldT = TypeVar("WorldT")


@dataclass(frozen=True)
class Fault(Generic[WorldT]):
    """`happens` is the fault while its context lasts; leaving it, the world is whole again."""

    name: str
    alerts: tuple[str, ...]
    happens: Callable[[WorldT], AbstractContextManager[None]]


def alert_names() -> list[str]:
    """Of the rules that the chart ships."""
    document = yaml.safe_load((RULES / "alerts.yaml").read_text())
    return [rule["alert"] for group in document["groups"] for rule in group["rules"]]


def alerts_of(faults: Collection[Sequence[Fault[WorldT]]]) -> list[str]:
    return [alert for together in faults for fault in together for alert in fault.alerts]


def check_noticed(
    world: WorldT, prometheus: Prometheus, faults: Sequence[Fault[WorldT]], limit_s: float
) -> None:
    """None of the faults' alerts has fired; they happen, all at once; every one of them fires, and
    says what a person needs."""
    awaited = set(alerts_of([faults]))
    assert awaited & prometheus.ever_fired() == set(), "fired before the fault"
    with ExitStack() as happening:
        for fault in faults:
            happening.enter_context(fault.happens(world))
        seen: dict[str, FiringAlert] = {}
        deadline_s = time.monotonic() + limit_s
        while not awaited <= seen.keys():
            assert time.monotonic() < deadline_s, _missing(awaited - seen.keys(), prometheus)
            time.sleep(POLL_S)
            seen.update({one.name: one for one in prometheus.firing()})
    assert [problem for name in awaited for problem in lacks(seen[name])] == []


def lacks(alert: FiringAlert) -> list[str]:
    """What its reader would miss."""
    found = []
    for field in ("summary", "description"):
        text = alert.annotations.get(field, "")
        # A label that is not there leaves a gap beside its slash.
        if not text or "<no value>" in text or re.search(r"(^|\s)/|/(\s|$)", text):
            found.append(f"{alert.name}: {field}: {text!r}")
    page, _, anchor = alert.annotations.get("runbook_url", "").partition("#")
    if not anchor or anchor not in _anchors(ROOT / page):
        found.append(f"{alert.name}: no runbook at {page}#{anchor}")
    return found


def _anchors(page: Path) -> set[str]:
    """Of the headings of a Markdown page, as a forge makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def _missing(names: Collection[str], prometheus: Prometheus) -> str:
    states = prometheus.alert_states()
    told = ", ".join(f"{name} is {states.get(name, 'inactive')}" for name in sorted(names))
    return f"not firing in time: {told}"
