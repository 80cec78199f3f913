"""The pod template of each role: flags, probes, security, volumes, and the user's overrides. Pure.

Knows the flags of our processes, which tests parse with the processes' own settings. Knows no
Deployment and no Service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from baton_operator.api import Image, ModelServiceSpec
from baton_operator.engineapi import Speculation
from baton_operator.manifest import Json, Manifest, mapping_at
from baton_operator.merge import strategic_merge
from baton_operator.names import GRPC_PORT, HTTP_PORT, METRICS_PORT, Owner, Role
from baton_operator.podapi import PodTemplate
from baton_operator.quantities import quantity
from baton_operator.sources import Weights
from baton_operator.tracingapi import Tracing
from baton_operator.weights import (
    CACHE_PATH,
    RESTRICTED_CONTAINER,
    WeightsPlan,
    plan_weights,
)
from baton_operator.writing import written

REQUEST_TIMEOUT_S = 600
"""The router's own limit of a request: what the OpenAI client waits."""

READY_WAIT_S = 30
"""A request waits so long for a decode worker where there should always be one: a restart."""

DRAIN_TIMEOUT_S: Final[Mapping[Role, int]] = {
    # A client cannot be moved to another router: no request may outlive the drain.
    Role.ROUTER: REQUEST_TIMEOUT_S,
    # Requests on a worker can: the router resumes them elsewhere, token for token.
    Role.PREFILL: 120,
    Role.DECODE: 120,
}
LEAVE_SERVICE_S = 5
"""Kube-proxies and gateways hear within seconds that a router leaves; until then it serves."""

WORKER_LEAVE_S = LEAVE_SERVICE_S + 2
"""A worker takes work for longer than a router that got its SIGTERM at the same moment: when a
whole service is deleted, what the routers still accept is still answered."""

EXIT_MARGIN_S = 15
"""From the end of the drain to the exit: streams flush, ports close. Then the kubelet kills."""

PROBE_PERIOD_S = 5
PROBE_TIMEOUT_S = 3
"""A process that computes on every core answers late, not never."""

STARTUP_FAILURES_MAX = 360
"""Half an hour to load the weights; they are fetched before, by the init container."""

LIVENESS_FAILURES_MAX = 6
READINESS_FAILURES_MAX = 2

TEMPORARY_LIMIT = "1Gi"

TLS_PATH = "/tls"
TLS_VOLUME = "baton-tls"

KEYS_PATH = "/etc/baton/keys"
KEYS_VOLUME = "baton-keys"
KEYS_FILE = "keys.json"
"""The one entry of the Secret of keys that is mounted: what else is in it is not the routers'."""

POD_NAME = "OTEL_RESOURCE_ATTRIBUTES_POD_NAME"
"""As OpenTelemetry's own operator calls it, so that no variable of a user's is likely to be."""


@dataclass(frozen=True, slots=True)
class ReleaseImages:
    """The images of the operator's own release."""

    router: str
    worker: str


def pod_template(
    owner: Owner, spec: ModelServiceSpec, role: Role, release: ReleaseImages
) -> dict[str, Json]:
    """The pods of `role`, with the user's overrides merged in."""
    override = template_of(spec, role)
    image = _image(spec.image, role, release)
    pull_policy = spec.image.pull_policy.value
    mounts: list[Json] = [
        {"name": "baton-tmp", "mountPath": "/tmp"},
        {"name": "baton-cache", "mountPath": CACHE_PATH},
    ]
    tls: Json = {"name": TLS_VOLUME, "mountPath": TLS_PATH, "readOnly": True}
    weights = plan_weights(
        spec.model.source.weights,
        draft_of(spec, role),
        image=image,
        pull_policy=pull_policy,
        mounts=mounts,
    )
    container: Json = {
        "name": role.value,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": ["python", "-m", f"baton.{role.value}"],
        "args": _flags(owner, spec, role, weights),
        "env": _env(owner, spec, role),
        "ports": _ports(role),
        "securityContext": RESTRICTED_CONTAINER,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*mounts, tls, *_keys_mounts(spec, role), *weights.mounts],
        **_probes(),
        **_leave_service(role),
    }
    ours: dict[str, Json] = {
        "metadata": {"labels": owner.labels(role)},
        "spec": _pod_spec(owner, spec, role, container, weights),
    }
    return strategic_merge(ours, _overrides(override, role))


def _env(owner: Owner, spec: ModelServiceSpec, role: Role) -> list[Json]:
    """Ours, less every variable that the user's template has. Merged, one of ours with a `value`
    would keep it beside their `valueFrom`, and its place before those that it speaks of."""
    theirs = {variable.name for variable in template_of(spec, role).env}
    ours: list[Manifest] = [
        {"name": "HOME", "value": "/tmp"},
        *_tracing_env(owner, spec.tracing, role),
    ]
    return [variable for variable in ours if variable["name"] not in theirs]


def _tracing_env(owner: Owner, tracing: Tracing | None, role: Role) -> list[Manifest]:
    """In OpenTelemetry's own words. The share binds who begins a trace, which is the router."""
    if tracing is None:
        return []
    said = {
        "k8s.namespace.name": owner.namespace,
        "k8s.deployment.name": owner.child(role),
        "k8s.pod.name": f"$({POD_NAME})",
    }
    pod_name: Manifest = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}
    return [
        {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": tracing.endpoint.text},
        {"name": "OTEL_TRACES_SAMPLER", "value": "parentbased_traceidratio"},
        {"name": "OTEL_TRACES_SAMPLER_ARG", "value": f"{tracing.sampled_percent / 100:g}"},
        {"name": POD_NAME, "valueFrom": pod_name},  # before what speaks of it
        {
            "name": "OTEL_RESOURCE_ATTRIBUTES",
            "value": ",".join(f"{name}={value}" for name, value in said.items()),
        },
    ]


def template_of(spec: ModelServiceSpec, role: Role) -> PodTemplate:
    """The user's overrides for a role."""
    if role is Role.ROUTER:
        return spec.router.template
    found = spec.prefill if role is Role.PREFILL else spec.decode
    return found.template if found is not None else PodTemplate()


def draft_of(spec: ModelServiceSpec, role: Role) -> Weights | None:
    """The weights that a role needs beside the model's: decode alone guesses."""
    draft = spec.decode.engine.draft_model
    return draft.source.weights if role is Role.DECODE and draft is not None else None


def _image(image: Image, role: Role, release: ReleaseImages) -> str:
    if role is Role.ROUTER:
        return image.router or release.router
    return image.worker or release.worker


def _pod_spec(
    owner: Owner,
    spec: ModelServiceSpec,
    role: Role,
    container: Json,
    weights: WeightsPlan,
) -> Json:
    made: dict[str, Json] = {
        "serviceAccountName": owner.child(role),
        # Routers watch the workers' EndpointSlices; nobody else has anything to ask.
        "automountServiceAccountToken": role is Role.ROUTER,
        "enableServiceLinks": False,  # a Service per variable is no business of ours
        "terminationGracePeriodSeconds": _leave_s(role) + DRAIN_TIMEOUT_S[role] + EXIT_MARGIN_S,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": [_spread(owner, role)],
        "containers": [container],
        "volumes": [
            {"name": "baton-tmp", "emptyDir": {"sizeLimit": TEMPORARY_LIMIT}},
            {"name": "baton-cache", "emptyDir": {}},
            # Kubelet replaces the files when the Secret changes; the processes read them again.
            {"name": TLS_VOLUME, "secret": {"secretName": owner.tls_secret}},
            *_keys_volumes(spec, role),
            *weights.volumes,
        ],
    }
    if weights.init_containers:
        made["initContainers"] = list(weights.init_containers)
    if spec.image_pull_secrets:
        made["imagePullSecrets"] = [{"name": secret.name} for secret in spec.image_pull_secrets]
    return made


def _keys_volumes(spec: ModelServiceSpec, role: Role) -> list[Json]:
    """Named entry by entry: kubelet then waits for a Secret without it, as for none at all."""
    keys = spec.router.api_keys
    if role is not Role.ROUTER or keys is None:
        return []
    items: list[Json] = [{"key": KEYS_FILE, "path": KEYS_FILE}]
    return [{"name": KEYS_VOLUME, "secret": {"secretName": keys.secret_name, "items": items}}]


def _keys_mounts(spec: ModelServiceSpec, role: Role) -> list[Json]:
    if role is not Role.ROUTER or spec.router.api_keys is None:
        return []
    return [{"name": KEYS_VOLUME, "mountPath": KEYS_PATH, "readOnly": True}]


def _spread(owner: Owner, role: Role) -> Json:
    """One node must not take a whole role with it; better crowded than not at all, though."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": owner.selector(role)},
        "matchLabelKeys": ["pod-template-hash"],  # old pods of a rollout do not count
    }


def _flags(owner: Owner, spec: ModelServiceSpec, role: Role, weights: WeightsPlan) -> list[Json]:
    common = [
        *("--host", "0.0.0.0"),
        *("--port", str(HTTP_PORT if role is Role.ROUTER else GRPC_PORT)),
        *("--model", weights.reference, "--model-name", spec.model.name),
        *("--cache-dir", CACHE_PATH),
        *("--drain-timeout-s", str(DRAIN_TIMEOUT_S[role])),
        *("--metrics-port", str(METRICS_PORT)),
        *("--tls-dir", TLS_PATH, "--tls-name", owner.tls_name),
    ]
    own = _router_flags(owner, spec) if role is Role.ROUTER else _worker_flags(spec, role)
    draft = ("--draft-model", weights.draft_reference) if weights.draft_reference else ()
    return [*common, *own, *draft]


def _router_flags(owner: Owner, spec: ModelServiceSpec) -> list[str]:
    flags = [
        *("--decode-workers", owner.members(Role.DECODE)),
        *("--request-timeout-s", str(REQUEST_TIMEOUT_S)),
        *("--ready-wait-s", str(READY_WAIT_S)),
    ]
    if spec.decode.may_be_zero:
        # Waiting is what tells the operator that somebody asks.
        flags += ["--scale-from-zero", "true"]
    if spec.prefill is not None:
        flags += ["--prefill-workers", owner.members(Role.PREFILL)]
    if spec.router.api_keys is not None:
        flags += ["--api-keys-file", f"{KEYS_PATH}/{KEYS_FILE}"]
    if spec.slo is not None:
        flags += ["--slo-ttft-s", str(spec.slo.ttft.seconds)]
        flags += ["--slo-itl-s", str(spec.slo.itl.seconds)]
    return flags


def _worker_flags(spec: ModelServiceSpec, role: Role) -> list[str]:
    worker = spec.prefill if role is Role.PREFILL and spec.prefill is not None else spec.decode
    flags = []
    if spec.quantization is not None:
        flags += ["--quantization", spec.quantization.value]
    if spec.kv_cache_dtype is not None:
        flags += ["--kv-cache-dtype", spec.kv_cache_dtype.value]
    if worker.engine.kv_cache is not None:
        flags += ["--kv-cache-mib", str(worker.engine.kv_cache.mebibytes)]
    if (cores := _whole_cores(worker.template)) is not None:
        flags += ["--threads", str(cores)]
    guesses = spec.decode.engine.speculation
    if role is Role.DECODE and guesses is not Speculation.NONE:
        # Unsaid where there are none: a template's env may say it, and flags win.
        flags += ["--speculation", guesses.value]
    return flags


def _whole_cores(template: PodTemplate) -> int | None:
    """CPUs the container has to itself; None: nothing was said, and the worker decides."""
    said = template.resources.limits.get("cpu") or template.resources.requests.get("cpu")
    cores = quantity(said)
    return max(1, int(cores)) if cores is not None else None


def _ports(role: Role) -> Json:
    if role is Role.ROUTER:
        work: Manifest = {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}
    else:
        work = {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"}
    return [work, {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"}]


def _probes() -> Manifest:
    """Every role says on its metrics port whether it lives and whether it is ready; what a process
    answers before its weights are loaded is up to it, so startup has time for loading."""
    period: Manifest = {"periodSeconds": PROBE_PERIOD_S, "timeoutSeconds": PROBE_TIMEOUT_S}
    ready: Manifest = {"httpGet": {"path": "/ready", "port": "metrics"}, **period}
    alive: Manifest = {"httpGet": {"path": "/live", "port": "metrics"}, **period}
    return {
        "startupProbe": {**alive, "failureThreshold": STARTUP_FAILURES_MAX},
        "readinessProbe": {**ready, "failureThreshold": READINESS_FAILURES_MAX},
        "livenessProbe": {**alive, "failureThreshold": LIVENESS_FAILURES_MAX},
    }


def _leave_s(role: Role) -> int:
    return LEAVE_SERVICE_S if role is Role.ROUTER else WORKER_LEAVE_S


def _leave_service(role: Role) -> Manifest:
    return {"lifecycle": {"preStop": {"sleep": {"seconds": _leave_s(role)}}}}


def _overrides(template: PodTemplate, role: Role) -> Manifest:
    """The user's template as a patch of a pod template."""
    said = written(template)
    container = {
        "name": role.value,
        **{name: said[name] for name in ("resources", "env", "volumeMounts") if said[name]},
    }
    for name, timing in mapping_at(said, "probes").items():
        if timing:
            container[f"{name}Probe"] = timing
    names = ("nodeSelector", "tolerations", "affinity", "volumes")
    metadata = {name: said[name] for name in ("labels", "annotations") if said[name]}
    pod = {name: said[name] for name in names if said.get(name)}
    return {"metadata": metadata, "spec": {**pod, "containers": [container]}}
