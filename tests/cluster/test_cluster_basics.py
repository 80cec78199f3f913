"""The test cluster is a cluster: what every other cluster test takes for granted, and its faults.

Two web servers, one on each node, that answer with their pod's name.
"""

import time
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from cluster.harness.cluster import Cluster, Json
from cluster.harness.commands import succeeds, until
from cluster.harness.errors import CommandFailed
from cluster.harness.images import BUSYBOX_IMAGE

NAMESPACE = "basics"
PORT = 8080
ANSWER_LIMIT_S = 3.0  # an answer takes milliseconds; a packet lost at most a second or three
CHANGE_LIMIT_S = 60.0  # a pod made or moved: two seconds on idle cores
DOWNLOAD_BYTES = 1_000_000
# Static busybox: its own limit, -T, ends in a crash; and it resolves no names.
WGET = "timeout 3 wget -q -O -"


def container(command: str) -> Json:
    """A busybox as the restricted pod standard wants it."""
    return {
        "name": "web",
        "image": BUSYBOX_IMAGE,
        "command": ["/bin/sh", "-c", command],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "resources": {"limits": {"cpu": "200m", "memory": "32Mi"}},
    }


def deployment() -> Json:
    files = f"hostname > index.html && head -c {DOWNLOAD_BYTES} /dev/zero > big"
    serve = f"echo started; cd /www && {files} && exec httpd -f -p {PORT} -h /www"
    web = container(serve) | {
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "www", "mountPath": "/www"}],
    }
    labels = {"app": "web"}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    pod = {
        "containers": [web],
        "volumes": [{"name": "www", "emptyDir": {}}],
        "topologySpreadConstraints": [spread],
        "terminationGracePeriodSeconds": 1,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def service(name: str, **spec: object) -> Json:
    ports = [{"port": PORT}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "web"}, "ports": ports, **spec},
    }


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with two web servers behind Service `web` and a headless one."""
    cluster.remove_namespace(NAMESPACE)
    cluster.make_namespace(NAMESPACE)
    headless = service("web-pods", clusterIP="None")
    cluster.apply(deployment(), service("web"), headless, namespace=NAMESPACE)
    await_rollout(cluster)
    yield cluster
    cluster.remove_namespace(NAMESPACE)


def await_rollout(cluster: Cluster) -> None:
    """Until all web servers run and answer through their Service: a pod is ready some moments
    before a node's rules lead to it, and refused until then."""
    status = ("rollout", "status", "deployment/web", f"--timeout={CHANGE_LIMIT_S:.0f}s")
    cluster.kubectl(*status, namespace=NAMESPACE)
    until(
        lambda: answering(cluster) == set(cluster.pod_addresses(NAMESPACE, "app=web")),
        limit_s=CHANGE_LIMIT_S,
        what="every web server answers at the address of their Service",
    )


def places(cluster: Cluster) -> dict[str, str]:
    """Node -> the address of its web server."""
    pods = cluster.read("pods", "--selector=app=web", namespace=NAMESPACE)["items"]
    alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return {pod["spec"]["nodeName"]: pod["status"]["podIP"] for pod in alive}


def ask(address: str, path: str = "/") -> str:
    connection = HTTPConnection(address, PORT, timeout=ANSWER_LIMIT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode().strip()
    finally:
        connection.close()


def answerers(address: str) -> set[str]:
    """The name of the pod that answers, if one does."""
    try:
        return {ask(address)}
    except OSError:
        return set()


def answers(address: str) -> bool:
    return answerers(address) != set()


def answering(cluster: Cluster) -> set[str]:
    """The pods that answer at the Service's address; chance sends a request to either."""
    address = cluster.service_address(NAMESPACE, "web")
    return set[str]().union(*(answerers(address) for _ in range(20)))


def on_a_pod(cluster: Cluster, *command: str) -> str:
    return cluster.kubectl("exec", "deployment/web", "--", *command, namespace=NAMESPACE)


def test_both_nodes_are_ready(cluster: Cluster) -> None:
    conditions = {
        node["metadata"]["name"]: condition["status"]
        for node in cluster.read("nodes")["items"]
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    }
    assert conditions == {"node0": "True", "node1": "True"}


def test_restricted_pods_run_on_both_nodes(web: Cluster) -> None:
    assert set(places(web)) == {"node0", "node1"}


def test_a_pod_that_is_not_restricted_is_refused(web: Cluster) -> None:
    with pytest.raises(CommandFailed, match="violates PodSecurity"):
        web.kubectl("run", "free", f"--image={BUSYBOX_IMAGE}", namespace=NAMESPACE)


def test_pods_run_under_the_default_system_call_filter(web: Cluster) -> None:
    assert "Seccomp:\t2" in on_a_pod(web, "cat", "/proc/1/status")


def test_every_pod_answers_at_its_own_address(web: Cluster) -> None:
    names = web.pod_addresses(NAMESPACE, "app=web")
    assert {ask(address) for address in names.values()} == set(names)


def test_a_service_answers_at_its_address_from_both_pods(web: Cluster) -> None:
    address = web.service_address(NAMESPACE, "web")
    assert {ask(address) for _ in range(40)} == set(web.pod_addresses(NAMESPACE, "app=web"))


def test_a_pod_reaches_a_service_that_leads_back_to_it(web: Cluster) -> None:
    address = web.service_address(NAMESPACE, "web")
    fetch = f"for i in $(seq 30); do {WGET} http://{address}:{PORT}/; done"
    told = on_a_pod(web, "sh", "-c", fetch).split()
    assert len(told) == 30
    assert set(told) == set(web.pod_addresses(NAMESPACE, "app=web"))


def test_cluster_dns_knows_services_and_the_pods_of_headless_ones(web: Cluster) -> None:
    domain = f"{NAMESPACE}.svc.cluster.local"
    assert web.service_address(NAMESPACE, "web") in on_a_pod(web, "nslookup", f"web.{domain}")
    told = on_a_pod(web, "nslookup", f"web-pods.{domain}")
    assert all(address in told for address in places(web).values())


def test_logs_are_read_back(web: Cluster) -> None:
    logs = web.kubectl("logs", "--selector=app=web", "--tail=-1", namespace=NAMESPACE)
    assert logs.split().count("started") == 2


def test_drain_moves_the_pods_to_the_other_node(web: Cluster) -> None:
    try:
        web.kubectl("drain", "node1", "--delete-emptydir-data", f"--timeout={CHANGE_LIMIT_S:.0f}s")
        await_rollout(web)
        assert set(places(web)) == {"node0"}
        assert len(web.pod_addresses(NAMESPACE, "app=web")) == 2
    finally:
        web.kubectl("uncordon", "node1")
        web.kubectl("rollout", "restart", "deployment/web", namespace=NAMESPACE)
        await_rollout(web)


def test_pods_answer_while_the_api_server_is_away_and_it_comes_back(web: Cluster) -> None:
    addresses = [web.service_address(NAMESPACE, "web"), *places(web).values()]
    with web.faults.api_server_outage():
        assert not succeeds((*web.command("kubectl"), "get", "nodes", "--request-timeout=2s"))
        assert all(answers(address) for address in addresses)
    web.kubectl("scale", "deployment/web", "--replicas=3", namespace=NAMESPACE)
    await_rollout(web)
    web.kubectl("scale", "deployment/web", "--replicas=2", namespace=NAMESPACE)


@pytest.fixture
def spread(web: Cluster) -> dict[str, str]:
    """Node -> the address of its web server, with one on each node."""
    if set(places(web)) != {"node0", "node1"}:
        web.kubectl("rollout", "restart", "deployment/web", namespace=NAMESPACE)
        await_rollout(web)
    found: dict[str, str] = {}

    def one_on_each() -> bool:
        found.update(places(web))
        return set(found) == {"node0", "node1"} and all(map(answers, found.values()))

    until(one_on_each, limit_s=CHANGE_LIMIT_S, what="a web server on each node answers")
    return found


def test_a_partitioned_node_is_out_of_reach_until_it_heals(
    web: Cluster, spread: dict[str, str]
) -> None:
    with web.faults.partition():
        assert answers(spread["node0"])
        assert not answers(spread["node1"])
    assert answers(spread["node1"])


def test_a_cut_keeps_one_pod_from_another_only(web: Cluster, spread: dict[str, str]) -> None:
    with web.faults.cut(spread["node0"], spread["node1"]):
        assert all(map(answers, spread.values()))
        assert not reaches(web, "node0", spread["node1"])
    assert reaches(web, "node0", spread["node1"])


def reaches(cluster: Cluster, node: str, address: str) -> bool:
    """Whether the web server on `node` gets an answer from `address`."""
    at = f"--field-selector=spec.nodeName={node},status.phase=Running"
    [pod] = cluster.read("pods", "--selector=app=web", at, namespace=NAMESPACE)["items"]
    fetch = f"{WGET} http://{address}:{PORT}/"
    exec_there = ("exec", pod["metadata"]["name"], "-n", NAMESPACE, "--", *fetch.split())
    return succeeds((*cluster.command("kubectl"), *exec_there))


def test_a_slow_cable_carries_no_more_than_it_is_told(web: Cluster, spread: dict[str, str]) -> None:
    rate_mbit = 8.0

    def download_s(address: str) -> float:
        started = time.monotonic()
        ask(address, "/big")
        return time.monotonic() - started

    with web.faults.slow_cable(rate_mbit):
        took_s = download_s(spread["node1"])
    # A burst passes at once; nothing else may go faster than the rate.
    assert took_s > 0.8 * DOWNLOAD_BYTES * 8 / (rate_mbit * 1e6)
    assert download_s(spread["node1"]) < took_s
