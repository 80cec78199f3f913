"""What the stage remembers: for how long the last decode worker has been gone."""

from dataclasses import replace

from baton.common.metrics import Metrics
from baton.router.decide import Decision
from baton.router.decode_link import DecodeLinks
from baton.router.fleet import Heard, Role, WorkerState, WorkerView
from baton.router.holding import Holding
from baton.router.picture import Picture
from baton.router.stage import Stage
from baton.router.telemetry import ROUTER_METRICS
from baton.router.tenants.gate import OpenGate
from baton.rpc.channels import Channels
from prometheus_client import CollectorRegistry
from support.fake_fleet import decode_worker
from support.hand_clock import HandClock

A, B = decode_worker("a:1"), decode_worker("b:1")
PREFILL = replace(A, address="p:1", role=Role.PREFILL)


def draining(view: WorkerView) -> WorkerView:
    return replace(view, state=WorkerState.DRAINING)


class Scene:
    """A stage, and the workers that the test has it hear."""

    def __init__(self) -> None:
        self.clock, self.picture = HandClock(), Picture()
        metrics = Metrics(CollectorRegistry(), model_name="m")
        metrics.declare(ROUTER_METRICS)
        holding: Holding[Decision] = Holding(lambda _: None)
        links = DecodeLinks(Channels())
        self.stage = Stage(self.picture, holding, OpenGate(), links, metrics, self.clock)

    def hears(self, *views: WorkerView) -> None:
        for view in views:
            self.picture.hear(Heard(view), self.clock.now_s)
            self.stage.fleet_changed()
        self.clock.now_s += 3.0

    def loses(self, view: WorkerView) -> None:
        self.picture.lose(view.address)
        self.stage.fleet_changed()
        self.clock.now_s += 3.0


def test_a_service_that_never_had_a_decode_worker_has_lost_none() -> None:
    scene = Scene()
    scene.hears(PREFILL, decode_worker("a:1", state=WorkerState.STARTING))
    assert scene.stage.deserted_for_s() is None


def test_time_is_counted_from_when_the_last_decode_worker_was_lost() -> None:
    scene = Scene()
    scene.hears(A, B, PREFILL)
    scene.loses(A)
    assert scene.stage.deserted_for_s() is None
    scene.hears(draining(B))
    assert scene.stage.deserted_for_s() == 3.0
    scene.loses(B)  # it was as good as gone before
    scene.loses(PREFILL)
    assert scene.stage.deserted_for_s() == 9.0


def test_a_decode_worker_that_is_ready_again_ends_the_time() -> None:
    scene = Scene()
    scene.hears(A)
    scene.loses(A)
    scene.hears(B)
    assert scene.stage.deserted_for_s() is None
    scene.loses(B)
    assert scene.stage.deserted_for_s() == 3.0
