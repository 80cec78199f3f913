"""A service on a virtual clock: load in, signals out, replicas that take time to start. Fluid.

Requests are a continuous flow, so that a test of the scaling law is about the law: prompts queue
for prefill at a known speed, answers decode in steps whose time follows the cost model.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from baton.common.signals import LATELY_S, WINDOW_S
from baton_operator.autoscaling import decide
from baton_operator.names import Role
from baton_operator.scaling import (
    Attainment,
    Decision,
    DecodeSignals,
    PrefillSignals,
    ScaledRole,
    ScalingState,
    Signals,
    Targets,
)

TICK_S = 1.0
DECIDE_EVERY_TICKS = 5
PREFILL_TOKENS_PER_S = 10_000.0
STEP_FIXED_S, STEP_ROW_S, STEP_KV_TOKEN_S = 0.01, 0.0005, 1e-8
KV_TOKENS_PER_REPLICA = 100_000.0
TARGETS = Targets(ttft_s=1.0, itl_s=0.05, share=0.95)


@dataclass(frozen=True, slots=True)
class Load:
    """A steady flow of like requests."""

    requests_per_s: float
    prompt_tokens: float
    output_tokens: float


IDLE = Load(0.0, 1_000, 100)
PROMPT_HEAVY = Load(8.0, 4_000, 20)
OUTPUT_HEAVY = Load(8.0, 100, 400)


@dataclass(slots=True)
class Pods:
    """Of one role; new ones become ready after a while, surplus ones leave at once."""

    bounds: ScaledRole
    start_s: float
    wanted: int
    ready: int
    starting: list[float] = field(default_factory=list)  # when each will be ready

    def scale(self, wanted: int, now_s: float) -> None:
        self.wanted = wanted
        while self.ready + len(self.starting) < wanted:
            self.starting.append(now_s + self.start_s)
        while self.ready + len(self.starting) > wanted:
            if self.starting:
                self.starting.pop()
            else:
                self.ready -= 1

    def advance(self, now_s: float) -> None:
        done = [time_s for time_s in self.starting if time_s <= now_s]
        self.ready += len(done)
        self.starting = [time_s for time_s in self.starting if time_s > now_s]

    def seen(self) -> ScaledRole:
        return dataclasses.replace(self.bounds, wanted=self.wanted, ready=self.ready)


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline."""

    now_s: float
    decisions: Mapping[Role, Decision]


class SimulatedService:
    """Prefill and decode under the live scaling law."""

    def __init__(
        self, *, minimum: int = 1, maximum: int = 20, start_s: float = 40.0, idle_s: float = 120.0
    ) -> None:
        bounds = ScaledRole(minimum, maximum, idle_s, wanted=0, ready=0)
        first = max(minimum, 1)
        self.pods = {
            role: Pods(bounds, start_s, first, first) for role in (Role.PREFILL, Role.DECODE)
        }
        self.now_s = 1_000.0
        self.timeline: list[Moment] = []
        self.lost_signals = False
        self._state = ScalingState()
        self._backlog = self._rows = self._held = 0.0
        self._load = IDLE
        self._asked: deque[Load] = deque(maxlen=int(WINDOW_S / TICK_S))  # of each tick
        self._ticks = 0

    def run(self, load: Load, duration_s: float) -> list[Moment]:
        """The decisions of that time."""
        begin = len(self.timeline)
        self._load = load
        for _ in range(int(duration_s / TICK_S)):
            self._tick()
        return self.timeline[begin:]

    def replicas(self) -> dict[Role, int]:
        return {role: pods.wanted for role, pods in self.pods.items()}

    def _tick(self) -> None:
        self.now_s += TICK_S
        self._ticks += 1
        for pods in self.pods.values():
            pods.advance(self.now_s)
        self._serve()
        if self._ticks % DECIDE_EVERY_TICKS == 0:
            self._decide()

    def _serve(self) -> None:
        load = self._load
        self._asked.append(load)
        arriving = load.requests_per_s * TICK_S
        if not self.pods[Role.DECODE].ready:
            self._held += arriving  # the router holds them
            return
        arriving += self._held
        self._held = 0.0
        self._backlog += arriving * load.prompt_tokens
        computed = self.pods[Role.PREFILL].ready * PREFILL_TOKENS_PER_S * TICK_S
        done = min(self._backlog, computed)
        self._backlog -= done
        # Answers last a few steps or many ticks; the exact solution is stable for both.
        lifetime_s = load.output_tokens * self._step_s()
        steady = done / load.prompt_tokens / TICK_S * lifetime_s
        self._rows = steady + (self._rows - steady) * math.exp(-TICK_S / lifetime_s)
        if load.requests_per_s == 0 and self._rows < 0.5:
            self._rows = 0.0  # the last request is whole or gone

    def _step_s(self) -> float:
        work_s = self._rows * STEP_ROW_S + self._kv_tokens() * STEP_KV_TOKEN_S
        return STEP_FIXED_S + work_s / max(self.pods[Role.DECODE].ready, 1)

    def _kv_tokens(self) -> float:
        return self._rows * (self._load.prompt_tokens + self._load.output_tokens / 2)

    def signals(self) -> Signals | None:
        if self.lost_signals:
            return None
        speed = self.pods[Role.PREFILL].ready * PREFILL_TOKENS_PER_S
        waits_s = self._backlog / speed if speed else 0.0
        minute = list(self._asked)
        lately = minute[-int(LATELY_S / TICK_S) :]
        return Signals(
            taken_s=self.now_s - 1.0,
            routers_heard=2,
            routers_expected=2,
            requests_waiting=round(self._held + 0.49),
            requests_running=round(self._rows + self._backlog / self._load.prompt_tokens + 0.49),
            prefill=PrefillSignals(
                self._backlog,
                _prompt_tokens_per_s(minute),
                _prompt_tokens_per_s(lately),
                _prompt_tokens_per_s(minute) / max(_requests_per_s(minute), 1e-9),
                PREFILL_TOKENS_PER_S,
            ),
            decode=DecodeSignals(
                _requests_per_s(minute) * self._load.output_tokens,
                _requests_per_s(lately) * self._load.output_tokens,
                self._rows,
                self._kv_tokens(),
                self._kv_tokens() / KV_TOKENS_PER_REPLICA,
                0.0,
                STEP_FIXED_S,
                STEP_ROW_S,
                STEP_KV_TOKEN_S,
            ),
            ttft=Attainment(0.5 if waits_s > TARGETS.ttft_s else 1.0, 100),
            itl=Attainment(0.5 if self._step_s() > TARGETS.itl_s else 1.0, 100),
        )

    def _decide(self) -> None:
        roles = {role: pods.seen() for role, pods in self.pods.items()}
        outcome = decide(self.signals(), TARGETS, roles, self._state, self.now_s)
        self._state = outcome.state
        for role, decision in outcome.decisions.items():
            self.pods[role].scale(decision.replicas, self.now_s)
        self.timeline.append(Moment(self.now_s, outcome.decisions))


def _requests_per_s(asked: list[Load]) -> float:
    return sum(load.requests_per_s for load in asked) / len(asked)


def _prompt_tokens_per_s(asked: list[Load]) -> float:
    return sum(load.requests_per_s * load.prompt_tokens for load in asked) / len(asked)
