"""Work in flight is bounded in requests and prompt tokens; what leaves makes room."""

import pytest
from baton.router.admission import Admission, Demand, Limits, Refusal, Shed
from baton.router.tenants.register import Tenant


def test_requests_are_bounded_until_one_leaves() -> None:
    admission = Admission(Limits(requests_max=2, prompt_tokens_max=100))
    one = Demand(requests=1, prompt_tokens=10)
    assert admission.admit(one) is None
    assert admission.admit(one) is None
    refusal = admission.admit(one)
    assert refusal is not None
    assert (refusal.reason, refusal.in_flight, refusal.limit) == (Shed.REQUESTS, 2, 2)
    assert admission.in_flight == Demand(2, 20)  # a refusal counts nothing
    admission.release(one)
    assert admission.admit(one) is None


def test_prompt_tokens_are_bounded() -> None:
    admission = Admission(Limits(requests_max=9, prompt_tokens_max=100))
    assert admission.admit(Demand(1, 60)) is None
    refusal = admission.admit(Demand(1, 41))
    assert refusal is not None
    assert refusal.reason is Shed.PROMPT_TOKENS
    assert admission.admit(Demand(1, 40)) is None


def test_an_idle_router_admits_what_exceeds_its_limits() -> None:
    admission = Admission(Limits(requests_max=2, prompt_tokens_max=10))
    assert admission.admit(Demand(requests=5, prompt_tokens=50)) is None
    assert admission.admit(Demand(1, 1)) is not None


def test_a_tenant_has_a_limit_beside_everybodys_and_even_when_idle() -> None:
    admission = Admission(Limits(requests_max=9, prompt_tokens_max=100))
    red, blue = Tenant("red", requests_max=2), Tenant("blue")
    two, one = Demand(2, 2), Demand(1, 1)
    assert admission.admit(Demand(3, 3), red) == Refusal(Shed.TENANT_REQUESTS, 0, 2, "red")
    assert admission.admit(two, red) is None
    assert admission.admit(one, red) == Refusal(Shed.TENANT_REQUESTS, 2, 2, "red")
    assert admission.admit(one, blue) is None
    assert admission.admit(one, Tenant("red", requests_max=3)) is None  # a new version of the file
    admission.release(two, red)
    assert admission.admit(one, red) is None
    with pytest.raises(AssertionError):
        admission.release(two, blue)


def test_releasing_more_than_was_admitted_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        Admission(Limits(1, 1)).release(Demand(1, 1))
