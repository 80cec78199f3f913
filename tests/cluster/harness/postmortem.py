"""What the cluster looked like when a test failed, as files of bounded size. Changes nothing."""

from pathlib import Path

from cluster.harness import lifecycle
from cluster.harness.cluster import Cluster, Json
from cluster.harness.errors import HarnessError

FILE_BYTES_MAX = 1024 * 1024  # a folder stays within some tens of megabytes
PODS_MAX = 40  # more than any test makes
LOG_LINES = 2000  # of each container
QUESTION_LIMIT_S = 30.0  # the cluster may be the one that is broken: ask, but do not wait

QUESTIONS = {
    "objects.txt": ("get", "all,pvc,endpointslices,nodes", "-A", "--output=wide"),
    "events.txt": ("get", "events", "-A", "--sort-by=.lastTimestamp"),
    "pods.txt": ("describe", "pods", "-A"),
    "services.yaml": ("get", "modelservices", "-A", "--output=yaml"),
}


def write(cluster: Cluster, folder: Path) -> None:
    """Fills `folder`. What cannot be learned is said in the file instead."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, question in QUESTIONS.items():
        _write(folder / file, _answer(cluster, *question))
    if cluster.layout is not None:
        _write(folder / "programs.txt", lifecycle.log_ends(cluster.layout))
    for pod in _pods(cluster)[:PODS_MAX]:
        _write_logs(cluster, folder, pod)


def _pods(cluster: Cluster) -> list[Json]:
    try:
        pods: list[Json] = cluster.read("pods", "-A")["items"]
    except HarnessError:
        return []
    return pods


def _write_logs(cluster: Cluster, folder: Path, pod: Json) -> None:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    statuses = pod["status"].get("containerStatuses", [])
    restarted = any(status.get("restartCount", 0) for status in statuses)
    which = ("--all-containers", "--prefix", f"--tail={LOG_LINES}")
    for suffix, flags in (("", ()), ("-previous", ("--previous",)))[: 1 + restarted]:
        log = _answer(cluster, "logs", name, "-n", namespace, *which, *flags)
        _write(folder / f"{namespace}-{name}{suffix}.log", log)


def _answer(cluster: Cluster, *question: str) -> str:
    try:
        return cluster.kubectl(*question, limit_s=QUESTION_LIMIT_S)
    except HarnessError as failed:
        return str(failed)


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode()[-FILE_BYTES_MAX:])
