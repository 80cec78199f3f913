"""From EndpointSlices to addresses: the answers of list and watch, folded into one set. Pure.

Readiness and termination are not looked at: workers say of themselves what they take, and a pod
that is going still finishes what it runs. Knows JSON of the Kubernetes API; opens no connection.
"""

from collections.abc import Iterable
from enum import Enum

import msgspec

IPV4, IPV6 = "IPv4", "IPv6"


class Metadata(msgspec.Struct, frozen=True):
    name: str = ""
    resourceVersion: str = ""  # noqa: N815 (names of the wire)


class TargetRef(msgspec.Struct, frozen=True):
    uid: str = ""


class Endpoint(msgspec.Struct, frozen=True):
    addresses: tuple[str, ...] | None = None
    targetRef: TargetRef | None = None  # noqa: N815


class Slice(msgspec.Struct, frozen=True):
    """An EndpointSlice, or the Status of an error event."""

    metadata: Metadata = Metadata()
    addressType: str = ""  # noqa: N815
    endpoints: tuple[Endpoint, ...] | None = None
    code: int = 0
    message: str = ""


class SliceList(msgspec.Struct, frozen=True):
    metadata: Metadata = Metadata()
    items: tuple[Slice, ...] | None = None


class _WatchLine(msgspec.Struct, frozen=True):
    type: str
    object: Slice = Slice()


class Outcome(Enum):
    """What an event of the watch did."""

    CHANGED = "changed"
    NOTHING = "nothing"  # for addresses
    EXPIRED = "expired"  # the version is too old, or the server is at odds with itself: list anew


class SliceTable:
    """The slices of one Service as last told. `version` is where a watch goes on; "": list first.

    Both ways in raise msgspec.DecodeError for what is no such JSON.
    """

    def __init__(self) -> None:
        self.version = ""
        self._slices: dict[str, Slice] = {}

    def replace(self, body: bytes) -> None:
        """Take in the answer to a list."""
        told = msgspec.json.decode(body, type=SliceList)
        self._slices = {piece.metadata.name: piece for piece in told.items or ()}
        self.version = told.metadata.resourceVersion

    def apply(self, line: bytes) -> Outcome:
        """Take in one event of a watch. EXPIRED leaves all but the version as it was."""
        event = msgspec.json.decode(line, type=_WatchLine)
        before, piece = self.addresses(), event.object
        match event.type:
            case "ADDED" | "MODIFIED":
                self._slices[piece.metadata.name] = piece
            case "DELETED":
                self._slices.pop(piece.metadata.name, None)
            case "BOOKMARK":
                pass
            case _:
                self.version = ""
                return Outcome.EXPIRED
        self.version = piece.metadata.resourceVersion
        return Outcome.NOTHING if self.addresses() == before else Outcome.CHANGED

    def addresses(self) -> frozenset[str]:
        """One IP address per pod: IPv4, or IPv6 where it has no other."""
        return addresses_of(self._slices.values())


def addresses_of(slices: Iterable[Slice]) -> frozenset[str]:
    """Endpoints that name no pod cannot be told apart between families: theirs are IPv6 only where
    the Service has no IPv4 address at all."""
    pods: dict[str, dict[str, str]] = {}  # uid -> family -> address
    nameless: dict[str, set[str]] = {IPV4: set(), IPV6: set()}
    for piece in slices:
        if piece.addressType not in nameless:
            continue
        for endpoint in piece.endpoints or ():
            if not endpoint.addresses:
                continue
            # Of several addresses of one endpoint the first counts: so the API says.
            if endpoint.targetRef is not None and endpoint.targetRef.uid:
                families = pods.setdefault(endpoint.targetRef.uid, {})
                families[piece.addressType] = endpoint.addresses[0]
            else:
                nameless[piece.addressType].add(endpoint.addresses[0])
    found = {families.get(IPV4) or families[IPV6] for families in pods.values()}
    any_ipv4 = nameless[IPV4] or any(IPV4 in families for families in pods.values())
    return frozenset(found | (nameless[IPV4] if any_ipv4 else nameless[IPV6]))
