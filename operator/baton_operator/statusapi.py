"""The status of a ModelService: what the operator says of it. Pure types, one source for the CRD.

Conditions are metav1's. Times are RFC 3339 texts in UTC, as Kubernetes writes them.
"""

# ruff: noqa: RUF009 - `declared` makes the dataclass field

from dataclasses import dataclass
from enum import Enum

from baton_operator.declare import declared

CONDITIONS_MAX = 8
HISTORY_MAX = 10
"""Decisions kept in the status; what happened earlier is in the Events and metrics."""

REASON_CHARS_MAX = 64
MESSAGE_CHARS_MAX = 1_024
TIME_CHARS_MAX = 32


class ConditionStatus(Enum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is so, is not so, or is not known."""

    type: str = declared("what is said", chars_max=REASON_CHARS_MAX)
    status: ConditionStatus = declared("whether it is so")
    reason: str = declared("why, as one CamelCase word", chars_max=REASON_CHARS_MAX)
    message: str = declared("why, for a person", chars_max=MESSAGE_CHARS_MAX)
    observed_generation: int = declared("of the spec that was looked at", at_least=0)
    last_transition_time: str = declared("when the status last changed", chars_max=TIME_CHARS_MAX)


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """The pods of one role."""

    replicas: int = declared("pods that exist", at_least=0)
    ready: int = declared("pods that are ready", at_least=0)
    desired: int = declared("pods that are wanted", at_least=0)
    ready_of_desired: str = declared("both, for people: 1/2", chars_max=24)
    reason: str = declared("the role's condition, in a word", chars_max=REASON_CHARS_MAX)


@dataclass(frozen=True, slots=True)
class ScalingRecord:
    """A change of a role's number of pods that was decided, and why."""

    time: str = declared("when it was decided", chars_max=TIME_CHARS_MAX)
    role: str = declared("whose pods", chars_max=REASON_CHARS_MAX)
    previous: int = declared("pods wanted before", at_least=0)
    desired: int = declared("pods wanted since", at_least=0)
    reason: str = declared("why, as one CamelCase word", chars_max=REASON_CHARS_MAX)
    message: str = declared("why, with the numbers it came from", chars_max=MESSAGE_CHARS_MAX)


@dataclass(frozen=True, slots=True)
class ModelServiceStatus:
    """What has become of the spec."""

    observed_generation: int | None = declared(
        "of the spec that was looked at last", default=None, at_least=0
    )
    conditions: tuple[Condition, ...] = declared(
        "Ready, RouterReady, PrefillReady, DecodeReady, ScalingActive, Reconciling, Stalled",
        default=(),
        items_max=CONDITIONS_MAX,
        list_key="type",
    )
    endpoint: str | None = declared(
        "where the OpenAI API is, inside the cluster", default=None, chars_max=256
    )
    router: RoleStatus | None = declared("router pods", default=None)
    prefill: RoleStatus | None = declared("prefill pods", default=None)
    decode: RoleStatus | None = declared("decode pods", default=None)
    scaling_history: tuple[ScalingRecord, ...] = declared(
        "the last decisions that changed something, newest first",
        default=(),
        items_max=HISTORY_MAX,
    )
