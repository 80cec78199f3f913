"""From a need to whole replicas: what is tolerated, and what can raise."""

import pytest
from baton_operator.hysteresis import propose
from baton_operator.scaling import Need, Reason


@pytest.mark.parametrize(
    ("need", "wanted", "proposal"),
    [
        (2.0, 2, 2),
        (2.19, 2, 2),  # within tolerance
        (2.21, 2, 3),
        (5.5, 2, 6),
        (1.0, 2, 2),  # one would be full to the brim
        (0.89, 2, 1),
        (0.0, 4, 0),
        (0.5, 0, 1),
    ],
)
def test_a_proposal_is_whole_and_tolerant(need: float, wanted: int, proposal: int) -> None:
    assert propose(Need(need, need, Reason.STEADY), wanted) == proposal


@pytest.mark.parametrize(
    ("lasting", "wanted", "proposal"),
    [
        pytest.param(0.0, 2, 2, id="stopped-raises-nothing"),
        pytest.param(3.0, 2, 3, id="half-stopped-raises-by-what-is-left"),
        pytest.param(0.0, 8, 7, id="the-minute-alone-decides-on-less"),
    ],
)
def test_only_what_lasts_can_raise(lasting: float, wanted: int, proposal: int) -> None:
    assert propose(Need(6.0, lasting, Reason.STEADY), wanted) == proposal
