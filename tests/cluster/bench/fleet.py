"""Many ModelServices on fake nodes, one operator: what a pass takes, what it asks, what it holds.

The operator is the real process with the permissions of the chart; its pods never serve. Phases are
measured one after the other; each is told as it ends. Knows no real node.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.bench.fakenodes import AUDIT_LOG, fake_cluster, programs_folder
from cluster.bench.figures import Reading, audited_calls, read_page, span
from cluster.bench.report import Phase
from cluster.harness.commands import until
from support.control_plane import ControlPlane
from support.operator_plane import kubectl
from support.operator_process import OperatorProcess
from support.operator_rbac import CHART, SYSTEM, chart_rbac, lease_name, service_account

SERVICES_PER_NAMESPACE = 50
EMPTY_S = 30.0
QUIET_S = 10.0
"""No pass for so long: the fleet has settled. Shorter than what is left to do would show."""

READY_LIMIT_S = 1800.0
APPLY_LIMIT_S = 900.0
POLL_S = 1.0

Tell = Callable[[str], None]


class Fleet:
    """The operator, its services, and the phases measured so far."""

    def __init__(self, plane: ControlPlane, folder: Path, user: Path, tell: Tell) -> None:
        self._plane = plane
        self._folder = folder
        self._user = user
        self._tell = tell
        self._lease = lease_name(chart_rbac())
        self._audit = folder / AUDIT_LOG
        self._starts = 0
        self.phases: list[Phase] = []
        self.operator = self._start()

    def _start(self) -> OperatorProcess:
        self._starts += 1
        lease = ("--lease-namespace", SYSTEM, "--lease-name", self._lease)
        name = f"operator-{self._starts}"
        operator = OperatorProcess(self._folder, self._user, name, *lease, "--log-level", "WARNING")
        until(lambda: operator.leads, limit_s=60, what="the operator leads")
        return operator

    def restart(self) -> None:
        self.operator.terminate()
        self.operator = self._start()

    def reading(self) -> Reading:
        return read_page(self.operator.page(), time.monotonic())

    @contextmanager
    def phase(self, name: str, services: int) -> Iterator[None]:
        """What happens inside is measured, and told. The operator must stay the same process."""
        before, offset = self.reading(), self._audit.stat().st_size
        yield
        after = self.reading()
        with self._audit.open() as log:
            log.seek(offset)
            calls = audited_calls(log)
        self.phases.append(Phase(name, services, span(before, after), calls))
        self._tell(self.phases[-1].line)

    def idle(self, name: str, services: int, seconds: float) -> None:
        with self.phase(name, services):
            time.sleep(seconds)

    def apply(self, services: int, decode: dict[str, Any]) -> None:
        items = [service(number, decode) for number in range(services)]
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        argv = (
            str(programs_folder() / "kubectl"),
            f"--kubeconfig={self._plane.kubeconfig}",
            "apply",
            "--server-side",
        )
        subprocess.run(
            [*argv, "--filename=-"],
            input=document,
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=APPLY_LIMIT_S,
        )

    def await_ready(self, services: int) -> None:
        """All are Ready, as the operator says."""

        def there() -> bool:
            time.sleep(POLL_S)
            return self.reading().total("baton_operator_service_ready") == services

        until(there, limit_s=READY_LIMIT_S, what=f"{services} services are Ready")

    def await_scaling(self, services: int) -> None:
        """Each has been decided about; none is quiet any more, so there is nothing to settle."""

        def there() -> bool:
            time.sleep(POLL_S)
            known = self.reading().count("baton_operator_signals_age_seconds")
            return known == services

        until(there, limit_s=READY_LIMIT_S, what=f"{services} services scale")

    def settle(self) -> None:
        """Returns when no pass has ended for QUIET_S."""

        def quiet() -> bool:
            before = self.reading()
            time.sleep(QUIET_S)
            after = self.reading()
            return span(before, after).passes == 0

        until(quiet, limit_s=READY_LIMIT_S, what="the operator has nothing to do")


def namespace_of(number: int) -> str:
    return f"models-{number // SERVICES_PER_NAMESPACE}"


def service(number: int, decode: dict[str, Any]) -> dict[str, Any]:
    """One pod of each role."""
    return {
        "apiVersion": "serving.baton.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": f"model-{number}", "namespace": namespace_of(number)},
        "spec": {
            "model": {"name": "m", "source": "oci://localhost/weights:1/model/m.gguf"},
            "slo": {"ttft": "5s", "itl": "500ms"},
            "router": {"replicas": 1},
            "prefill": {"replicas": 1},
            "decode": decode,
        },
    }


def measure(folder: Path, services: int, idle_s: float, tell: Tell) -> list[Phase]:
    """All phases. Raises LimitReached when the fleet does not get there."""
    rbac = chart_rbac()
    user = f"system:serviceaccount:{SYSTEM}:{service_account(rbac)}"
    with fake_cluster(folder, user) as plane, _routers():
        kubeconfig = plane.write_user(folder / "operator.conf", user, "system:serviceaccounts")
        _prepare(plane, rbac, services)
        fleet = Fleet(plane, folder, kubeconfig, tell)
        try:
            _phases(fleet, services, idle_s)
        finally:
            fleet.operator.kill()
        return fleet.phases


def _phases(fleet: Fleet, services: int, idle_s: float) -> None:
    fixed, scaled = {"replicas": 1}, {"scaling": {"minReplicas": 1, "maxReplicas": 2}}
    fleet.idle("no services, idle", 0, EMPTY_S)
    with fleet.phase("from apply until all are Ready", services):
        fleet.apply(services, fixed)
        fleet.await_ready(services)
    fleet.settle()
    fleet.idle("fixed replicas, idle", services, idle_s)
    fleet.restart()
    with fleet.phase("operator restarted, until it has seen all", services):
        fleet.await_ready(services)
    fleet.settle()
    with fleet.phase("every spec changed: decode scales", services):
        fleet.apply(services, scaled)
        fleet.await_scaling(services)
    fleet.idle("decode scaled by signals, idle", services, idle_s)


def _prepare(plane: ControlPlane, rbac: str, services: int) -> None:
    spaces = {SYSTEM, *map(namespace_of, range(services))}
    for name in sorted(spaces):
        kubectl(plane, "create", "namespace", name)
    kubectl(plane, "apply", "--server-side", f"--filename={CHART / 'crds'}")
    kubectl(plane, "apply", "--filename=-", document=rbac)
    served = ("get", "modelservices")
    until(lambda: plane.kubectl(*served).returncode == 0, limit_s=60, what="the CRD is served")


@contextmanager
def _routers() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "cluster.bench.routers"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
