"""Where a collector of traces is: the URL in the custom resource, and what leads there. Pure.

Knows what a NetworkPolicy can say of a host, which is no name; knows no policy and no span.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_network
from urllib.parse import urlsplit

COLLECTOR_CHARS_MAX = 512  # a host has at most 253; vendors' paths are a word or two
COLLECTOR_MESSAGE = (
    "write the collector as http://HOST:PORT or https://HOST:PORT in lowercase, with its path if it"
    " has one, and without user, password or query"
)

_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"({_OCTET}\.){{3}}{_OCTET}"
_HEX = r"[0-9a-f]{1,4}"
# One run of zeros may be left out, and stands anywhere among the eight parts.
_IPV6 = "|".join(
    (
        rf"({_HEX}:){{7}}{_HEX}",
        rf"({_HEX}:){{1,7}}:",
        *(rf"({_HEX}:){{1,{7 - after}}}(:{_HEX}){{1,{after}}}" for after in range(1, 7)),
        rf":(:{_HEX}){{1,7}}",
        "::",
    )
)
_REST = r"([a-z0-9-]{0,61}[a-z0-9])?"
# The last label of a name begins with a letter: what ends in a number is an address, or a mistake.
_NAME = rf"([a-z0-9]{_REST}\.)*[a-z]{_REST}\.?"
_PORT = r"(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
_PATH = r"(/[A-Za-z0-9_][A-Za-z0-9._~-]*)*/?"
# The same text stands in the CRD as a CEL rule: RE2's syntax, anchored.
COLLECTOR_PATTERN = rf"^https?://({_IPV4}|\[({_IPV6})\]|{_NAME}):{_PORT}{_PATH}$"

# Where another one is configured, the port alone is what a policy says.
_CLUSTER_DOMAIN = ["cluster", "local"]


@dataclass(frozen=True, slots=True)
class OneAddress:
    """The URL has an address."""

    cidr: str


@dataclass(frozen=True, slots=True)
class InNamespace:
    """The URL names a Service of the cluster; a name of None is the caller's own namespace."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Anywhere:
    """The URL names a host outside, whose addresses nobody here knows."""


Place = OneAddress | InNamespace | Anywhere


@dataclass(frozen=True, slots=True)
class CollectorUrl:
    """A collector that takes OTLP over HTTP; `text` is how it was written."""

    text: str

    def __post_init__(self) -> None:
        """Raises ValueError for what is no such URL."""
        if len(self.text) > COLLECTOR_CHARS_MAX or not re.fullmatch(
            COLLECTOR_PATTERN, self.text, re.ASCII
        ):
            raise ValueError(COLLECTOR_MESSAGE)

    @property
    def port(self) -> int:
        found = urlsplit(self.text).port
        assert found is not None, "COLLECTOR_PATTERN has a port in it"
        return found

    @property
    def place(self) -> Place:
        """As pods resolve the host: one and two words within the cluster, unless a dot ends it."""
        host = urlsplit(self.text).hostname
        assert host is not None, "COLLECTOR_PATTERN has a host in it"
        if ":" in host or re.fullmatch(_IPV4, host):
            return OneAddress(str(ip_network(host)))
        words = host.removesuffix(".").split(".")
        within = words[:-2] if words[-2:] == _CLUSTER_DOMAIN else words
        if len(within) > 2 and within[-1] == "svc":
            return InNamespace(within[-2])
        if len(words) > 2 or host.endswith("."):
            return Anywhere()
        return InNamespace(words[1] if len(words) == 2 else None)
