"""The pattern that the API server matches a collector's address with is right about addresses."""

from ipaddress import AddressValueError, IPv6Address

from baton_operator.collectors import CollectorUrl, OneAddress
from hypothesis import given
from hypothesis import strategies as st

PARTS = st.lists(st.sampled_from(["0", "1", "fd00", "abcd", "12345", ""]), min_size=1, max_size=10)


@given(PARTS.map(":".join))
def test_an_address_is_one_where_the_standard_library_says_so(text: str) -> None:
    try:
        IPv6Address(text)
    except AddressValueError:
        expected = False
    else:
        expected = True
    try:
        CollectorUrl(f"http://[{text}]:4318")
    except ValueError:
        assert not expected
    else:
        assert expected


@given(st.ip_addresses())
def test_every_address_is_found_again(address: object) -> None:
    host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    place = CollectorUrl(f"http://{host}:4318").place
    assert place == OneAddress(f"{address}/{128 if '[' in host else 32}")
