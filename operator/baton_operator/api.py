"""The custom resource ModelService, serving.baton.dev/v1alpha1: what it asks for. Pure.

Frozen dataclasses; `reading` makes them from a CR's dict and `crds` makes the CRD from them. Each
rule stands beside what it rules, in CEL for the API server and in Python for us.
"""

# ruff: noqa: RUF009 - `declared` makes the dataclass field

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from baton.common.errors import InvalidSpec

from baton_operator.declare import Rule, declared
from baton_operator.engineapi import DecodeEngine, Engine, KvCacheDtype, Quantization
from baton_operator.manifest import Json, mapping_at, text_at
from baton_operator.podapi import PodTemplate
from baton_operator.quantities import Duration
from baton_operator.reading import read
from baton_operator.sources import ModelSource
from baton_operator.tracingapi import Tracing

GROUP = "serving.baton.dev"
VERSION = "v1alpha1"
KIND = "ModelService"

SERVICE_NAME_CHARS_MAX = 50
"""A DNS label has 63; the longest of our suffixes is `-prefill`, and some room is left."""

REPLICAS_MAX = 1_000  # no fleet of one model has come near; it bounds what a typing error costs
MODEL_NAME_CHARS_MAX = 256
IMAGE_CHARS_MAX = 512
PULL_SECRETS_MAX = 8

MODEL_NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9])?$"
SERVICE_NAME_PATTERN = r"^[a-z]([a-z0-9-]*[a-z0-9])?$"
SECRET_NAME_PATTERN = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"


class ScalingMode(Enum):
    INTERNAL = "internal"  # the operator decides
    EXTERNAL = "external"  # an HPA or KEDA scales the role's Deployment


class PullPolicy(Enum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


@dataclass(frozen=True, slots=True)
class Model:
    """Which model is served, and under which name."""

    name: str = declared(
        "the name clients ask for",
        chars_max=MODEL_NAME_CHARS_MAX,
        matches=(MODEL_NAME_PATTERN, "write a name of letters, digits and . _ : / -"),
        constant=True,
    )
    source: ModelSource = declared(
        "where its files are: pvc://CLAIM/PATH, oci://IMAGE:TAG/PATH, hf://ORG/REPO[@REV],"
        " pip://PACKAGE==VERSION#FILE.gguf or file:///PATH"
    )


@dataclass(frozen=True, slots=True)
class Slo:
    """The latency that is promised; internal scaling works towards it."""

    ttft: Duration = declared("time to the first token, such as 500ms")
    itl: Duration = declared("time between two tokens, such as 50ms")
    percentile: int = declared(
        "share of requests, in percent, that stay within both", default=95, at_least=50, at_most=99
    )


@dataclass(frozen=True, slots=True)
class Image:
    """Images other than those of the operator's own release."""

    router: str | None = declared("of router pods", default=None, chars_max=IMAGE_CHARS_MAX)
    worker: str | None = declared("of worker pods", default=None, chars_max=IMAGE_CHARS_MAX)
    pull_policy: PullPolicy = declared("when to pull them", default=PullPolicy.IF_NOT_PRESENT)


@dataclass(frozen=True, slots=True)
class PullSecret:
    """A Secret of the service's namespace with which images are pulled."""

    name: str = declared("its name", chars_max=253)


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """By which clients are known. What is in the Secret is the routers' business."""

    secret_name: str = declared(
        "Secret of the service's namespace whose entry keys.json has the tenants and the SHA-256 of"
        " their keys; pods start once it is there, and follow its changes without a restart",
        chars_max=253,
        matches=(
            SECRET_NAME_PATTERN,
            "write the name of a Secret: lowercase letters, digits, - and .",
        ),
    )


@dataclass(frozen=True, slots=True)
class Router:
    """The OpenAI endpoint."""

    replicas: int = declared(
        "pods; two survive the loss of a node", default=2, at_least=1, at_most=REPLICAS_MAX
    )
    api_keys: ApiKeys | None = declared(
        "whose requests are served; absent: everybody's, and no key is looked at", default=None
    )
    template: PodTemplate = declared("adjusts its pods", default_factory=PodTemplate)


@dataclass(frozen=True, slots=True)
class Scaling:
    """Between which numbers of pods a role moves, and who moves it."""

    RULES = (
        Rule(
            "self.mode == 'external' ? !has(self.maxReplicas) && !has(self.minReplicas)"
            " : has(self.maxReplicas)",
            "give maxReplicas (and minReplicas) with mode internal; with mode external write them"
            " in the HorizontalPodAutoscaler or ScaledObject",
            lambda scaling: (
                (scaling.mode is ScalingMode.EXTERNAL) == (scaling.max_replicas is None)
                and (scaling.mode is ScalingMode.INTERNAL or scaling.min_replicas is None)
            ),
        ),
        Rule(
            "!has(self.minReplicas) || !has(self.maxReplicas)"
            " || self.minReplicas <= self.maxReplicas",
            "minReplicas is above maxReplicas: raise maxReplicas or lower minReplicas",
            lambda scaling: (
                scaling.min_replicas is None
                or scaling.max_replicas is None
                or scaling.min_replicas <= scaling.max_replicas
            ),
        ),
        Rule(
            "!has(self.idleAfter) || (has(self.minReplicas) && self.minReplicas == 0)",
            "idleAfter is for roles that scale to zero: set minReplicas to 0 or drop idleAfter",
            lambda scaling: scaling.idle_after is None or scaling.min_replicas == 0,
        ),
    )

    mode: ScalingMode = declared(
        "internal: the operator; external: an HPA or KEDA on the role's Deployment",
        default=ScalingMode.INTERNAL,
    )
    min_replicas: int | None = declared(
        "fewest pods, 1 if absent; 0: none while nobody asks anything",
        default=None,
        at_least=0,
        at_most=REPLICAS_MAX,
    )
    max_replicas: int | None = declared("most pods", default=None, at_least=1, at_most=REPLICAS_MAX)
    idle_after: Duration | None = declared(
        "time without a request after which the role goes to zero; 5m if absent", default=None
    )


@dataclass(frozen=True, slots=True)
class WorkerRole:
    """Prefill or decode workers: how many, how they compute, and on what."""

    RULES = (
        Rule(
            "!(has(self.replicas) && has(self.scaling))",
            "replicas and scaling exclude each other: give one, or neither for one pod",
            lambda role: role.replicas is None or role.scaling is None,
        ),
    )

    replicas: int | None = declared(
        "a fixed number of pods", default=None, at_least=1, at_most=REPLICAS_MAX
    )
    scaling: Scaling | None = declared("a number of pods that follows the load", default=None)
    engine: Engine = declared("how the workers compute", default_factory=Engine)
    template: PodTemplate = declared("adjusts the pods", default_factory=PodTemplate)

    @property
    def external(self) -> bool:
        return self.scaling is not None and self.scaling.mode is ScalingMode.EXTERNAL

    @property
    def internal(self) -> bool:
        return self.scaling is not None and self.scaling.mode is ScalingMode.INTERNAL

    @property
    def may_be_zero(self) -> bool:
        """Whether the role may be without pods while the service lives."""
        return self.external or (self.scaling is not None and self.scaling.min_replicas == 0)


@dataclass(frozen=True, slots=True)
class DecodeRole(WorkerRole):
    """Decode workers, which may guess ahead."""

    engine: DecodeEngine = declared("how the workers compute", default_factory=DecodeEngine)


def _said_once(field: str, read: Callable[[Engine], Enum | None]) -> Rule:
    """Both roles may say what an engine's `field` is, but not differ: they exchange KV."""

    def holds(spec: "ModelServiceSpec") -> bool:
        roles = [spec.decode, *([spec.prefill] if spec.prefill else [])]
        return len({read(role.engine) for role in roles} - {None}) <= 1

    prefill, decode = f"self.prefill.engine.{field}", f"self.decode.engine.{field}"
    return Rule(
        f"!has(self.prefill) || !has({prefill}) || !has({decode}) || {prefill} == {decode}",
        f"prefill and decode hand KV to each other: give both the same {field}, or say it once",
        holds,
    )


_SCALES_WITHIN = "(!has(self.{0}) || !has(self.{0}.scaling) || self.{0}.scaling.mode != 'internal')"


@dataclass(frozen=True, slots=True)
class ModelServiceSpec:
    """What is served, how well, and by how many pods of what kind."""

    RULES = (
        _said_once("quantization", lambda engine: engine.quantization),
        _said_once("kvCacheDtype", lambda engine: engine.kv_cache_dtype),
        Rule(
            "has(self.slo) || ("
            + " && ".join(_SCALES_WITHIN.format(role) for role in ("prefill", "decode"))
            + ")",
            "internal scaling works towards a target: give slo.ttft and slo.itl",
            lambda spec: (
                spec.slo is not None
                or not (
                    spec.decode.internal or (spec.prefill is not None and spec.prefill.internal)
                )
            ),
        ),
    )

    model: Model = declared("which model is served, and under which name")
    decode: DecodeRole = declared(
        "workers that answer; they also compute prompts where no prefill worker does"
    )
    prefill: WorkerRole | None = declared(
        "workers that compute prompts; absent: decode does that too", default=None
    )
    router: Router = declared("the OpenAI endpoint", default_factory=Router)
    slo: Slo | None = declared("the latency that is promised", default=None)
    tracing: Tracing | None = declared(
        "where traces of requests go; absent: only where a template's env says so", default=None
    )
    image: Image = declared("images of the pods", default_factory=Image)
    image_pull_secrets: tuple[PullSecret, ...] = declared(
        "Secrets with which images are pulled",
        default=(),
        items_max=PULL_SECRETS_MAX,
        list_key="name",
    )

    @property
    def quantization(self) -> Quantization | None:
        """Of both worker roles; None: the workers' default."""
        ours = self.decode.engine.quantization
        return ours or (self.prefill.engine.quantization if self.prefill else None)

    @property
    def kv_cache_dtype(self) -> KvCacheDtype | None:
        """Of both worker roles; None: the workers' default."""
        ours = self.decode.engine.kv_cache_dtype
        return ours or (self.prefill.engine.kv_cache_dtype if self.prefill else None)


NAME_RULE = Rule(
    f"size(self.metadata.name) <= {SERVICE_NAME_CHARS_MAX}"
    f" && self.metadata.name.matches('{SERVICE_NAME_PATTERN}')",
    f"metadata.name becomes the name of Services: write at most {SERVICE_NAME_CHARS_MAX} lowercase"
    " letters, digits and -, beginning with a letter",
    lambda name: (
        len(name) <= SERVICE_NAME_CHARS_MAX and re.fullmatch(SERVICE_NAME_PATTERN, name) is not None
    ),
)


def parse_service(resource: Json) -> ModelServiceSpec:
    """The spec of a ModelService. Raises InvalidSpec with every problem, its name's included."""
    problems = []
    if not NAME_RULE.holds(text_at(resource, "metadata", "name")):
        problems.append(f"metadata.name: {NAME_RULE.message}")
    try:
        spec = read(ModelServiceSpec, mapping_at(resource, "spec"), path="spec")
    except InvalidSpec as error:
        problems.extend(error.problems)
    if problems:
        raise InvalidSpec(problems)
    return spec
