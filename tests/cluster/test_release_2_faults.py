"""Steady streamed load while the cluster is changed and broken: no request fails, none changes.

Every test ends with what `Release.under_load` asserts: each answer came, whole, and is the one the
undisturbed service gave, token for token.
"""

import asyncio
import re

import httpx
import pytest
from cluster.answers import whole_answer
from cluster.harness.commands import until
from cluster.release import (
    NAMESPACE,
    ROLES,
    ROLLOUT_LIMIT_S,
    ROUTER_PORT,
    SERVICE,
    Release,
    connects,
    meanwhile,
)
from openai import OpenAI

OUTAGE_S = 120.0
ABSENCE_S = 15
"""Two failed readiness probes and as much again; a request is held for 30."""

FILES_LIMIT_S = 240.0
"""Kubelet looks at a pod's volumes every minute or two."""

EXPIRY = re.compile(r"baton_tls_certificate_expiry_timestamp_seconds\b").match

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(autouse=True)
def whole_again(release: Release) -> None:
    """Each fault begins with a service that has recovered from the one before."""
    release.patch({"decode": {"replicas": 2}})
    release.await_whole()


@pytest.mark.parametrize("role", ROLES)
async def test_a_rolling_upgrade(release: Release, role: str) -> None:
    before = set(release.pods(role))
    async with release.under_load():
        annotations = {"upgraded": f"by-the-test-of-{role}"}
        release.patch({role: {"template": {"annotations": annotations}}})
        await meanwhile(release.await_rollout, role)
    assert before.isdisjoint(release.pods(role))


async def test_a_rolling_upgrade_of_the_operator(release: Release) -> None:
    untouched = [release.pods(role) for role in ROLES]
    async with release.under_load():
        restart = ("rollout", "restart", "deployment/baton-operator")
        await meanwhile(release.cluster.kubectl, *restart, namespace=NAMESPACE)
        wait = ("rollout", "status", "deployment/baton-operator", "--timeout=180s")
        await meanwhile(release.cluster.kubectl, *wait, namespace=NAMESPACE, limit_s=200)
    assert [release.pods(role) for role in ROLES] == untouched


async def test_a_chart_upgrade(release: Release) -> None:
    """The operator's pods are replaced and the CRD is applied again; no model pod moves."""
    untouched = [release.pods(role) for role in ROLES]
    async with release.under_load():
        operator = {"replicas": 2, "podAnnotations": {"upgraded": "by-the-test-of-the-chart"}}
        await meanwhile(release.upgrade, {"operator": operator})
    assert [release.pods(role) for role in ROLES] == untouched


async def test_decode_shrinks_and_grows(release: Release) -> None:
    async with release.under_load():
        for replicas in (1, 3):
            release.patch({"decode": {"replicas": replicas}})
            await meanwhile(release.await_rollout, "decode")


@pytest.mark.parametrize("role", ROLES)
async def test_a_pod_is_deleted(release: Release, role: str) -> None:
    victim = release.pods(role)[0]
    async with release.under_load():
        delete = ("delete", "pod", victim, "--wait=false")
        await meanwhile(release.cluster.kubectl, *delete, namespace=NAMESPACE)
        await meanwhile(release.await_rollout, role)
    assert victim not in release.pods(role)


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_a_worker_is_killed(release: Release, role: str) -> None:
    """No goodbye and no drain: SIGKILL, and its address is gone."""
    victim = release.pods(role)[0]
    async with release.under_load():
        force = ("delete", "pod", victim, "--force", "--grace-period=0", "--wait=false")
        await meanwhile(release.cluster.kubectl, *force, namespace=NAMESPACE)
        await meanwhile(release.await_rollout, role)


async def test_the_only_decode_worker_is_away_for_a_while(release: Release) -> None:
    """Nobody is refused: routers stay in service, and hold what comes until there is another."""
    release.patch({"decode": {"replicas": 1}})
    release.await_rollout("decode")
    [victim] = release.pods("decode")
    service = (release.cluster.service_address(NAMESPACE, SERVICE), ROUTER_PORT)
    force = ("delete", "pod", victim, "--force", "--grace-period=0", "--wait=false")
    nodes = ("node0", "node1")
    release.cluster.kubectl("cordon", *nodes)
    try:
        release.cluster.kubectl(*force, namespace=NAMESPACE)
        for _ in range(ABSENCE_S):
            await asyncio.sleep(1.0)
            assert connects(service)
        with OpenAI(base_url=release.url(), api_key="none", max_retries=0) as client:
            asked = asyncio.create_task(meanwhile(whole_answer, client))
            await asyncio.sleep(1.0)
            assert not asked.done()
            release.cluster.kubectl("uncordon", *nodes)
            assert "Paris" in await asked
    finally:
        release.cluster.kubectl("uncordon", *nodes)


async def test_the_operator_is_killed(release: Release) -> None:
    untouched = [release.pods(role) for role in ROLES]
    selector = "--selector=app.kubernetes.io/component=operator"
    async with release.under_load():
        kill = ("delete", "pod", selector, "--force", "--grace-period=0")
        await meanwhile(release.cluster.kubectl, *kill, namespace=NAMESPACE)
        wait = ("rollout", "status", "deployment/baton-operator", "--timeout=180s")
        await meanwhile(release.cluster.kubectl, *wait, namespace=NAMESPACE, limit_s=200)
    assert [release.pods(role) for role in ROLES] == untouched


async def test_a_node_is_drained(release: Release) -> None:
    try:
        async with release.under_load():
            drain = ("drain", "node1", "--ignore-daemonsets", "--delete-emptydir-data")
            limit = f"--timeout={ROLLOUT_LIMIT_S:.0f}s"
            await meanwhile(release.cluster.kubectl, *drain, limit, limit_s=ROLLOUT_LIMIT_S + 10)
            for role in ROLES:
                await meanwhile(release.await_rollout, role)
            nodes = await meanwhile(_nodes_of_pods, release)
            assert nodes == {"node0"}
    finally:
        release.cluster.kubectl("uncordon", "node1")


async def test_the_api_server_is_away_for_two_minutes(release: Release) -> None:
    """The data plane does not notice; what was missed is done afterwards."""
    untouched = [release.pods(role) for role in ROLES]
    faults = release.cluster.faults
    async with release.under_load():
        await meanwhile(faults.stop_api_server)
        try:
            await asyncio.sleep(OUTAGE_S)
        finally:
            await meanwhile(faults.start_api_server)
    assert [release.pods(role) for role in ROLES] == untouched
    release.patch({"decode": {"replicas": 1}})
    release.await_rollout("decode")


async def test_certificates_are_replaced(release: Release) -> None:
    """A lost Secret is made anew; every process takes the new files up without a restart."""
    untouched = [release.pods(role) for role in ROLES]
    old = _expiries(release)
    async with release.under_load():
        delete = ("delete", "secret", f"{SERVICE}-tls")
        await meanwhile(release.cluster.kubectl, *delete, namespace=NAMESPACE)
        # Secrets are not watched: the change of another child has the operator look at once.
        touched = f"deployment/{SERVICE}-router"
        notice = ("annotate", "--overwrite", touched, f"noticed=at-{max(old):.0f}")
        await meanwhile(release.cluster.kubectl, *notice, namespace=NAMESPACE)
        await meanwhile(
            until,
            lambda: min(_expiries(release)) > max(old),
            limit_s=FILES_LIMIT_S,
            what="every pod has the new certificate",
        )
    assert [release.pods(role) for role in ROLES] == untouched


def test_a_spec_that_cannot_work_keeps_the_old_pods_and_says_why(release: Release) -> None:
    serving = set(release.pods("decode"))
    try:
        release.patch({"image": {"worker": "localhost/no-such-image:none", "pullPolicy": "Never"}})
        until(
            lambda: "no-such-image" in release.condition("DecodeReady").get("message", ""),
            limit_s=120,
            what="the condition names the image that cannot be had",
        )
        assert serving <= set(release.pods("decode"))
        assert release.deployment("decode")["status"]["readyReplicas"] == len(serving)
    finally:
        release.patch({"image": None})


def _expiries(release: Release) -> list[float]:
    """When the certificate ends that each pod uses now, Unix seconds."""
    selector = f"--selector=app.kubernetes.io/instance={SERVICE}"
    pods = release.cluster.read("pods", selector, namespace=NAMESPACE)["items"]
    pages = [httpx.get(f"http://{pod['status']['podIP']}:9090/metrics").text for pod in pods]
    return [float(line.split()[-1]) for page in pages for line in page.splitlines() if EXPIRY(line)]


def _nodes_of_pods(release: Release) -> set[str]:
    selector = f"--selector=app.kubernetes.io/instance={SERVICE}"
    pods = release.cluster.read("pods", selector, namespace=NAMESPACE)["items"]
    return {pod["spec"]["nodeName"] for pod in pods}
