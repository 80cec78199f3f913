"""An API server of these tests' own, and operators with the permissions that the chart gives."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.control_plane import ClusterUnavailable, ControlPlane, control_plane
from support.operator_plane import eventually, kubectl, listed
from support.operator_process import OperatorProcess
from support.operator_rbac import CHART, SYSTEM, chart_rbac, lease_name, service_account


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    try:
        with control_plane(tmp_path_factory.mktemp("plane")) as running:
            kubectl(running, "create", "namespace", SYSTEM)
            kubectl(running, "apply", "--server-side", f"--filename={CHART / 'crds'}")
            kubectl(running, "apply", "--filename=-", document=chart_rbac())
            # The API server serves a new CRD some moments after it took it.
            eventually(lambda: running.kubectl("get", "modelservices").returncode == 0)
            yield running
    except ClusterUnavailable as missing:
        pytest.skip(f"no API server: {missing}")


@pytest.fixture(scope="session")
def kubeconfig(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the service account that the chart makes for the operator."""
    path = tmp_path_factory.mktemp("user") / "operator.conf"
    return plane.write_user(path, f"system:serviceaccount:{SYSTEM}:{service_account(chart_rbac())}")


@pytest.fixture
def start(kubeconfig: Path, tmp_path: Path) -> Iterator[Callable[..., OperatorProcess]]:
    """Starts operators that end with the test."""
    started: list[OperatorProcess] = []

    rbac = chart_rbac()
    common = ("--lease-namespace", SYSTEM, "--lease-name", lease_name(rbac))

    def one(
        name: str = "operator-0", *flags: str, kubeconfig: Path = kubeconfig
    ) -> OperatorProcess:
        operator = OperatorProcess(tmp_path, kubeconfig, name, *common, *flags)
        started.append(operator)
        eventually(lambda: operator.ready)
        return operator

    yield one
    for operator in started:
        operator.thaw()
        operator.kill()


@pytest.fixture
def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name.replace("_", "-").removeprefix("test-")[:40].rstrip("-")
    kubectl(plane, "create", "namespace", name)
    # What a test leaves behind must not keep the next one's operator busy.
    yield name
    for kind in ("modelservices", "deployments"):
        plane.kubectl("delete", kind, "--all", "-n", name, "--wait=false")
    for lease in listed(plane, SYSTEM, "leases"):  # the next operator need not wait
        free = '{"spec": {"holderIdentity": null}}'
        name = f"lease/{lease['metadata']['name']}"
        plane.kubectl("patch", name, "-n", SYSTEM, "--type=merge", "-p", free)
