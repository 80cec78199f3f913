"""What passes through this router: counted for its metrics, and summed for `GET /signals`.

Knows metric names, targets and the clock; knows no HTTP and no workers.
"""

from dataclasses import dataclass

from baton.common import signals
from baton.common.clock import Clock
from baton.common.metrics import Metrics
from baton.router.window import Flow, Window


@dataclass(frozen=True, slots=True)
class Targets:
    """Seconds; None: no target."""

    ttft_s: float | None = None
    itl_s: float | None = None


class Tally:
    """One per process. A request here is one output: a call with n choices counts n times."""

    def __init__(self, metrics: Metrics, clock: Clock, targets: Targets) -> None:
        self._metrics = metrics
        self._clock = clock
        self._targets = targets
        self._window = Window(started_s=clock.monotonic_s())
        self._running = 0
        self._held = 0
        self._in_line: dict[str, int] = {}  # by tenant
        for slo, target_s in (("ttft", targets.ttft_s), ("itl", targets.itl_s)):
            if target_s is not None:
                metrics.gauge("baton_router_slo_target_seconds", target_s, slo=slo)
                metrics.declare(["baton_router_slo_requests_total"])

    def arrived(self, prompt_tokens: int) -> None:
        self._add(Flow.REQUESTS_ARRIVED)
        self._add(Flow.PROMPT_TOKENS_ARRIVED, prompt_tokens)

    def found_cached(self, tokens: int) -> None:
        self._add(Flow.PROMPT_TOKENS_CACHED, tokens)

    def ended(self, output_tokens: int) -> None:
        self._add(Flow.REQUESTS_ENDED)
        self._add(Flow.OUTPUT_TOKENS, output_tokens)

    def submitted(self) -> None:
        self._running += 1

    def left(self) -> None:
        """What was submitted has ended there, well or not."""
        self._running -= 1

    def held(self, count: int) -> None:
        """So many requests wait for a worker now."""
        self._held = count
        self._metrics.gauge("baton_router_requests_held", count)

    def in_line(self, tenant: str, count: int) -> None:
        """So many requests of a tenant wait for their turn now."""
        self._in_line[tenant] = count
        self._metrics.gauge("baton_router_tenant_requests_waiting", count, tenant=tenant)

    def had_turn(self, tenant: str, seconds: float) -> None:
        """After so long a wait."""
        self._metrics.observe("baton_router_tenant_turn_seconds", seconds, tenant=tenant)

    def waited(self, seconds: float) -> None:
        self._metrics.observe("baton_router_queue_seconds", seconds)

    def first_token(self, ttft_s: float) -> None:
        self._add(Flow.TTFT_REQUESTS)
        if self._judge("ttft", ttft_s, self._targets.ttft_s):
            self._add(Flow.TTFT_ATTAINED)

    def output_ended(self, itl_s: float) -> None:
        """An output of two tokens or more; `itl_s`: the mean time between two of them."""
        self._add(Flow.ITL_REQUESTS)
        if self._judge("itl", itl_s, self._targets.itl_s):
            self._add(Flow.ITL_ATTAINED)

    def traffic(self) -> signals.Traffic:
        now_s = self._clock.monotonic_s()
        sums, lately = self._window.sums(now_s), self._window.sums(now_s, signals.LATELY_S)
        return signals.Traffic(
            window_s=self._window.length_s(now_s),
            requests_waiting=self._held + sum(self._in_line.values()),
            requests_running=self._running,
            lately=signals.Lately(
                **{name: lately[Flow[name.upper()]] for name in signals.Lately.__struct_fields__}
            ),
            **{flow.name.lower(): total for flow, total in sums.items()},
        )

    def _judge(self, slo: str, measured_s: float, target_s: float | None) -> bool:
        """Whether the target was met; without one nothing is."""
        if target_s is None:
            return False
        attained = measured_s <= target_s
        self._metrics.count(
            "baton_router_slo_requests_total", slo=slo, attained=str(attained).lower()
        )
        return attained

    def _add(self, flow: Flow, amount: int = 1) -> None:
        self._window.add(self._clock.monotonic_s(), flow, amount)
