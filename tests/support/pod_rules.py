"""The *restricted* pod standard, and other rules that every pod of ours keeps.

Written from the standard's own list, not from our templates. Knows pods wherever they stand: on
their own, in a Deployment, in a Job.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

VOLUME_KINDS = frozenset(
    ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim")
) | {"projected", "secret"}
HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC")

Object = Mapping[str, Any]


def pods_in(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Where each pod spec stands, and the spec."""
    for found in objects:
        name = f"{found['kind']} {found['metadata']['name']}"
        if found["kind"] == "Pod":
            yield name, found["spec"]
        elif found["kind"] in ("Deployment", "Job", "StatefulSet", "DaemonSet"):
            yield name, found["spec"]["template"]["spec"]


def containers(spec: Object) -> list[Object]:
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [container for kind in kinds for container in spec.get(kind, [])]


def restricted_problems(spec: Object) -> list[str]:
    """How a pod breaks the restricted standard; empty: it keeps it."""
    security = spec.get("securityContext", {})
    problems = [f"{field} is set" for field in HOST_FIELDS if spec.get(field)]
    problems += [
        f"volume {volume['name']} is a {kind}"
        for volume in spec.get("volumes", [])
        for kind in volume
        if kind != "name" and kind not in VOLUME_KINDS
    ]
    if security.get("sysctls") or security.get("seLinuxOptions"):
        problems.append("the pod sets sysctls or SELinux options")
    if security.get("runAsUser") == 0:
        problems.append("the pod runs as root")
    for container in containers(spec):
        own = container.get("securityContext", {})
        name = container["name"]
        problems += [f"{name}: {found}" for found in _container_problems(own, security)]
        problems += [f"{name}: host port" for p in container.get("ports", []) if p.get("hostPort")]
    return problems


def _container_problems(own: Object, pod: Object) -> Iterator[str]:
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "may escalate privileges"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "may run as root"
    if own.get("runAsUser") == 0:
        yield "runs as root"
    seccomp = own.get("seccompProfile", pod.get("seccompProfile", {}))
    if seccomp.get("type") not in ("RuntimeDefault", "Localhost"):
        yield "has no seccomp profile"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "keeps capabilities"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "adds capabilities"


def house_problems(spec: Object) -> list[str]:
    """Beyond the standard: read-only root, room to write, no token for whoever does not ask for
    one, last words, images that stay what they are."""
    mounts = {volume["name"]: volume for volume in spec.get("volumes", [])}
    problems = []
    if spec.get("enableServiceLinks") is not False:
        problems.append("a variable per Service of the namespace")
    for container in containers(spec):
        name = container["name"]
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            problems.append(f"{name}: writable root")
        if container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            problems.append(f"{name}: dies without a last word")
        if container["image"].endswith(":latest") or not {":", "@"} & set(container["image"]):
            problems.append(f"{name}: an image that changes under its name")
        problems += [
            f"{name}: mounts {mount['name']}, which is no volume"
            for mount in container.get("volumeMounts", [])
            if mount["name"] not in mounts
        ]
    return problems
