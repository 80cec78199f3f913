"""Where workers are: a static list of addresses, and DNS names that stand for several.

Knows no workers: addresses come out, whoever listens there.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from baton.common.errors import ConfigError

DNS_SCHEME = "dns://"
PORT_MAX = 65535
_ENTRY = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a member list."""

    host: str  # without brackets
    port: int
    dns: bool  # resolved again and again into all its addresses


class Resolver(Protocol):
    async def resolve(self, name: str) -> frozenset[str]:
        """All IP addresses of `name`. Raises OSError."""


class SystemResolver:
    """The machine's resolver."""

    async def resolve(self, name: str) -> frozenset[str]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        return frozenset(str(sockaddr[0]) for *_, sockaddr in found)


def parse_members(flag: str, entries: Sequence[str]) -> tuple[Member, ...]:
    """`entries` of `flag`, each "host:port" or "dns://name:port".

    Raises ConfigError with every malformed entry.
    """
    members, problems = [], []
    for entry in entries:
        dns = entry.startswith(DNS_SCHEME)
        match = _ENTRY.fullmatch(entry.removeprefix(DNS_SCHEME))
        if match is None or not 0 < int(match["port"]) <= PORT_MAX:
            problems.append(f"{flag}: {entry!r} is neither host:port nor {DNS_SCHEME}name:port")
        else:
            members.append(Member(match["host"].strip("[]"), int(match["port"]), dns))
    if problems:
        raise ConfigError(problems)
    return tuple(members)


def address_of(host: str, port: int) -> str:
    """ "host:port", with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
