"""The words of the scaling law: what it is told, what it remembers, what it answers. Pure values.

Times are seconds on any one clock that the caller keeps to. Knows no law: that is `autoscaling`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum

from baton_operator.names import Role


class Reason(Enum):
    """Why a role has the number of pods it has."""

    STEADY = "Steady"  # the demand is what these pods are for
    PROMPT_BACKLOG = "PromptBacklog"  # prompts could not be computed within the TTFT target
    KV_USAGE = "KvUsage"  # the KV of the requests would not fit
    STEP_TIME = "StepTime"  # steps would take longer than the ITL target
    SLO_MISSED = "SloMissed"  # measured latency is worse than promised, whatever was predicted
    LOW_DEMAND = "LowDemand"  # fewer pods would do
    STABILIZING = "Stabilizing"  # fewer would do, but not for long enough yet
    SETTLING = "Settling"  # fewer would do, but the last change is still under way
    IDLE = "Idle"  # nobody has asked anything for a while
    WAITING_DEMAND = "WaitingDemand"  # at zero, and somebody asks
    AT_MAXIMUM = "AtMaximum"  # more would be needed than the spec allows
    BELOW_MINIMUM = "BelowMinimum"
    ABOVE_MAXIMUM = "AboveMaximum"
    SIGNALS_MISSING = "SignalsMissing"
    SIGNALS_STALE = "SignalsStale"
    SIGNALS_INCOMPLETE = "SignalsIncomplete"  # not every router has been heard


HELD_FOR_SIGNALS = frozenset(
    {Reason.SIGNALS_MISSING, Reason.SIGNALS_STALE, Reason.SIGNALS_INCOMPLETE}
)


class _Measured:
    """Signals with numbers: sound if none is negative, infinite or NaN."""

    __slots__ = ()

    @property
    def sound(self) -> bool:
        # typing knows no "any dataclass" for a mixin
        values = [getattr(self, one.name) for one in fields(self)]  # type: ignore[arg-type]
        return all(value is None or (math.isfinite(value) and value >= 0) for value in values)


@dataclass(frozen=True, slots=True)
class Attainment(_Measured):
    """How many of the last minute's requests stayed within the target."""

    share: float  # 0 to 1
    requests: float


@dataclass(frozen=True, slots=True)
class PrefillSignals(_Measured):
    """Prompt tokens that no cache holds, over all routers; the speed of one prefill worker."""

    backlog_tokens: float  # accepted and not computed yet
    arrival_tokens_per_s: float  # over the last minute
    lately_tokens_per_s: float  # the same over the last seconds: whether it goes on
    prompt_tokens: float  # of a prompt, on average over the last minute
    speed_tokens_per_s: float  # measured, of one worker that has enough to do


@dataclass(frozen=True, slots=True)
class DecodeSignals(_Measured):
    """The running batch over all decode workers, and the cost model of one."""

    arrival_tokens_per_s: float  # requests per second of the last minute, times an answer's tokens
    lately_tokens_per_s: float  # the same by the requests and answers of the last seconds
    rows: float  # requests being decoded
    kv_tokens: float  # tokens they attend to
    kv_used: float  # shares of workers' KV blocks in use, added up: 1.5 is one full, one half full
    kv_waiting: float  # the same unit, for requests that wait for blocks
    step_fixed_s: float
    step_row_s: float
    step_kv_token_s: float


@dataclass(frozen=True, slots=True)
class Signals:
    """What the routers said, added up. A part that could not be had is None."""

    taken_s: float  # the oldest part of it
    routers_heard: int
    routers_expected: int
    requests_waiting: int  # held by a router for want of a worker
    requests_running: int
    prefill: PrefillSignals | None = None
    decode: DecodeSignals | None = None
    ttft: Attainment | None = None
    itl: Attainment | None = None

    @property
    def demand(self) -> bool:
        """Whether anybody asks anything."""
        return self.requests_waiting + self.requests_running > 0


@dataclass(frozen=True, slots=True)
class Targets:
    """What was promised."""

    ttft_s: float
    itl_s: float
    share: float  # of requests within both, 0 to 1


@dataclass(frozen=True, slots=True)
class ScaledRole:
    """One role that the law decides: its bounds and its pods now."""

    minimum: int
    maximum: int
    idle_after_s: float
    wanted: int  # as last decided
    ready: int

    @property
    def starting(self) -> bool:
        return self.ready < self.wanted


@dataclass(frozen=True, slots=True)
class Need:
    """How many replicas the demand needs, as a fraction, and what says so."""

    replicas: float
    lasting: float  # the same without what was asked in the last minute and is asked no more
    reason: Reason
    inputs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Guard:
    """Replicas that measured latency has asked for beyond the prediction."""

    replicas: int
    need: float  # the prediction at that time; the guard ends when demand falls well below


Window = tuple[tuple[float, int], ...]  # (time, replicas proposed), oldest first


@dataclass(frozen=True, slots=True)
class RoleState:
    """What the law remembers of a role. Forgetting it costs time, never pods."""

    raises: Window = ()
    reductions: Window = ()
    changed_s: float | None = None  # when the replicas last changed
    starting_since_s: float | None = None  # None: none is starting
    start_s: float = 0.0  # the longest that replicas have been seen to take
    guard: Guard | None = None


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What the law remembers of a service."""

    demand_s: float | None = None  # when somebody last asked, as far as is known
    roles: Mapping[Role, RoleState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """The number of pods a role should have, and why."""

    role: Role
    previous: int
    replicas: int
    reason: Reason
    inputs: Mapping[str, float] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return self.replicas != self.previous

    @property
    def message(self) -> str:
        """For people: the numbers the decision came from."""
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.inputs.items())
        change = f"{self.previous} to {self.replicas}" if self.changed else f"{self.replicas}"
        return f"{self.role.value} {change}" + (f": {numbers}" if numbers else "")
