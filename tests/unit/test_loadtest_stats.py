"""Numbers from time stamps; numpy is the oracle for percentiles."""

import numpy as np
import pytest
from baton_loadtest.stats import Observation, percentile, summarize


def observed(sent_s: float, *chunk_times_s: float, tokens: int = 3) -> Observation:
    return Observation(sent_s, chunk_times_s, 10, tokens, 0)


@pytest.mark.parametrize("percent", [0, 1, 50, 90, 99, 100])
@pytest.mark.parametrize("values", [[1.0], [3.0, 1.0], [5.0, 1.0, 4.0, 2.0, 2.0]])
def test_percentile_is_numpys(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)))


def test_summary_of_two_overlapping_requests() -> None:
    summary = summarize([observed(0.0, 1.0, 1.5, 2.5), observed(1.0, 4.0, 4.5, 5.0)])
    assert summary.requests == 2
    assert summary.output_tokens == 6
    assert summary.duration_s == 5.0
    assert summary.output_tokens_per_s == pytest.approx(6 / 5)
    assert summary.ttft_mean_s == pytest.approx((1.0 + 3.0) / 2)
    assert summary.itl_p50_s == pytest.approx(0.5)
    assert summary.itl_p99_s == pytest.approx(float(np.percentile([0.5, 1.0, 0.5, 0.5], 99)))
