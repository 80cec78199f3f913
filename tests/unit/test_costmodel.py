"""What the cost model predicts, remembers and admits about itself."""

import math

import pytest
from baton.engine.batch import BatchSlice
from baton.engine.costmodel import (
    PEERS_MAX,
    STRATA_MAX,
    TRANSFER_MEMORY_STEPS,
    TRANSFERS_RECENT,
    Coefficients,
    CostModel,
    TransferRates,
)
from baton.engine.leastsquares import solve_nonnegative
from baton.engine.stepshape import StepShape, decode_shape, prefill_shape, shape_of

LAW = Coefficients(
    fixed_s=0.01,
    prefill_token_s=1e-3,
    prefill_kv_token_s=1e-7,
    decode_row_s=5e-4,
    kv_token_s=1e-6,
)


def learned(law: Coefficients, steps: int) -> CostModel:
    """Of decodes and prefills in turn, measured exactly."""
    model = CostModel()
    for number in range(steps):
        rows = 1 + number % 8
        for shape in (
            prefill_shape(16 << number % 4, 100 * (number % 5)),
            decode_shape(rows, rows * (50 + 37 * (number % 11))),
        ):
            model.learn(shape, law.predict_step(shape))
    return model


def test_a_slice_of_one_known_token_is_decode_and_guesses_are_rows_of_it() -> None:
    slices = [
        BatchSlice("decode", [5], 9, [0]),
        BatchSlice("guessing", [5, 6, 7], 4, [1], guesses=2),
        BatchSlice("prefill", [1, 2, 3], 2, [2]),
    ]
    assert shape_of(slices) == StepShape(
        prefill_tokens=3,
        prefill_kv_tokens=3 + 4 + 5,
        decode_rows=4,
        kv_tokens=10 + (5 + 6 + 7),
    )


def test_a_mixed_step_costs_the_sum_of_its_parts_and_the_weights_once() -> None:
    prefill, decode = prefill_shape(64, 128), decode_shape(4, 400)
    mixed = StepShape(64, prefill.prefill_kv_tokens, 4, 400)
    apart = LAW.predict_step(prefill) + LAW.predict_step(decode)
    assert LAW.predict_step(mixed) == pytest.approx(apart - LAW.fixed_s)


def test_a_prompt_pays_for_every_step_it_takes() -> None:
    whole = LAW.predict_step(prefill_shape(300, 50))
    assert LAW.predict_prefill(300, 50, step_tokens_max=300) == pytest.approx(whole)
    chunked = LAW.predict_prefill(300, 50, step_tokens_max=128)
    assert chunked == pytest.approx(whole + 2 * LAW.fixed_s)
    chunks = [(128, 50), (128, 178), (44, 306)]
    assert chunked == pytest.approx(sum(LAW.predict_step(prefill_shape(*c)) for c in chunks))
    assert LAW.predict_prefill(0, 50, step_tokens_max=128) == 0


def test_long_decoding_does_not_make_it_forget_what_prefill_costs() -> None:
    model = learned(LAW, 100)
    for number in range(20_000):
        shape = decode_shape(4, 400 + number % 1_000)
        model.learn(shape, LAW.predict_step(shape))
    prompt = prefill_shape(100, 200)
    assert model.coefficients.predict_step(prompt) == pytest.approx(
        LAW.predict_step(prompt), rel=0.02
    )


def test_it_knows_nothing_and_says_so_before_the_first_step() -> None:
    model = CostModel()
    assert model.error_ratio is None
    assert model.coefficients == Coefficients()
    assert model.snapshot().steps == 0


def test_its_error_is_that_of_predictions_made_before_the_step_was_seen() -> None:
    model = learned(LAW, 500)
    assert model.error_ratio is not None
    assert model.error_ratio < 1e-3
    shape = decode_shape(2, 100)
    model.learn(shape, 2 * LAW.predict_step(shape))
    assert model.error_ratio == pytest.approx(0.5 / 100, rel=0.2)  # one of the last hundred


@pytest.mark.parametrize("measured_s", [0.0, -1.0, math.inf, math.nan])
def test_a_step_without_a_sane_duration_teaches_nothing(measured_s: float) -> None:
    model = learned(LAW, 20)
    before = model.snapshot()
    model.learn(decode_shape(2, 100), measured_s)
    assert model.snapshot() == before


def test_strata_are_bounded_and_the_stalest_goes() -> None:
    model = CostModel()
    for left in range(20):
        for right in range(20):
            shape = StepShape(2**left, 2**left, 2**right, 2**right)
            model.learn(shape, LAW.predict_step(shape))
    assert model.stratum_count == STRATA_MAX
    last = StepShape(2**19, 2**19, 2**19, 2**19)
    assert model.coefficients.predict_step(last) == pytest.approx(LAW.predict_step(last), rel=0.05)


def test_a_transfer_rate_is_that_of_the_fastest_recent_hand_off() -> None:
    rates = TransferRates()
    rates.learn("a", 4_000_000, 0.1, step=1)
    for _ in range(TRANSFERS_RECENT - 1):
        rates.learn(
            "a", 1_000_000, 10.0, step=1
        )  # a crowd: prefill computed for others between frames
    rates.learn("b", 500, 0.5, step=1)
    assert dict(rates.rates(step=1)) == {"a": pytest.approx(40e6), "b": pytest.approx(1_000)}


def test_a_network_that_has_become_slow_is_believed_after_some_hand_offs() -> None:
    rates = TransferRates()
    rates.learn("a", 4_000_000, 0.1, step=1)
    for _ in range(TRANSFERS_RECENT):
        rates.learn("a", 1_000_000, 10.0, step=1)
    assert dict(rates.rates(step=1)) == {"a": pytest.approx(1e5)}


def test_a_rate_that_no_hand_off_confirms_is_forgotten() -> None:
    rates = TransferRates()
    rates.learn("a", 1_000_000, 10.0, step=5)
    assert dict(rates.rates(step=5 + TRANSFER_MEMORY_STEPS)) == {"a": pytest.approx(1e5)}
    assert rates.rates(step=6 + TRANSFER_MEMORY_STEPS) == ()


def test_a_transfer_of_nothing_or_in_no_time_is_no_rate() -> None:
    rates = TransferRates()
    rates.learn("a", 0, 1.0, step=1)
    rates.learn("b", 100, 0.0, step=1)
    assert rates.rates(step=1) == ()


def test_peers_are_bounded_and_the_silent_one_goes() -> None:
    rates = TransferRates()
    for number in range(PEERS_MAX):
        rates.learn(f"p{number}", 100, 1.0, step=1)
    rates.learn("p0", 100, 1.0, step=1)
    rates.learn("new", 100, 1.0, step=1)
    peers = {peer for peer, _ in rates.rates(step=1)}
    assert len(peers) == PEERS_MAX
    assert {"p0", "new"} <= peers
    assert "p1" not in peers


def test_an_unknown_that_would_be_negative_is_zero_and_the_other_is_fitted_without_it() -> None:
    """y = x0 - x1 at (1, 0), (0, 1), (1, 1): without x1, y is a third of x0's pairs best."""
    rows = [((1.0, 0.0), 1.0), ((0.0, 1.0), -1.0), ((1.0, 1.0), 0.0)]
    products = [sum(x[i] * x[j] for x, _ in rows) for i in range(2) for j in range(2)]
    targets = [sum(x[i] * y for x, y in rows) for i in range(2)]
    assert solve_nonnegative(products, targets) == pytest.approx((0.5, 0.0))


def test_unknowns_no_sample_touched_are_zero() -> None:
    assert solve_nonnegative([4.0, 0.0, 0.0, 0.0], [8.0, 0.0]) == pytest.approx((2.0, 0.0))
    assert solve_nonnegative([0.0], [0.0]) == (0.0,)
