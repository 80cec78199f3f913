"""A reconciler over an API server in memory, with routers and time that tests move by hand."""

from collections.abc import Sequence
from typing import Any

from baton.common.signals import RouterSignals, WorkerSignals
from baton_operator.kinds import Kind
from baton_operator.metrics import OperatorMetrics
from baton_operator.reconcile import RESYNC_S, Reconciler
from baton_operator.reporting import Reporter
from baton_operator.signals import Heard
from prometheus_client import CollectorRegistry

from support.fake_kube import FakeKube
from support.model_services import OWNER, RELEASE, model_service
from support.router_signals import quiet_traffic, resting_worker

KEY = (OWNER.namespace, OWNER.name)
ROUTER = "10.0.1.1"
COSTS = ("prefill_kv_token_s", "decode_row_s", "kv_token_s")


class Bench:
    """A reconciler, its world, and time that is moved by hand. It collects what routers say."""

    def __init__(self, **spec: Any) -> None:
        self.kube = FakeKube()
        self.now_s = 0.0
        self.metrics = OperatorMetrics(CollectorRegistry())
        self.waiting = 0
        self.silent = False
        self.workers: tuple[WorkerSignals, ...] = ()
        self.reads = 0
        self.moments = 0
        self.operator = self.new_operator()
        self.kube.put(model_service(**spec))

    def new_operator(self) -> Reconciler:
        reporter = Reporter(self.kube, self.metrics, self, "operator-0")
        return Reconciler(self.kube, self, reporter, self.metrics, RELEASE, self, lambda: 0.5)

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_s(self) -> float:
        """No two moments are the same, as outside."""
        self.moments += 1
        return 1_800_000_000.0 + self.now_s + self.moments / 1_000

    async def collect(self, hosts: Sequence[str]) -> tuple[Heard, ...]:
        traffic = quiet_traffic(requests_waiting=self.waiting)
        told = RouterSignals(model_name="m", incarnation=1, traffic=traffic, workers=self.workers)
        return () if self.silent else tuple(Heard(told, self.now_s) for _ in hosts)

    async def run(self) -> float | None:
        return await self.operator(KEY)

    async def tick(self, *, seconds: float) -> None:
        """Passes as the queue would make them."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            delay_s = await self.run()
            self.now_s += min(delay_s or RESYNC_S, end_s - self.now_s + 0.001)

    async def change(self, **spec: Any) -> None:
        """Another spec, as the API server would store it."""
        resource = self.kube.of(Kind.MODEL_SERVICE)["smol"]
        resource["spec"] = model_service(**spec)["spec"]
        resource["metadata"]["generation"] += 1
        self.operator.notice(KEY)

    def all_ready(self) -> None:
        """What the Deployment controller says in the end."""
        for name, found in self.kube.of(Kind.DEPLOYMENT).items():
            count = found["spec"]["replicas"]
            counts = ("replicas", "readyReplicas", "updatedReplicas")
            status = {**dict.fromkeys(counts, count), "observedGeneration": 1}
            self.kube.set_status(Kind.DEPLOYMENT, name, **status)
        self.operator.notice(KEY)

    def add_pod(self, role: str, host: str) -> str:
        deployment = self.kube.of(Kind.DEPLOYMENT)[f"smol-{role}"]
        name = f"smol-{role}-{host}"
        self.kube.put(
            {
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": OWNER.namespace,
                    "labels": deployment["spec"]["template"]["metadata"]["labels"],
                },
                "status": {
                    "podIP": host,
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
        )
        self.operator.notice(KEY)
        return name

    def replicas(self, role: str) -> int:
        count: int = self.kube.of(Kind.DEPLOYMENT)[f"smol-{role}"]["spec"]["replicas"]
        return count

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.kube.of(Kind.MODEL_SERVICE)["smol"].get("status", {})
        return found

    def condition(self, kind: str) -> tuple[str, str]:
        (found,) = [one for one in self.status["conditions"] if one["type"] == kind]
        return found["status"], found["reason"]

    def message(self, kind: str) -> str:
        (found,) = [one for one in self.status["conditions"] if one["type"] == kind]
        return str(found["message"])

    def events(self) -> list[str]:
        return [one["reason"] for one in self.kube.of(Kind.EVENT).values()]


def decode_worker(host: str, running: int) -> WorkerSignals:
    return resting_worker(
        address=f"{host}:7000",
        requests_running=running,
        blocks_used=running,
        block_count=1_000,
        fixed_s=0.001,
        prefill_token_s=0.0001,
        **dict.fromkeys(COSTS, 0.000001),
    )


SCALED = {"scaling": {"minReplicas": 1, "maxReplicas": 4}}
TO_ZERO = {"scaling": {"minReplicas": 0, "maxReplicas": 4, "idleAfter": "1m"}}
FIXED = {"decode": {"replicas": 2}, "prefill": {"replicas": 1}}


async def serving(**spec: Any) -> Bench:
    """A service that is Ready, with a router that speaks."""
    bench = Bench(**spec)
    await bench.run()
    bench.add_pod("router", ROUTER)
    bench.all_ready()
    await bench.run()
    return bench
