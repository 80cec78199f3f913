"""The control plane on the first node: etcd, API server, controllers, scheduler. Command lines.

Knows no nodes but the first, and nothing of containers.
"""

from cluster.harness.commands import run, succeeds, until
from cluster.harness.daemons import Daemon
from cluster.harness.layout import API_PORT, API_SERVICE_ADDRESS, SERVICE_CIDR, Layout
from cluster.harness.pki import Authority, write_kubeconfig, write_service_account_keys

READY_LIMIT_S = 120.0  # six seconds here on idle cores
GRACE_PERIOD_S = 20  # twice a kubelet's report interval: half the default, see kubelet.LEASE_S
UNREACHABLE_S = 30  # default 300: pods leave a node cut off within a test's time
ETCD_URL = "http://127.0.0.1:2379"  # loopback of the node's own namespace

# kubeconfig -> user, group
USERS = {
    "admin": ("admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", None),
    "kube-scheduler": ("system:kube-scheduler", None),
    "kube-proxy": ("system:kube-proxy", None),
}


def prepare(layout: Layout, authority: Authority) -> None:
    """The API server's certificate, service account keys, and a kubeconfig for each user."""
    address = layout.nodes[0].address
    names = "kubernetes kubernetes.default kubernetes.default.svc localhost"
    sans = f"{names} {address} {API_SERVICE_ADDRESS} 127.0.0.1"
    authority.issue("kube-apiserver", "kube-apiserver", sans=sans)
    write_service_account_keys(layout.pki)
    for name, (user, group) in USERS.items():
        leaf = authority.issue(name, user, group=group)
        path = layout.run / f"{name}.conf"
        write_kubeconfig(path, server=layout.api_url, ca=layout.pki / "ca.crt", leaf=leaf)


def etcd(layout: Layout) -> Daemon:
    return _daemon(
        layout,
        "etcd",
        f"--data-dir={layout.run}/etcd",
        f"--listen-client-urls={ETCD_URL}",
        f"--advertise-client-urls={ETCD_URL}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",  # nothing of a test cluster is worth a disk's wait
        "--log-level=warn",
    )


def api_server(layout: Layout) -> Daemon:
    pki = layout.pki
    return _daemon(
        layout,
        "kube-apiserver",
        f"--etcd-servers={ETCD_URL}",
        f"--advertise-address={layout.nodes[0].address}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/kube-apiserver.crt",
        f"--tls-private-key-file={pki}/kube-apiserver.key",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--default-not-ready-toleration-seconds={UNREACHABLE_S}",
        f"--default-unreachable-toleration-seconds={UNREACHABLE_S}",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/admin.crt",
        f"--kubelet-client-key={pki}/admin.key",
        "--kubelet-preferred-address-types=InternalIP",  # else it resolves the node's name
        "--profiling=false",
    )


def controllers(layout: Layout) -> Daemon:
    pki = layout.pki
    return _daemon(
        layout,
        "kube-controller-manager",
        *_own_kubeconfig(layout, "kube-controller-manager"),
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--use-service-account-credentials",
        f"--node-monitor-grace-period={GRACE_PERIOD_S}s",
        "--leader-elect=false",
        "--profiling=false",
    )


def scheduler(layout: Layout) -> Daemon:
    own = _own_kubeconfig(layout, "kube-scheduler")
    return _daemon(layout, "kube-scheduler", *own, "--leader-elect=false", "--profiling=false")


def kubectl(layout: Layout) -> tuple[str, ...]:
    """Command line that a kubectl call starts with, from any network."""
    binary = str(layout.binaries / "kubectl")
    return (*layout.nodes[0].inside, binary, f"--kubeconfig={layout.kubeconfig}")


def answers(layout: Layout) -> bool:
    """Whether the API server says that it is ready."""
    return layout.kubeconfig.exists() and succeeds(
        (*kubectl(layout), "get", "--raw=/readyz", "--request-timeout=5s"), limit_s=10
    )


def await_ready(layout: Layout) -> None:
    """Returns when the API server is ready. Raises LimitReached."""
    until(lambda: answers(layout), limit_s=READY_LIMIT_S, what="the API server is ready")


def nodes_ready(layout: Layout) -> bool:
    """Whether every node of the layout says that it is."""
    path = '{.items[*].status.conditions[?(@.type=="Ready")].status}'
    states = run((*kubectl(layout), "get", "nodes", f"--output=jsonpath={path}")).split()
    return states == ["True"] * len(layout.nodes)


def _own_kubeconfig(layout: Layout, name: str) -> tuple[str, ...]:
    file = layout.run / f"{name}.conf"
    flags = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    return tuple(f"--{flag}={file}" for flag in flags)


def _daemon(layout: Layout, name: str, *flags: str) -> Daemon:
    argv = (*layout.nodes[0].inside, str(layout.binaries / name), *flags)
    return Daemon(name, argv, layout.run)
