"""What the limit measures: exactly the matrix products of the model's decode step."""

import pytest
from baton.engine.quant.quantization import CPU_SCHEMES, Quantization
from baton.model.config import Family, ModelConfig
from baton_loadtest.linear_limit import (
    MEASURE_S,
    PASSES_MIN,
    best_duration_s,
    layer_shapes,
    measure_limits,
)

SMOLLM2 = ModelConfig(
    family=Family.LLAMA,
    vocab_size=49_152,
    hidden_size=576,
    intermediate_size=1_536,
    layers=30,
    heads=9,
    kv_heads=3,
    head_size=64,
    context_length=8_192,
    rms_norm_eps=1e-5,
    rope_theta=100_000.0,
    tied_embeddings=True,
)
SMOLLM2_PARAMETERS = 134_515_008  # as its model card says: all matrices, and 61 norms of 576

TINY = ModelConfig(
    family=Family.LLAMA,
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    layers=2,
    heads=2,
    kv_heads=1,
    head_size=8,
    context_length=64,
    rms_norm_eps=1e-5,
    rope_theta=10_000.0,
)


class ScriptedClock:
    """Each look at the clock finds it one step further; the steps repeat."""

    def __init__(self, *steps_s: float) -> None:
        self._steps_s, self._looks, self._now_s = steps_s, 0, 0.0

    def monotonic_s(self) -> float:
        if self._looks:
            self._now_s += self._steps_s[(self._looks - 1) % len(self._steps_s)]
        self._looks += 1
        return self._now_s

    def unix_s(self) -> float:
        return self.monotonic_s()


def test_products_hold_every_parameter_of_the_model_but_the_norms() -> None:
    matrices = sum(out * into for out, into in layer_shapes(SMOLLM2)) * SMOLLM2.layers
    head = SMOLLM2.vocab_size * SMOLLM2.hidden_size
    norms = (2 * SMOLLM2.layers + 1) * SMOLLM2.hidden_size
    assert matrices + head + norms == SMOLLM2_PARAMETERS


def test_slow_passes_are_still_repeated_a_few_times() -> None:
    calls: list[None] = []
    best_duration_s(lambda: calls.append(None), ScriptedClock(MEASURE_S))
    assert len(calls) == PASSES_MIN


def test_quick_passes_fill_the_time_and_the_best_one_counts() -> None:
    step_s = MEASURE_S / 64
    calls: list[None] = []
    clock = ScriptedClock(step_s * 3, step_s, step_s * 10)
    assert best_duration_s(lambda: calls.append(None), clock) == pytest.approx(step_s)
    assert len(calls) > PASSES_MIN


@pytest.mark.parametrize("quantization", CPU_SCHEMES)
def test_a_limit_per_batch_size_for_every_scheme(quantization: Quantization) -> None:
    clock = ScriptedClock(0.5)
    limits = measure_limits(TINY, quantization, (1, 4), threads=1, clock=clock)
    assert [(limit.rows, limit.tokens_per_s) for limit in limits] == [(1, 2.0), (4, 8.0)]
