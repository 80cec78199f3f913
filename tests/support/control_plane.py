"""A kube-apiserver with its etcd on loopback, and nothing else: no kubelet; controllers on request.

For tests of what talks to an API server, and of what happens while it is away: it can be killed and
started again over the same data. Programs come from the cluster harness's cache.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.harness.binaries import ETCD, KUBERNETES, cache_folder, ensure
from cluster.harness.errors import ClusterUnavailable
from cluster.harness.pki import Authority, write_kubeconfig, write_service_account_keys

READY_LIMIT_S = 120.0
STOP_LIMIT_S = 10.0


class ControlPlane:
    """`kubeconfig` is its administrator's; `flags` are further ones of the API server."""

    def __init__(self, folder: Path, binaries: Path, flags: Sequence[str] = ()) -> None:
        self._folder = folder
        self._binaries = binaries
        self._flags = tuple(flags)
        self._port, self._etcd_port, self._peer_port = _free_ports(3)
        self.kubeconfig = folder / "admin.conf"
        self._pki = folder / "pki"
        self._authority = Authority(self._pki)
        sans = "kubernetes localhost 127.0.0.1 10.96.0.1"
        self._authority.issue("kube-apiserver", "kube-apiserver", sans=sans)
        write_service_account_keys(self._pki)
        self.write_user(self.kubeconfig, "admin", "system:masters")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def write_user(self, path: Path, user: str, group: str | None = None) -> Path:
        """A kubeconfig by which one is `user`."""
        leaf = self._authority.issue(f"user-{path.stem}", user, group=group)
        write_kubeconfig(path, server=self.url, ca=self._pki / "ca.crt", leaf=leaf)
        return path

    def start(self) -> None:
        self._run(
            "etcd",
            f"--data-dir={self._folder}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{self._etcd_port}",
            f"--advertise-client-urls=http://127.0.0.1:{self._etcd_port}",
            f"--listen-peer-urls=http://127.0.0.1:{self._peer_port}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )
        self.start_api_server()

    def start_api_server(self) -> None:
        """Returns once it is ready."""
        pki = self._pki
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=10.96.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self._port}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/kube-apiserver.crt",
            f"--tls-private-key-file={pki}/kube-apiserver.key",
            f"--service-account-key-file={pki}/sa.pub",
            f"--service-account-signing-key-file={pki}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            # Owner references that block deletion need a permission, as in stricter clusters. No
            # controller makes the default service account that pods would be given.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            "--disable-admission-plugins=ServiceAccount",
            "--profiling=false",
            *self._flags,
        )
        self._await_ready()

    def start_beside(self, name: str, *flags: str) -> None:
        """Another program of the cache, with the administrator's kubeconfig."""
        self._run(name, f"--kubeconfig={self.kubeconfig}", *flags)

    def kill_api_server(self) -> None:
        self._kill("kube-apiserver")

    def stop(self) -> None:
        for name in list(self._processes):
            self._kill(name)

    def kubectl(
        self, *arguments: str, document: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Without raising: what it says is what tests are about."""
        command = [str(self._binaries / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(
            command, input=document, capture_output=True, text=True, timeout=60, check=False
        )

    def _run(self, name: str, *flags: str) -> None:
        log = (self._folder / f"{name}.log").open("ab")
        argv = [str(self._binaries / name), *flags]
        # In a group of its own, which goes with the test whatever happens.
        self._processes[name] = subprocess.Popen(
            argv, stdout=log, stderr=log, start_new_session=True
        )
        log.close()

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_LIMIT_S)

    def _await_ready(self) -> None:
        deadline_s = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < deadline_s:
            said = self.kubectl("get", "--raw=/readyz", "--request-timeout=2s")
            if said.returncode == 0:
                return
            assert self._processes["kube-apiserver"].poll() is None, "see kube-apiserver.log"
            time.sleep(0.2)
        raise TimeoutError(f"no API server within {READY_LIMIT_S:.0f} s")


@contextlib.contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """One that runs. Raises ClusterUnavailable where its programs cannot be had."""
    binaries = cache_folder(Path.home() / ".cache" / "baton-cluster")
    ensure(binaries, (ETCD, KUBERNETES), print)
    plane = ControlPlane(folder, binaries)
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


__all__ = ["ClusterUnavailable", "ControlPlane", "control_plane"]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
