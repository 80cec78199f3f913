"""A service as it runs in pods, small: router, prefill and decode with mutual TLS, under a light
load; and what can befall it.

Knows processes, clients and certificates; knows alerts by name, and no expression.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from baton.model.config import Family
from baton.rpc.identity_files import TlsFiles
from baton_operator.certificates import DAY_S
from baton_operator.issuing import Pair, make_authority, make_leaf

from support.alert_faults import Fault
from support.faults_load import Clients, HandOffs, Question
from support.faults_network import Link
from support.faults_processes import BatonProcess, running
from support.tiny_models import tiny_model
from support.tls_files import Leaf, MountedSecret

NAMESPACE, SERVICE, MODEL_NAME = "shop", "chat", "tiny"
TLS_NAME = f"{SERVICE}.{NAMESPACE}.baton"

REQUESTS_MAX = 32
OVERLOAD_CLIENTS = 64
"""Twice what the router takes, and more than decode's cache has room for."""

ITL_TARGET_S = 0.04

READY_WAIT_S = 4.0
"""A throttled worker looks frozen once a step has taken 3 s; no request may fail of that."""

ROUTER_FLAGS = (
    *("--requests-max", str(REQUESTS_MAX), "--ready-wait-s", str(READY_WAIT_S)),
    *("--slo-ttft-s", "0.15", "--slo-itl-s", str(ITL_TARGET_S)),
)
PREFILL_FLAGS = ("--kv-cache-mib", "32")
DECODE_FLAGS = ("--kv-cache-mib", "1")  # 85 blocks

USUAL = Question(output_tokens=16, pause_s=0.4)
LONG = Question(output_tokens=160)

THROTTLED = Question(output_tokens=16)

QUOTAS_S, QUOTA_PAUSES_S = (*7 * (0.0025,), 0.02), (*7 * (0.1,), 0.7)
"""As the kernel treats a container that is over its CPU limit: it computes for a little, however
long that takes beside its neighbours, then waits for its next period. The waits put an answer's
mean ITL over the target even where its 16 steps need few of them. By chance both: a wait that comes
with every step, or as many with each as with the next, is one that the cost model learns to
predict. Only a step that goes without tells it wrong."""

QUOTA_LOOK_S = 0.001

SERVED_S = 2.0
"""Between two crashes: long enough that each start is scraped."""


class Certificates:
    """The Secret of the service as kubelet mounts it, and what the operator would write to it."""

    def __init__(self, folder: Path) -> None:
        self.files = TlsFiles(folder, TLS_NAME)
        self._secret = MountedSecret(folder)
        self._authority = make_authority(TLS_NAME, time.time() - 30 * DAY_S)
        self.issue(age_days=0)

    def issue(self, *, age_days: float) -> None:
        """One that is `age_days` old: a new one, or one that nobody has renewed since."""
        leaf: Pair = make_leaf(self._authority, TLS_NAME, time.time() - age_days * DAY_S)
        pems = Leaf(leaf.certificate_pem, leaf.key_pem)
        self._secret.write(self._authority.certificate_pem, pems)


@dataclass(frozen=True)
class Site:
    router: BatonProcess
    prefill: BatonProcess
    decode: BatonProcess
    link: Link  # between decode and prefill
    certificates: Certificates
    clients: Clients

    @property
    def targets(self) -> Mapping[str, Mapping[str, str]]:
        """What a PodMonitor finds."""
        where = {"namespace": NAMESPACE, "service": SERVICE}
        return {
            one.metrics_address: {**where, "role": one.role, "pod": f"{SERVICE}-{one.role}-1"}
            for one in (self.router, self.prefill, self.decode)
        }


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Ready, and asked a little."""
    model = f"file://{tiny_model(Family.LLAMA, folder, gguf=True).path}"
    certificates = Certificates(folder / "tls")
    tls = ("--tls-dir", str(certificates.files.dir), "--tls-name", TLS_NAME)
    common = ("--model", model, "--model-name", MODEL_NAME, *tls)
    worker = (*common, "--kernels", "torch")
    prefill = BatonProcess("prefill", folder, *worker, *PREFILL_FLAGS)
    decode = BatonProcess("decode", folder, *worker, *DECODE_FLAGS)
    workers = ("--prefill-workers", prefill.address, "--decode-workers", decode.address)
    router = BatonProcess("router", folder, *common, *workers, *ROUTER_FLAGS)
    link = Link(prefill.address)
    clients = Clients(f"http://{router.address}", MODEL_NAME)
    with ExitStack() as stack:
        stack.enter_context(link.open())
        stack.enter_context(running(prefill, decode, router))
        stack.enter_context(HandOffs(decode.address, link.address, certificates.files).asking())
        stack.enter_context(clients.asking(2, USUAL))
        yield Site(router, prefill, decode, link, certificates, clients)


@contextmanager
def throttled(process: BatonProcess) -> Iterator[None]:
    """It is over its CPU limit."""
    chance = random.Random(0)
    pause_at_s = 0.0  # of its CPU time

    def pause(stopping: threading.Event) -> None:
        nonlocal pause_at_s
        if process.cpu_s < pause_at_s:
            return
        process.freeze()
        stopping.wait(chance.choice(QUOTA_PAUSES_S))
        pause_at_s = process.cpu_s + chance.choice(QUOTAS_S)
        process.thaw()

    with _again_and_again(pause, QUOTA_LOOK_S):
        yield


@contextmanager
def _decode_throttled(site: Site) -> Iterator[None]:
    with site.clients.asking(8, THROTTLED), throttled(site.decode):
        yield


@contextmanager
def _certificate_not_renewed(site: Site) -> Iterator[None]:
    site.certificates.issue(age_days=28)
    try:
        yield
    finally:
        site.certificates.issue(age_days=0)


@contextmanager
def _too_many_clients(site: Site) -> Iterator[None]:
    with site.clients.asking(OVERLOAD_CLIENTS, LONG):
        yield


@contextmanager
def _link_cut(site: Site) -> Iterator[None]:
    with site.link.cut():
        yield


@contextmanager
def _decode_killed(site: Site) -> Iterator[None]:
    site.decode.kill()
    try:
        yield
    finally:
        site.decode.start()
        site.decode.await_ready()


@contextmanager
def _router_crashes(site: Site) -> Iterator[None]:
    """As soon as it has served a little."""

    def crash(_: threading.Event) -> None:
        site.router.kill()
        site.router.start()
        site.router.await_ready()

    with _again_and_again(crash, SERVED_S):
        yield


@contextmanager
def _again_and_again(befall: Callable[[threading.Event], None], pause_s: float) -> Iterator[None]:
    """It befalls while inside, `pause_s` after it last did; it is told when to be done with."""
    stopping = threading.Event()

    def run() -> None:
        while not stopping.wait(pause_s):
            befall(stopping)

    thread = threading.Thread(target=run, name=befall.__name__, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


DATA_PLANE: tuple[tuple[Fault[Site], ...], ...] = (
    (
        Fault(
            "decode is over its CPU limit",
            (
                "BatonTtftBudgetBurnFast",
                "BatonTtftBudgetBurnSlow",
                "BatonItlBudgetBurnFast",
                "BatonItlBudgetBurnSlow",
                "BatonCostModelWrong",
            ),
            _decode_throttled,
        ),
        Fault(
            "nobody renewed the certificate",
            ("BatonCertificateExpires",),
            _certificate_not_renewed,
        ),
        Fault("no way from decode to prefill", ("BatonHandoffsFail",), _link_cut),
    ),
    (
        Fault(
            "twice the clients that there is room for",
            ("BatonRequestsRefused", "BatonKvCacheFull", "BatonPreemptions"),
            _too_many_clients,
        ),
    ),
    (
        Fault(
            "decode was killed",
            (
                "BatonNoDecodeWorker",
                "BatonRequestsHeld",
                "BatonErrorBudgetBurnFast",
                "BatonErrorBudgetBurnSlow",
            ),
            _decode_killed,
        ),
    ),
)
"""Faults of one group happen together: they do not touch each other's metrics."""

CRASHES: tuple[Fault[Site], ...] = (
    Fault("the router crashes again and again", ("BatonWorkersRestart",), _router_crashes),
)
"""Counted over half an hour, and told at once: for rules whose time is not compressed, since the
start of a process takes the time it takes."""
