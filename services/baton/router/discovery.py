"""Where workers are: a static list of addresses, DNS names that stand for several, and Services of
a cluster whose EndpointSlices name them.

Knows no workers: addresses come out, whoever listens there.
"""

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from baton.common.errors import ConfigError

DNS_SCHEME = "dns://"
ENDPOINTS_SCHEME = "endpoints://"
PORT_MAX = 65535
_ENTRY = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})")
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_ENDPOINTS = re.compile(rf"(?P<namespace>{_LABEL})/(?P<service>{_LABEL}):(?P<port>\d{{1,5}})")


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a member list."""

    host: str  # without brackets
    port: int
    dns: bool  # resolved again and again into all its addresses


@dataclass(frozen=True, slots=True)
class ServiceMember:
    """A Service of a cluster, one entry of a member list: all its endpoints, at `port`."""

    namespace: str
    service: str
    port: int

    @property
    def name(self) -> str:
        return f"{self.namespace}/{self.service}"


class Resolver(Protocol):
    async def resolve(self, name: str) -> frozenset[str]:
        """All IP addresses of `name`. Raises OSError."""


class SystemResolver:
    """The machine's resolver."""

    async def resolve(self, name: str) -> frozenset[str]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        return frozenset(str(sockaddr[0]) for *_, sockaddr in found)


class ServiceFeed(Protocol):
    """Follows the endpoints of Services."""

    def follow(
        self, member: ServiceMember, on_trouble: Callable[[str], None]
    ) -> AsyncGenerator[frozenset[str], None]:
        """The IP addresses of all endpoints, first as they are and then whenever they change. Goes
        on trying for as long as it is asked; `on_trouble` hears why there is no news. To be
        closed."""

    async def aclose(self) -> None: ...


def parse_members(flag: str, entries: Sequence[str]) -> tuple[Member | ServiceMember, ...]:
    """`entries` of `flag`, each "host:port", "dns://name:port" or
    "endpoints://namespace/service:port".

    Raises ConfigError with every malformed entry.
    """
    members: list[Member | ServiceMember] = []
    problems = []
    for entry in entries:
        member = _parsed(entry)
        if member is None or not 0 < member.port <= PORT_MAX:
            problems.append(
                f"{flag}: {entry!r} is neither host:port nor {DNS_SCHEME}name:port nor"
                f" {ENDPOINTS_SCHEME}namespace/service:port"
            )
        else:
            members.append(member)
    if problems:
        raise ConfigError(problems)
    return tuple(members)


def _parsed(entry: str) -> Member | ServiceMember | None:
    if entry.startswith(ENDPOINTS_SCHEME):
        match = _ENDPOINTS.fullmatch(entry.removeprefix(ENDPOINTS_SCHEME))
        return match and ServiceMember(match["namespace"], match["service"], int(match["port"]))
    match = _ENTRY.fullmatch(entry.removeprefix(DNS_SCHEME))
    dns = entry.startswith(DNS_SCHEME)
    return match and Member(match["host"].strip("[]"), int(match["port"]), dns)


def address_of(host: str, port: int) -> str:
    """ "host:port", with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
