"""How long a step of this engine will take, learned from the steps it has run. Pure.

One law for every step, alone or mixed:

    step_s = fixed + prefill_token * tokens + prefill_kv_token * tokens * context
           + decode_row * rows + kv_token * kv_tokens

`tokens * context` is the sum of what each prompt token attends to. With no decode row it is the law
of prefill, with no prompt token that of decode; both share `fixed`, which reading the weights once
costs either way. No term is ever negative: a prediction must not fall because work was added.

Least squares of relative errors over sufficient statistics. A stratum collects steps of like
make-up (their rows, to the nearest power of two) and forgets its own past only: a thousand decodes
in a row must not erase what prefill costs. Strata nobody has visited for long fade, but not to
nothing. Knows shapes and seconds; knows no clock, no tensors and no requests.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from baton.engine.leastsquares import solve_nonnegative
from baton.engine.stepshape import StepShape, prefill_shape

TERMS = 5

MEMORY_STEPS = 32.0
"""Steps of a stratum that count: enough to average a noisy neighbour."""

STALE_STEPS = 512.0
"""Steps of the engine after which a stratum's past counts a third: some seconds of serving."""

STALE_WEIGHT_MIN = 0.01
"""Of a visited one. What is known of an unvisited one stays the best there is, and so small a
weight yields to every newer fact."""

STRATA_MAX = 128
"""Powers of two of prefill tokens times those of decode rows; above it the stalest one goes."""

REFIT_INTERVAL_STEPS = 8
"""A fit takes 0.15 ms, a step of the smallest models 5 ms."""

EAGER_STEPS = 16
"""So many first steps are followed by a fit each."""

SCALE_SPAN = 4.0
"""A measurement is weighed by its prediction, held within this factor of the measurement itself."""

ERROR_MEMORY_STEPS = 100.0

STEP_MIN_S = 1e-9
"""Below a clock's tick nothing was measured, and what is divided by it overflows."""

PEERS_MAX = 256
"""Workers that hand over to one; more are a bug. The one that was silent longest is forgotten."""

TRANSFERS_RECENT = 64
"""Hand-offs of a peer whose pace counts: a burst at the usual limits, so that one before or after
it is among them."""

TRANSFER_MEMORY_STEPS = 2_048
"""Steps after which a rate that no hand-off has confirmed is forgotten: some tens of requests.
While it looks too slow to be used nothing else could correct it."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Seconds per unit of each term; none is negative."""

    fixed_s: float = 0.0
    prefill_token_s: float = 0.0
    prefill_kv_token_s: float = 0.0
    decode_row_s: float = 0.0
    kv_token_s: float = 0.0

    def predict_step(self, shape: StepShape) -> float:
        """Seconds of one step."""
        return (
            self.fixed_s
            + self.prefill_token_s * shape.prefill_tokens
            + self.prefill_kv_token_s * shape.prefill_kv_tokens
            + self.decode_row_s * shape.decode_rows
            + self.kv_token_s * shape.kv_tokens
        )

    def predict_prefill(self, tokens: int, context: int, *, step_tokens_max: int) -> float:
        """Seconds of `tokens` prompt tokens behind `context` others, in steps of their own."""
        if tokens <= 0:
            return 0.0
        steps = -(-tokens // step_tokens_max)
        return self.predict_step(prefill_shape(tokens, context)) + (steps - 1) * self.fixed_s


@dataclass(frozen=True, slots=True)
class CostSnapshot:
    """What a worker publishes of its cost model."""

    coefficients: Coefficients
    error_ratio: float | None  # mean absolute error of predictions, of the measured; None: no step
    steps: int  # learned from, since start
    transfer_bytes_per_s: tuple[tuple[str, float], ...] = ()  # by peer


@dataclass(slots=True)
class _Stratum:
    """Decayed sums over the steps of one make-up."""

    visited: int = 0  # step of the engine
    products: list[float] = field(default_factory=lambda: [0.0] * (TERMS * TERMS))
    targets: list[float] = field(default_factory=lambda: [0.0] * TERMS)

    def add(self, terms: Sequence[float], target: float, step: int) -> None:
        keep = (1 - 1 / MEMORY_STEPS) * self.weight(step)
        self.visited = step
        for row, left in enumerate(terms):
            self.targets[row] = self.targets[row] * keep + left * target
            for column, right in enumerate(terms):
                index = row * TERMS + column
                self.products[index] = self.products[index] * keep + left * right

    def weight(self, step: int) -> float:
        """Of the past, at `step`."""
        return max(STALE_WEIGHT_MIN, math.exp((self.visited - step) / STALE_STEPS))


class CostModel:
    """Learns from every step, on one thread. `coefficients` may be read from any: a new value
    replaces the old one whole."""

    def __init__(self) -> None:
        self._strata: dict[tuple[int, int], _Stratum] = {}
        self._steps = 0
        self._unfitted = 0
        self._coefficients = Coefficients()
        self._error_sum = self._error_weight = 0.0
        self._transfers = TransferRates()

    @property
    def coefficients(self) -> Coefficients:
        return self._coefficients

    @property
    def error_ratio(self) -> float | None:
        """Decayed mean of |predicted - measured| / measured, each predicted before it was learned
        from. None before the second step."""
        return self._error_sum / self._error_weight if self._error_weight else None

    @property
    def stratum_count(self) -> int:
        return len(self._strata)

    def learn(self, shape: StepShape, measured_s: float) -> None:
        """Take in a step. One of no or endless duration teaches nothing."""
        if not STEP_MIN_S <= measured_s < math.inf:
            return
        predicted_s = self._coefficients.predict_step(shape)
        if self._steps:
            keep = 1 - 1 / ERROR_MEMORY_STEPS
            error = abs(predicted_s - measured_s) / measured_s
            self._error_sum = self._error_sum * keep + error
            self._error_weight = self._error_weight * keep + 1
        # Relative errors count, so each step is divided by its duration: the predicted one, as
        # dividing by a noisy measurement favours those that came out short.
        scale_s = min(max(predicted_s, measured_s / SCALE_SPAN), measured_s * SCALE_SPAN)
        terms = [term / scale_s for term in _terms(shape)]
        self._steps += 1
        self._stratum(shape).add(terms, measured_s / scale_s, self._steps)
        self._unfitted += 1
        if self._steps <= EAGER_STEPS or self._unfitted >= REFIT_INTERVAL_STEPS:
            self._fit()

    def learn_transfer(self, peer: str, transferred_bytes: int, duration_s: float) -> None:
        """Take in a hand-off from `peer`."""
        self._transfers.learn(peer, transferred_bytes, duration_s, self._steps)

    def snapshot(self) -> CostSnapshot:
        return CostSnapshot(
            self._coefficients, self.error_ratio, self._steps, self._transfers.rates(self._steps)
        )

    def _stratum(self, shape: StepShape) -> _Stratum:
        key = (shape.prefill_tokens.bit_length(), shape.decode_rows.bit_length())
        if key not in self._strata and len(self._strata) >= STRATA_MAX:
            del self._strata[min(self._strata, key=lambda old: self._strata[old].visited)]
        return self._strata.setdefault(key, _Stratum())

    def _fit(self) -> None:
        products, targets = [0.0] * (TERMS * TERMS), [0.0] * TERMS
        for stratum in self._strata.values():
            weight = stratum.weight(self._steps)
            for index, product in enumerate(stratum.products):
                products[index] += weight * product
            for index, target in enumerate(stratum.targets):
                targets[index] += weight * target
        self._coefficients = Coefficients(*solve_nonnegative(products, targets))
        self._unfitted = 0


class TransferRates:
    """Bytes per second of hand-offs, per peer: the fastest of the recent ones.

    Between two frames prefill computes for others as well, so a hand-off's pace is at most what the
    network does, and in a crowd far below; an average of them would make the crowd look like a slow
    network long after it has gone.
    """

    def __init__(self) -> None:
        self._recent: dict[str, _Paces] = {}  # last heard comes last

    def learn(self, peer: str, transferred_bytes: int, duration_s: float, step: int) -> None:
        """`step`: how many the worker had run by then."""
        if transferred_bytes <= 0 or not STEP_MIN_S < duration_s < math.inf:
            return
        paces = self._recent.pop(peer, None) or _Paces()
        paces.bytes_per_s.append(transferred_bytes / duration_s)
        paces.step = step
        self._recent[peer] = paces
        if len(self._recent) > PEERS_MAX:
            del self._recent[next(iter(self._recent))]

    def rates(self, step: int) -> tuple[tuple[str, float], ...]:
        """As known `step` steps after the start."""
        return tuple(
            (peer, max(paces.bytes_per_s))
            for peer, paces in self._recent.items()
            if step - paces.step <= TRANSFER_MEMORY_STEPS
        )


@dataclass(slots=True)
class _Paces:
    """Of one peer's recent hand-offs."""

    bytes_per_s: deque[float] = field(default_factory=lambda: deque(maxlen=TRANSFERS_RECENT))
    step: int = 0  # when the last one was


def _terms(shape: StepShape) -> tuple[float, ...]:
    """What the coefficients multiply, in their order."""
    return (
        1.0,
        float(shape.prefill_tokens),
        float(shape.prefill_kv_tokens),
        float(shape.decode_rows),
        float(shape.kv_tokens),
    )
