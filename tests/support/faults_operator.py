"""An operator over a real API server, a service whose processes are real; and what can befall them.

There is no node: the test says, as kubelet and controllers would, which pods there are and whether
they are ready. Knows processes, objects and permissions; knows alerts by name, and no expression.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from baton.model.config import Family

from support.alert_faults import Fault
from support.control_plane import ControlPlane
from support.faults_load import Clients, Question
from support.faults_processes import BatonProcess, running
from support.operator_plane import (
    apply,
    become_ready,
    condition,
    deployment,
    eventually,
    kubectl,
    make_pod,
    patch_status,
    service,
)
from support.operator_process import OperatorProcess
from support.operator_rbac import SYSTEM, chart_rbac, lease_name
from support.tiny_models import tiny_model

NAMESPACE, SERVICE = "faults", "smol"
MODEL_NAME = "tiny"
ROUTER_HOST = "127.0.9.1"  # the operator asks pods on their metrics port, which is the same for all
METRICS_PORT = 9090

WORKER_FLAGS = ("--kernels", "torch", "--kv-cache-mib", "1")  # 85 blocks
OVERLOAD_CLIENTS = 48
USUAL = Question(output_tokens=16, pause_s=0.4)
LONG = Question(output_tokens=160)


@dataclass(frozen=True)
class Estate:
    plane: ControlPlane
    operator: OperatorProcess
    router: BatonProcess
    prefill: BatonProcess
    decode: BatonProcess
    clients: Clients

    @property
    def targets(self) -> Mapping[str, Mapping[str, str]]:
        """What PodMonitors find."""
        where = {"namespace": NAMESPACE, "service": SERVICE}
        pods = {
            one.metrics_address: {**where, "role": one.role, "pod": f"{SERVICE}-{one.role}-1"}
            for one in (self.router, self.prefill, self.decode)
        }
        operator = {"namespace": SYSTEM, "pod": self.operator.name}
        return {**pods, f"127.0.0.1:{self.operator.port}": operator}


@contextmanager
def running_estate(plane: ControlPlane, kubeconfig: Path, folder: Path) -> Iterator[Estate]:
    """Its one service is ready and asked a little; decode is scaled, and may have one pod."""
    model = f"file://{tiny_model(Family.LLAMA, folder, gguf=True).path}"
    common = ("--model", model, "--model-name", MODEL_NAME)
    prefill = BatonProcess("prefill", folder, *common, *WORKER_FLAGS)
    decode = BatonProcess("decode", folder, *common, *WORKER_FLAGS)
    workers = ("--prefill-workers", prefill.address, "--decode-workers", decode.address)
    router = BatonProcess(
        "router", folder, *common, *workers, host=ROUTER_HOST, metrics_port=METRICS_PORT
    )
    clients = Clients(f"http://{router.address}", MODEL_NAME)
    with ExitStack() as stack:
        stack.enter_context(running(prefill, decode, router))
        stack.enter_context(clients.asking(2, USUAL))
        operator = stack.enter_context(_leading_operator(plane, folder, kubeconfig))
        _make_ready_service(plane)
        yield Estate(plane, operator, router, prefill, decode, clients)


@contextmanager
def _leading_operator(
    plane: ControlPlane, folder: Path, kubeconfig: Path
) -> Iterator[OperatorProcess]:
    """Afterwards the next one need not wait, and finds nothing to do."""
    lease = lease_name(chart_rbac())
    flags = ("--lease-namespace", SYSTEM, "--lease-name", lease)
    operator = OperatorProcess(folder, kubeconfig, "operator-0", *flags)
    try:
        eventually(lambda: operator.leads)
        yield operator
    finally:
        operator.kill()
        free = json.dumps({"spec": {"holderIdentity": None}})
        plane.kubectl("patch", f"lease/{lease}", "-n", SYSTEM, "--type=merge", "-p", free)
        gone = "modelservices,deployments,pods"
        plane.kubectl("delete", gone, "--all", "-n", NAMESPACE, "--wait=false")


def _make_ready_service(plane: ControlPlane) -> None:
    kubectl(plane, "create", "namespace", NAMESPACE)
    one = {"scaling": {"minReplicas": 1, "maxReplicas": 1}}
    apply(plane, service(NAMESPACE, prefill={"replicas": 1}, decode=one))
    eventually(lambda: condition(plane, NAMESPACE, "Ready")["reason"] != "")
    pod = {
        "phase": "Running",
        "podIP": ROUTER_HOST,
        "podIPs": [{"ip": ROUTER_HOST}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    make_pod(plane, NAMESPACE, "router", f"{SERVICE}-router-1", pod)
    become_ready(plane, NAMESPACE)
    eventually(lambda: condition(plane, NAMESPACE, "Ready")["status"] == "True")


@contextmanager
def _prefill_crashed(estate: Estate) -> Iterator[None]:
    """And does not come back, as the Deployment's controller would tell."""
    estate.prefill.kill()
    found = deployment(estate.plane, NAMESPACE, "prefill")
    status = {**found["status"], "readyReplicas": 0, "availableReplicas": 0}
    patch_status(estate.plane, NAMESPACE, f"deployment/{SERVICE}-prefill", status)
    try:
        yield
    finally:
        estate.prefill.start()
        estate.prefill.await_ready()
        patch_status(estate.plane, NAMESPACE, f"deployment/{SERVICE}-prefill", found["status"])


@contextmanager
def _more_clients_than_one_pod_serves(estate: Estate) -> Iterator[None]:
    with estate.clients.asking(OVERLOAD_CLIENTS, LONG):
        yield


@contextmanager
def _router_frozen(estate: Estate) -> Iterator[None]:
    estate.router.freeze()
    try:
        yield
    finally:
        estate.router.thaw()


@contextmanager
def _permissions_revoked(estate: Estate) -> Iterator[None]:
    """All but that to lead; then somebody changes what the operator looks after."""
    documents = yaml.safe_load_all(chart_rbac())
    bindings = [one for one in documents if one and one["kind"] == "ClusterRoleBinding"]
    assert bindings, "the chart gives the operator no ClusterRole"
    where = (f"deployment/{SERVICE}-decode", "-n", NAMESPACE)
    document = yaml.safe_dump_all(bindings)
    kubectl(estate.plane, "delete", "--filename=-", document=document)
    try:
        kubectl(estate.plane, "label", *where, "changed=by-somebody", "--overwrite")
        yield
    finally:
        kubectl(estate.plane, "apply", "--filename=-", document=document)
        kubectl(estate.plane, "label", *where, "changed-")


@contextmanager
def _operator_killed(estate: Estate) -> Iterator[None]:
    estate.operator.kill()
    yield


OPERATOR: tuple[tuple[Fault[Estate], ...], ...] = (
    (
        Fault(
            "prefill crashed",
            ("BatonNoPrefillWorker", "BatonServiceNotReady"),
            _prefill_crashed,
        ),
        Fault(
            "more clients than maxReplicas can serve",
            ("BatonScalingAtMaximum",),
            _more_clients_than_one_pod_serves,
        ),
    ),
    (Fault("the router is frozen", ("BatonScalingHeld",), _router_frozen),),
    (Fault("permissions revoked", ("BatonReconcileErrors",), _permissions_revoked),),
    (Fault("the operator was killed", ("BatonOperatorNotLeading",), _operator_killed),),
)
"""In this order: after the last there is no operator. Faults of one group happen together."""
