"""The cost model finds the law it is shown, whatever the law: never negative, always finite."""

import math
import random

import pytest
from baton.engine.costmodel import Coefficients, CostModel
from baton.engine.leastsquares import solve_nonnegative
from baton.engine.stepshape import StepShape
from hypothesis import given, settings
from hypothesis import strategies as st

counts = st.integers(0, 2_000)
shapes = st.builds(
    StepShape,
    prefill_tokens=counts,
    prefill_kv_tokens=st.integers(0, 10_000_000),
    decode_rows=st.integers(0, 256),
    kv_tokens=st.integers(0, 1_000_000),
)
laws = st.builds(
    Coefficients,
    fixed_s=st.floats(1e-3, 3e-2),
    prefill_token_s=st.floats(1e-4, 2e-3),
    prefill_kv_token_s=st.floats(1e-8, 1e-6),
    decode_row_s=st.floats(1e-4, 5e-3),
    kv_token_s=st.floats(1e-7, 1e-5),
)


def drawn_shape(rng: random.Random) -> StepShape:
    """A step as serving makes them: decode, prefill or both."""
    tokens = rng.choice((0, 0, rng.randint(2, 128)))
    rows = rng.randint(1, 32) if not tokens else rng.choice((0, rng.randint(1, 32)))
    context = rng.randint(0, 2_000)
    return StepShape(
        prefill_tokens=tokens,
        prefill_kv_tokens=tokens * context,
        decode_rows=rows,
        kv_tokens=rows * rng.randint(1, 2_000),
    )


def show(model: CostModel, law: Coefficients, steps: int, rng: random.Random, noise: float) -> None:
    for _ in range(steps):
        shape = drawn_shape(rng)
        model.learn(shape, law.predict_step(shape) * rng.uniform(1 - noise, 1 + noise))


def worst_error(found: Coefficients, law: Coefficients, seed: int = 1) -> float:
    rng = random.Random(seed)
    fresh = [drawn_shape(rng) for _ in range(100)]
    return max(abs(found.predict_step(one) / law.predict_step(one) - 1) for one in fresh)


@settings(max_examples=25, deadline=None)
@given(law=laws, seed=st.integers(0, 1_000_000))
def test_exact_measurements_give_the_law_itself(law: Coefficients, seed: int) -> None:
    model = CostModel()
    show(model, law, 200, random.Random(seed), noise=0.0)
    found = model.coefficients
    assert found.fixed_s == pytest.approx(law.fixed_s, rel=1e-2)
    assert found.prefill_token_s == pytest.approx(law.prefill_token_s, rel=1e-2)
    assert found.prefill_kv_token_s == pytest.approx(law.prefill_kv_token_s, rel=1e-2)
    assert found.decode_row_s == pytest.approx(law.decode_row_s, rel=1e-2)
    assert found.kv_token_s == pytest.approx(law.kv_token_s, rel=1e-2)


@settings(max_examples=15, deadline=None)
@given(law=laws, seed=st.integers(0, 1_000_000))
def test_noise_of_a_fifth_leaves_predictions_within_a_tenth(law: Coefficients, seed: int) -> None:
    model = CostModel()
    show(model, law, 1_000, random.Random(seed), noise=0.2)
    assert worst_error(model.coefficients, law) < 0.1
    assert model.error_ratio is not None
    assert 0.05 < model.error_ratio < 0.2  # the noise itself, on average a tenth


@settings(max_examples=6, deadline=None)
@given(law=laws, factor=st.sampled_from([0.3, 0.5, 2.0, 4.0]), seed=st.integers(0, 1_000_000))
def test_a_change_of_speed_is_forgotten(law: Coefficients, factor: float, seed: int) -> None:
    rng = random.Random(seed)
    model = CostModel()
    show(model, law, 500, rng, noise=0.02)
    changed = Coefficients(
        law.fixed_s * factor,
        law.prefill_token_s * factor,
        law.prefill_kv_token_s * factor,
        law.decode_row_s * factor,
        law.kv_token_s * factor,
    )
    show(model, changed, 2_000, rng, noise=0.02)
    assert worst_error(model.coefficients, changed) < 0.1


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(
        st.tuples(shapes, st.floats(0, 1e6, allow_nan=False) | st.just(math.inf)), max_size=60
    )
)
def test_whatever_it_is_shown_no_term_is_negative_or_endless(
    steps: list[tuple[StepShape, float]],
) -> None:
    model = CostModel()
    for shape, measured_s in steps:
        model.learn(shape, measured_s)
        found = model.coefficients
        for term in (
            found.fixed_s,
            found.prefill_token_s,
            found.prefill_kv_token_s,
            found.decode_row_s,
            found.kv_token_s,
        ):
            assert 0 <= term < math.inf
    assert model.error_ratio is None or math.isfinite(model.error_ratio)


@settings(max_examples=50, deadline=None)
@given(shape=shapes, measured_s=st.floats(1e-4, 10), count=st.integers(1, 300))
def test_steps_all_alike_are_predicted_as_they_were(
    shape: StepShape, measured_s: float, count: int
) -> None:
    model = CostModel()
    for _ in range(count):
        model.learn(shape, measured_s)
    assert model.coefficients.predict_step(shape) == pytest.approx(measured_s, rel=1e-3)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(*[st.floats(-10, 10) for _ in range(4)]), min_size=1, max_size=12))
def test_no_better_neighbour_of_the_solution_is_non_negative(
    rows: list[tuple[float, float, float, float]],
) -> None:
    """Each row: three factors and a target."""
    products = [math.fsum(r[i] * r[j] for r in rows) for i in range(3) for j in range(3)]
    targets = [math.fsum(r[i] * r[3] for r in rows) for i in range(3)]

    def loss(x: list[float]) -> float:
        return math.fsum((math.fsum(r[i] * x[i] for i in range(3)) - r[3]) ** 2 for r in rows)

    found = list(solve_nonnegative(products, targets))
    assert min(found) >= 0
    least = loss(found)
    for index in range(3):
        for change in (-1e-3, 1e-3):
            moved = list(found)
            moved[index] = max(0.0, moved[index] * (1 + change) + change * 1e-3)
            assert loss(moved) >= least - 1e-6 * (1 + least)
