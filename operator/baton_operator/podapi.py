"""The part of the custom resource that adjusts a role's pods. Pure; Kubernetes' own names.

Small Kubernetes types are spelled out, so that the API server checks them with the ModelService;
the large ones (volumes, affinity, valueFrom) are opaque and checked when the Deployment is applied.
"""

# ruff: noqa: RUF009 - `declared` makes the dataclass field

from collections.abc import Mapping
from dataclasses import dataclass

from baton_operator.declare import Opaque, Rule, declared

OWN_PREFIX = "baton-"  # of our volumes' names
RESERVED_LABELS = ("app.kubernetes.io/", "serving.baton.dev/", "llm-d.ai/")

# Kubernetes' own limits where it has one; else twice what the field's largest known user has.
NAME_CHARS_MAX = 63
PATH_CHARS_MAX = 1_024
LABELS_MAX = 32
LABEL_CHARS_MAX = 63
ANNOTATION_CHARS_MAX = 4_096
RESOURCES_MAX = 16
QUANTITY_CHARS_MAX = 32
ENV_MAX = 64
ENV_CHARS_MAX = 4_096
VOLUMES_MAX = 16
TOLERATIONS_MAX = 16
SECONDS_MAX = 86_400
FAILURES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Resources:
    """What the role's container asks for and may use; CPU and GPU counts become engine flags."""

    requests: Mapping[str, str] = declared(
        "amounts the scheduler sets aside, such as cpu: 2, memory: 4Gi, nvidia.com/gpu: 1",
        default_factory=dict,
        items_max=RESOURCES_MAX,
        value_chars_max=QUANTITY_CHARS_MAX,
    )
    limits: Mapping[str, str] = declared(
        "amounts the container may not exceed",
        default_factory=dict,
        items_max=RESOURCES_MAX,
        value_chars_max=QUANTITY_CHARS_MAX,
    )


@dataclass(frozen=True, slots=True)
class Toleration:
    """A taint that the pods put up with."""

    key: str | None = declared("the taint's key; absent: any", default=None, chars_max=316)
    operator: str | None = declared("Exists or Equal", default=None, chars_max=16)
    value: str | None = declared("the taint's value", default=None, chars_max=LABEL_CHARS_MAX)
    effect: str | None = declared(
        "NoSchedule, PreferNoSchedule or NoExecute; absent: any",
        default=None,
        chars_max=NAME_CHARS_MAX,
    )
    toleration_seconds: int | None = declared(
        "seconds a NoExecute taint is put up with; absent: for ever",
        default=None,
        at_least=0,
        at_most=SECONDS_MAX,
    )


@dataclass(frozen=True, slots=True)
class EnvVar:
    """An environment variable of the role's container."""

    RULES = (
        Rule(
            "!(has(self.value) && has(self.valueFrom))",
            "an environment variable has a value or a valueFrom, not both: drop one",
            lambda env: env.value is None or env.value_from is None,
        ),
    )

    name: str = declared("its name", chars_max=256)
    value: str | None = declared("its value", default=None, chars_max=ENV_CHARS_MAX)
    value_from: Opaque | None = declared(
        "where its value comes from, as in a container", default=None
    )


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """Where the role's container sees a volume."""

    name: str = declared("the volume's name", chars_max=NAME_CHARS_MAX)
    mount_path: str = declared(
        "the path in the container",
        chars_max=PATH_CHARS_MAX,
        matches=("^/.+$", "write an absolute path below /"),
    )
    sub_path: str | None = declared(
        "the path in the volume; absent: its root", default=None, chars_max=PATH_CHARS_MAX
    )
    read_only: bool = declared("whether the container may only read", default=False)


@dataclass(frozen=True, slots=True)
class Probe:
    """The timing of a probe; what is probed is the operator's business."""

    initial_delay_seconds: int | None = declared(
        "seconds before the first try", default=None, at_least=0, at_most=SECONDS_MAX
    )
    period_seconds: int | None = declared(
        "seconds between tries", default=None, at_least=1, at_most=SECONDS_MAX
    )
    timeout_seconds: int | None = declared(
        "seconds a try may take", default=None, at_least=1, at_most=SECONDS_MAX
    )
    failure_threshold: int | None = declared(
        "failures in a row that count", default=None, at_least=1, at_most=FAILURES_MAX
    )


@dataclass(frozen=True, slots=True)
class Probes:
    """The timing of the container's probes."""

    startup: Probe | None = declared("while the model is loaded", default=None)
    readiness: Probe | None = declared("while requests may be sent", default=None)
    liveness: Probe | None = declared("while the process may live on", default=None)


_LABEL_RULE = (
    "labels under app.kubernetes.io/, serving.baton.dev/ and llm-d.ai/ are the operator's:"
    " choose another prefix"
)


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """What a role's pods have beside what the operator gives them; lists are merged by key."""

    RULES = (
        Rule(
            "!has(self.labels) || self.labels.all(key, "
            + " && ".join(f"!key.startsWith('{prefix}')" for prefix in RESERVED_LABELS)
            + ")",
            _LABEL_RULE,
            lambda template: not any(key.startswith(RESERVED_LABELS) for key in template.labels),
        ),
        Rule(
            "!has(self.volumes) || self.volumes.all(volume, !volume.name.startsWith('baton-'))",
            "volume names beginning with baton- are the operator's: choose another name",
            lambda template: (
                not any(
                    str(volume.value.get("name", "")).startswith(OWN_PREFIX)
                    for volume in template.volumes
                )
            ),
        ),
    )

    labels: Mapping[str, str] = declared(
        "labels of the pods",
        default_factory=dict,
        items_max=LABELS_MAX,
        value_chars_max=LABEL_CHARS_MAX,
    )
    annotations: Mapping[str, str] = declared(
        "annotations of the pods",
        default_factory=dict,
        items_max=LABELS_MAX,
        value_chars_max=ANNOTATION_CHARS_MAX,
    )
    resources: Resources = declared("of the role's container", default_factory=Resources)
    node_selector: Mapping[str, str] = declared(
        "labels that a node must have",
        default_factory=dict,
        items_max=LABELS_MAX,
        value_chars_max=LABEL_CHARS_MAX,
    )
    tolerations: tuple[Toleration, ...] = declared(
        "taints that the pods put up with", default=(), items_max=TOLERATIONS_MAX
    )
    affinity: Opaque | None = declared("as in a pod", default=None)
    env: tuple[EnvVar, ...] = declared(
        "of the role's container", default=(), items_max=ENV_MAX, list_key="name"
    )
    volumes: tuple[Opaque, ...] = declared(
        "as in a pod", default=(), items_max=VOLUMES_MAX, list_key="name"
    )
    volume_mounts: tuple[VolumeMount, ...] = declared(
        "of the role's container", default=(), items_max=VOLUMES_MAX, list_key="mountPath"
    )
    probes: Probes = declared("timing of the container's probes", default_factory=Probes)
