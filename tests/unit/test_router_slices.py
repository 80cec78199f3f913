"""EndpointSlices as the API server tells them: which addresses they stand for."""

import json
from typing import Any

import msgspec
import pytest
from baton.router.slices import Outcome, SliceTable


def endpoint(*addresses: str, uid: str = "", **conditions: bool) -> dict[str, Any]:
    ref = {"targetRef": {"kind": "Pod", "uid": uid}} if uid else {}
    return {"addresses": list(addresses), "conditions": conditions, **ref}


def piece(
    name: str, *endpoints: dict[str, Any], family: str = "IPv4", version: str = "1"
) -> dict[str, Any]:
    metadata = {"name": name, "resourceVersion": version, "labels": {"a": "b"}}
    return {"metadata": metadata, "addressType": family, "endpoints": list(endpoints), "ports": []}


def listed(*pieces: dict[str, Any], version: str = "10") -> bytes:
    return json.dumps({"metadata": {"resourceVersion": version}, "items": pieces}).encode()


def event(kind: str, told: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": told}).encode() + b"\n"


def table(*pieces: dict[str, Any]) -> SliceTable:
    made = SliceTable()
    made.replace(listed(*pieces))
    return made


@pytest.mark.parametrize(
    ("pieces", "addresses"),
    [
        pytest.param([], set(), id="no-slice"),
        pytest.param([piece("s")], set(), id="no-endpoint"),
        pytest.param([piece("s") | {"endpoints": None}], set(), id="null-endpoints"),
        pytest.param(
            [piece("s", endpoint("10.0.0.1")), piece("t", endpoint("10.0.0.2"))],
            {"10.0.0.1", "10.0.0.2"},
            id="several-slices",
        ),
        pytest.param(
            [
                piece(
                    "s",
                    endpoint("10.0.0.1", ready=False),
                    endpoint("10.0.0.2", ready=False, serving=True, terminating=True),
                )
            ],
            {"10.0.0.1", "10.0.0.2"},
            id="not-ready-and-terminating-ones-speak-for-themselves",
        ),
        pytest.param([piece("s", endpoint("10.0.0.1", "10.0.0.9"))], {"10.0.0.1"}, id="the-first"),
        pytest.param([piece("s", endpoint())], set(), id="without-address"),
        pytest.param([piece("s", endpoint("pod.example"), family="FQDN")], set(), id="names"),
        pytest.param(
            [
                piece("four", endpoint("10.0.0.1", uid="p1")),
                piece(
                    "six", endpoint("fd::1", uid="p1"), endpoint("fd::2", uid="p2"), family="IPv6"
                ),
            ],
            {"10.0.0.1", "fd::2"},
            id="dual-stack-by-pod",
        ),
        pytest.param(
            [piece("four", endpoint("10.0.0.1")), piece("six", endpoint("fd::1"), family="IPv6")],
            {"10.0.0.1"},
            id="dual-stack-without-pods",
        ),
        pytest.param([piece("six", endpoint("fd::1"), family="IPv6")], {"fd::1"}, id="only-ipv6"),
        pytest.param(
            [piece("s", endpoint("10.0.0.1", uid="p")), piece("t", endpoint("10.0.0.1", uid="p"))],
            {"10.0.0.1"},
            id="a-pod-that-moves-between-slices-is-one",
        ),
    ],
)
def test_addresses_of_slices(pieces: list[dict[str, Any]], addresses: set[str]) -> None:
    assert table(*pieces).addresses() == addresses


def test_events_change_single_slices() -> None:
    known = table(piece("s", endpoint("10.0.0.1")))
    assert known.version == "10"
    added = piece("t", endpoint("10.0.0.2"), version="11")
    assert known.apply(event("ADDED", added)) is Outcome.CHANGED
    grown = piece("s", endpoint("10.0.0.1"), endpoint("10.0.0.3"), version="12")
    assert known.apply(event("MODIFIED", grown)) is Outcome.CHANGED
    assert known.addresses() == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    assert known.apply(
        event("DELETED", added | {"metadata": {"name": "t", "resourceVersion": "13"}})
    )
    assert known.addresses() == {"10.0.0.1", "10.0.0.3"}
    assert known.version == "13"


def test_readiness_and_bookmarks_move_the_version_and_nothing_else() -> None:
    known = table(piece("s", endpoint("10.0.0.1", ready=False)))
    became = piece("s", endpoint("10.0.0.1", ready=True), version="11")
    assert known.apply(event("MODIFIED", became)) is Outcome.NOTHING
    bookmark = {"metadata": {"resourceVersion": "99"}}
    assert known.apply(event("BOOKMARK", bookmark)) is Outcome.NOTHING
    assert (known.version, known.addresses()) == ("99", {"10.0.0.1"})


def test_an_expired_watch_asks_for_a_list_and_forgets_nobody() -> None:
    known = table(piece("s", endpoint("10.0.0.1")))
    status = {"kind": "Status", "code": 410, "metadata": {}, "reason": "Expired", "message": "old"}
    assert known.apply(event("ERROR", status)) is Outcome.EXPIRED
    assert (known.version, known.addresses()) == ("", {"10.0.0.1"})
    known.replace(listed(piece("t", endpoint("10.0.0.2")), version="20"))
    assert (known.version, known.addresses()) == ("20", {"10.0.0.2"})


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"type":1}', b'{"object":{}}'])
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        table().apply(line)
